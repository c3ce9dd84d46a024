//! Tests reserve a port where nobody listens.
//!
//! The port of a listener that is gone may be anybody's a moment later: another test's, or that of
//! the client that connects to it. `Port` of `panoptes-bounded` reserves one.

use super::code::code_of_tests;
use super::sources;

#[test]
fn tests_use_no_port_of_a_listener_that_is_gone() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        wrong.extend(lost_ports(&code_of_tests(&path, &text)).map(|line| format!("{path}:{line}")));
    }
    assert!(wrong.is_empty(), "use `panoptes_bounded::Port::reserve`:\n{}", wrong.join("\n"));
}

/// The lines of expressions that bind a socket for its address alone.
fn lost_ports(code: &str) -> impl Iterator<Item = usize> {
    code.match_indices("TcpListener::bind(").filter_map(|(at, _)| {
        let rest = &code[at..];
        let end = rest.find([';', '{', '}']).unwrap_or(rest.len());
        rest[..end].contains(".local_addr()").then(|| code[..at].matches('\n').count() + 1)
    })
}

#[test]
fn ports_of_lost_listeners_are_found() {
    let lost = "\nlet a = TcpListener::bind(b)\n    .unwrap().local_addr().unwrap();";
    assert_eq!(lost_ports(lost).collect::<Vec<_>>(), [2]);
    let kept = "let a = TcpListener::bind(b).unwrap(); let b = a.local_addr().unwrap();";
    assert_eq!(lost_ports(kept).count(), 0);
}
