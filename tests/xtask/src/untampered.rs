//! Replaces `tamper` where xtask is built without the engine: starts xtask again, with the engine.

use panoptes_rig::scenarios::HostAct;

/// The function that changes a guest from outside; missing in this build.
pub(crate) const ACT: Option<HostAct> = None;

/// Runs this same command with the engine.
pub(crate) const AGAIN: Option<fn() -> Result<(), String>> = Some(again);

fn again() -> Result<(), String> {
    let run = ["run", "--quiet", "--package", "xtask", "--features", "tamper", "--"];
    let mut command = crate::cargo::command();
    let succeeds = crate::cargo::succeeds(command.args(run).args(std::env::args_os().skip(1)))?;
    // The second xtask has already printed the reason.
    succeeds.then_some(()).ok_or_else(String::new)
}
