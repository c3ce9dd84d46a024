//! Stands in for `tamper` where xtask is built without the engine: starts xtask again, with it.

use panoptes_rig::scenarios::HostAct;

/// What changes a guest from outside; not here.
pub(crate) const ACT: Option<HostAct> = None;

/// Runs this same command with the engine.
pub(crate) const AGAIN: Option<fn() -> Result<(), String>> = Some(again);

fn again() -> Result<(), String> {
    let run = ["run", "--quiet", "--package", "xtask", "--features", "tamper", "--"];
    let mut command = crate::cargo::command();
    let status = command.args(run).args(std::env::args_os().skip(1)).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        // It has printed why.
        Ok(_) => Err(String::new()),
        Err(error) => Err(format!("cannot start cargo: {error}")),
    }
}
