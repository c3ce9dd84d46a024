//! Replaces `tamper` where xtask is built without the engine: starts xtask again, with the engine.

use panoptes_rig::scenarios::HostAct;

/// The function that changes a guest from outside; missing in this build.
pub(crate) const ACT: Option<HostAct> = None;

/// Runs this same command with the engine.
pub(crate) const AGAIN: Option<fn() -> Result<(), String>> = Some(again);

fn again() -> Result<(), String> {
    let run = ["run", "--quiet", "--package", "xtask", "--features", "tamper", "--"];
    let mut command = crate::cargo::command();
    let status = command.args(run).args(std::env::args_os().skip(1)).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        // The second xtask has already printed the reason.
        Ok(_) => Err(String::new()),
        Err(error) => Err(format!("cannot start cargo: {error}")),
    }
}
