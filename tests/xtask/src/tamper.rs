//! What scenarios do to a guest from outside: a rootkit's work, in the paused guest's memory.

use std::collections::HashMap;
use std::sync::Mutex;

use panoptes_decoders::address::KernelVa;
use panoptes_rig::Guest;
use panoptes_rig::scenarios::HostAct;

use self::kernel::{From, GuestKernel, Hidden};

#[allow(clippy::unwrap_used, reason = "shared with tests, where a failure ends the test")]
#[path = "../../../engine/panoptes/tests/live/kernel.rs"]
mod kernel;

/// Where the hidden processes were, by QEMU's process id and their own.
type Places = HashMap<(u32, u32), Vec<Hidden>>;

static HIDDEN: Mutex<Option<Places>> = Mutex::new(None);

/// The function that changes a guest from outside.
pub(crate) const ACT: Option<HostAct> = Some(act);

/// Runs this same command with the engine. `None`, because this build has the engine.
pub(crate) const AGAIN: Option<fn() -> Result<(), String>> = None;

/// Runs one of these commands:
///
/// `hide PID FROM…`: removes a process from the data structures behind these views;
/// `show PID`: puts it back;
/// `flip PID BITS`: flips BITS (hexadecimal) in its flags (`PF_*`);
/// `postpone PID MILLISECONDS`: makes it begin so much later;
/// `patch ADDRESS BYTES`: writes bytes (hexadecimal) to the kernel's image, at an address;
/// `redirect FUNCTION CALLEE TARGET`: makes a call in a function lead elsewhere, by addresses;
/// `set ADDRESS VALUE`: sets a kernel variable of four bytes, at an address (hexadecimal) as
/// `/proc/kallsyms` has it.
fn act(guest: &mut Guest, what: &str) -> Result<(), String> {
    let mut words = what.split_whitespace();
    let (verb, object) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let rest: Vec<&str> = words.collect();
    // Finding the kernel takes a while, so the guest keeps running meanwhile.
    let mut kernel = GuestKernel::of(guest);
    guest.pause()?;
    guest.memory_is_patched();
    let done = change(&mut kernel, guest.qemu_pid(), verb, object, &rest);
    guest.resume()?;
    done
}

fn change(
    kernel: &mut GuestKernel,
    guest: u32,
    verb: &str,
    object: &str,
    rest: &[&str],
) -> Result<(), String> {
    if let ("set", [value]) = (verb, rest) {
        let address = address(object)?;
        let value = value.parse().map_err(|e| format!("{value:?}: {e}"))?;
        kernel.set(KernelVa(address), value);
        return Ok(());
    }
    if let ("patch", [bytes]) = (verb, rest) {
        kernel.patch(KernelVa(address(object)?), &bytes_of(bytes)?);
        return Ok(());
    }
    if let ("redirect", [callee, target]) = (verb, rest) {
        let is_done =
            kernel.redirect(KernelVa(address(object)?), address(callee)?, address(target)?);
        return is_done.then_some(()).ok_or_else(|| "there is no such call".to_owned());
    }
    let pid = object.parse().map_err(|e| format!("{object:?} is no process id: {e}"))?;
    let mut hidden = HIDDEN.lock().map_err(|e| e.to_string())?;
    let hidden = hidden.get_or_insert_default();
    match (verb, rest) {
        ("hide", [_, ..]) => {
            let views: Vec<From> = rest.iter().map(|name| view(name)).collect::<Result<_, _>>()?;
            let task = kernel.task(pid);
            let places = views.into_iter().map(|from| kernel.hide(&task, from));
            hidden.entry((guest, pid)).or_default().extend(places);
        }
        ("show", []) => {
            let places = hidden.remove(&(guest, pid)).unwrap_or_default();
            places.iter().rev().for_each(|place| kernel.show(place));
        }
        ("flip", [bits]) => {
            let bits = u32::from_str_radix(bits, 16).map_err(|e| format!("{bits:?}: {e}"))?;
            let task = kernel.task(pid);
            kernel.flip_flags(&task, bits);
        }
        ("postpone", [milliseconds]) => {
            let milliseconds: u64 =
                milliseconds.parse().map_err(|e| format!("{milliseconds:?}: {e}"))?;
            let task = kernel.task(pid);
            kernel.postpone(&task, milliseconds * 1_000_000);
        }
        _ => return Err(format!("unknown command: {verb} {}", rest.join(" "))),
    }
    Ok(())
}

fn address(digits: &str) -> Result<u64, String> {
    u64::from_str_radix(digits, 16).map_err(|e| format!("{digits:?}: {e}"))
}

/// Bytes of two hexadecimal digits each.
fn bytes_of(digits: &str) -> Result<Vec<u8>, String> {
    let starts = (0..digits.len()).step_by(2);
    let bytes = starts.map(|at| digits.get(at..at + 2).ok_or("a digit is missing"));
    bytes.map(|pair| u8::from_str_radix(pair?, 16).map_err(|e| e.to_string())).collect()
}

fn view(name: &str) -> Result<From, String> {
    Ok(match name {
        "task-list" => From::TaskList,
        "idr" => From::Idr,
        "pid" => From::Pids(0),
        "tgid" => From::Pids(1),
        "process-group" => From::Pids(2),
        "session" => From::Pids(3),
        "thread-group" => From::ThreadGroup,
        "children" => From::Children,
        "control-group" => From::ControlGroup,
        name => return Err(format!("there is no view {name:?}")),
    })
}
