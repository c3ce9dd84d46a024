//! Tests wait with a bound.
//!
//! The other side of a wait may never come: a machine has no such address, or the program that is
//! tested hangs. A wait without a bound then holds up the whole run.

use super::code::{code_of_tests, is_word};
use super::{assert_list, sources};

/// Calls that may never return, and the function of `panoptes-bounded` to use instead.
const CALLS: &[(&str, &str)] = &[
    (".accept()", "accept"),
    (".incoming()", "incoming"),
    (".output()", "output"),
    (".recv()", "recv"),
    (".status()", "status"),
    (".wait()", "wait"),
    (".wait_with_output()", "wait_with_output"),
    ("Child::wait", "wait"),
    ("Child::wait_with_output", "wait_with_output"),
    ("Command::output", "output"),
    ("Command::status", "status"),
    ("TcpStream::connect", "connect"),
    ("UnixStream::connect", "connect_unix"),
];
/// Calls that receive a datagram. The socket has a bound of its own.
const DATAGRAMS: &[&str] = &[".recv(&mut", ".recv_from("];
/// What gives a socket its bound.
const BOUNDS: &[&str] = &[".set_nonblocking(true)", ".set_read_timeout(Some("];

/// Calls that have no bound. The list may only shrink.
const EXCEPTIONS: &[&str] = &[
    // Filters of these threads refuse what a bound needs, and this process listens itself.
    "engine/panoptes/src/sandbox/tests.rs: TcpStream::connect",
    "engine/panoptes/src/sandbox/tests.rs: TcpStream::connect",
    // A process that is killed with the campaign that started it.
    "tests/delivery/src/receive.rs: .accept()",
    "tests/rig/src/packages.rs: .wait()", // of a child whose pipe nobody reads any more
    "tests/xtask/needs/src/install.rs: .output()", // it uses no other crate, and apt may take long
    "tests/xtask/needs/src/main.rs: .wait()", // the same for the build of xtask
    "tests/xtask/needs/src/skip.rs: .output()", // of a program that ends at once
    "tests/xtask/src/cargo.rs: .status()", // a build may last for hours
    "tests/xtask/src/cargo.rs: .wait()",
    "tests/xtask/src/demo.rs: .wait()", // of a child that was killed, as the next ones
    "tests/xtask/src/live.rs: .wait()",
    "tests/xtask/src/silence.rs: .wait()",
];

#[test]
fn waits_of_tests_have_bounds() {
    let mut found = Vec::new();
    let mut tests = 0;
    for (path, text) in sources() {
        // The functions to use are there.
        if path.starts_with("tests/bounded/") {
            continue;
        }
        let code = code_of_tests(&path, &text);
        tests += usize::from(code.contains("#[test]"));
        found.extend(bare_calls(&code).into_iter().map(|call| (path.clone(), call)));
    }
    assert!(tests > 200, "too few files with tests: {tests}");
    let mut listed = EXCEPTIONS.to_vec();
    let mut wrong = Vec::new();
    for (path, (line, call, instead)) in &found {
        let entry = format!("{path}: {call}");
        match listed.iter().position(|listed| *listed == entry) {
            Some(at) => _ = listed.remove(at),
            None => wrong.push(format!("{path}:{line}: {call} may never return; use {instead}")),
        }
    }
    assert!(wrong.is_empty(), "waits without a bound:\n{}", wrong.join("\n"));
    let mut found: Vec<_> =
        found.iter().map(|(path, (_, call, _))| format!("{path}: {call}")).collect();
    found.sort();
    assert_list("waits without a bound", &found, EXCEPTIONS);
}

/// The calls without a bound in their order: line, call, and what to use instead.
fn bare_calls(code: &str) -> Vec<(usize, &'static str, String)> {
    let mut found = Vec::new();
    for (call, instead) in CALLS {
        let calls = code.match_indices(call).filter(|(at, _)| is_bare(code, *at, call));
        found.extend(calls.map(|(at, _)| (at, *call, format!("`panoptes_bounded::{instead}`"))));
    }
    if !BOUNDS.iter().any(|bound| code.contains(bound)) {
        for call in DATAGRAMS {
            let instead = |at| (at, *call, "`set_read_timeout`, too".to_owned());
            found.extend(code.match_indices(call).map(|(at, _)| instead(at)));
        }
    }
    found.sort();
    let line = |at| code[..at].matches('\n').count() + 1;
    found.into_iter().map(|(at, call, instead)| (line(at), call, instead)).collect()
}

/// Whether a call is a whole word, and no wait at a barrier, whose other threads are of the test.
fn is_bare(code: &str, at: usize, call: &str) -> bool {
    let (before, after) = (&code[..at], code.as_bytes().get(at + call.len()));
    let is_part = |byte: Option<&u8>| byte.is_some_and(|&byte| is_word(byte));
    let is_whole = call.starts_with('.') || !is_part(before.as_bytes().last()) && !is_part(after);
    is_whole && !(call == ".wait()" && before.ends_with("barrier"))
}

#[test]
fn each_kind_of_wait_is_found() {
    for (call, _) in CALLS {
        let code = if call.starts_with('.') { format!("x{call}") } else { format!("{call}(x)") };
        let found = bare_calls(&format!("fn a() {{\n    {code};\n}}"));
        assert_eq!(found.len(), 1, "{code}: {found:?}");
        assert_eq!((found[0].0, found[0].1), (2, *call));
    }
    for call in DATAGRAMS {
        let code = format!("x{call} y)");
        assert_eq!(bare_calls(&code).len(), 1, "{code}");
        assert!(bare_calls(&format!("x.set_read_timeout(Some(y)); {code}")).is_empty());
    }
    let chain = "Command::new(a)\n    .arg(b)\n    .output()\n    .unwrap()";
    assert_eq!(bare_calls(chain)[0].0, 3);
}

#[test]
fn other_calls_are_no_waits_for_another_side() {
    for code in [
        "bounded::accept(&listener)",
        "bounded::wait(&mut child)",
        "barrier.wait()",
        "changed.wait(guard)",
        "service.wait(activity, 2)",
        "TcpStream::connect_timeout(&address, time)",
        "receiver.recv_timeout(time)",
        "response.status",
    ] {
        assert_eq!(bare_calls(code), [], "{code}");
    }
}
