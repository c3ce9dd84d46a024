//! `panoptes profile verify`: checks a profile against a machine's memory.

use std::ffi::OsStr;
use std::fmt::Write as _;

use panoptes_engine::system::AttachError;
use panoptes_profiles::import::TypePreference;
use panoptes_profiles::report::{CandidateRefusal, CheckOutcome, DiscoveryAttempt, ProfileCheck};
use panoptes_profiles::{DiscoveryError, DiscoveryOptions, ProfileFile};
use serde_json::{Value, json};

use super::source::{kernel_in, profile_of};
use crate::exit::{Exit, Failure, print};
use crate::message::Messages;
use crate::system_argument::address;

/// Checks a profile against a system's memory and prints the result of each check. If the profile
/// does not fit, the exit code is 65.
pub(super) fn verify(
    profile: &OsStr,
    system: &OsStr,
    as_json: bool,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let (profile, system) = (address(profile)?, address(system)?);
    let file = profile_of(&profile, TypePreference::default(), messages)?;
    let files = std::slice::from_ref(&file);
    let options = DiscoveryOptions { files, generate: false, ..DiscoveryOptions::default() };
    let (system, found) = kernel_in(&system, &options, messages)?;
    let (checks, reasons) = match &found {
        Ok(profile) => (profile.checks.as_slice(), Vec::new()),
        Err(AttachError::NoKernel(error)) => (checks_of(error), reasons(error, &file)),
        Err(error) => (&[][..], vec![error.to_string()]),
    };
    let fits = found.is_ok();
    let text = if as_json {
        let checks: Vec<Value> = checks.iter().map(check_json).collect();
        let answer = json!({
            "fits": fits,
            "release": file.release,
            "build_id": file.build_id,
            "checks": checks,
            "reasons": reasons,
        });
        format!("{answer}\n")
    } else {
        let mut text = String::new();
        for check in checks {
            let _ = writeln!(text, "{check}");
        }
        for reason in &reasons {
            let _ = writeln!(text, "{reason}");
        }
        let fits = if fits { "fits" } else { "does not fit" };
        let _ = writeln!(text, "the profile of Linux {} {fits} {}", file.release, system.name);
        text
    };
    print(text.as_bytes())?;
    Ok(if fits { Exit::Done } else { Exit::NoKernel })
}

/// The checks that were made before the profile was refused.
fn checks_of(error: &DiscoveryError) -> &[ProfileCheck] {
    let made = error.attempts().named.iter().find_map(|attempt| match &attempt.refusal {
        CandidateRefusal::Verification(checks) => Some(checks.as_slice()),
        _ => None,
    });
    made.unwrap_or(&[])
}

/// The reasons for the refusal that are no failed checks.
fn reasons(error: &DiscoveryError, file: &ProfileFile) -> Vec<String> {
    let attempts = error.attempts();
    if attempts.named.is_empty() {
        return vec!["no Linux kernel was found in this memory".to_owned()];
    }
    attempts.named.iter().filter_map(|attempt| reason(attempt, file)).collect()
}

fn reason(attempt: &DiscoveryAttempt, file: &ProfileFile) -> Option<String> {
    match &attempt.refusal {
        CandidateRefusal::Verification(_) => None,
        CandidateRefusal::NotGenerated { .. } if attempt.release != file.release => Some(format!(
            "this memory has Linux {}, the profile is for Linux {}",
            attempt.release, file.release
        )),
        CandidateRefusal::NotGenerated { build_id: Some(found), .. } => Some(format!(
            "Linux {} in this memory has build id {found}, the profile is for {}",
            attempt.release, file.build_id
        )),
        _ => Some(attempt.to_string()),
    }
}

fn check_json(check: &ProfileCheck) -> Value {
    let (outcome, reason) = match &check.outcome {
        CheckOutcome::Passed => ("passed", None),
        CheckOutcome::Failed(how) => ("failed", Some(how.as_str())),
        CheckOutcome::Unread(how) => ("not_in_memory", Some(how.as_str())),
        CheckOutcome::Undecided(how) => ("undecided", Some(how.as_str())),
        CheckOutcome::Skipped(why) => ("skipped", Some(*why)),
    };
    json!({"name": check.name, "outcome": outcome, "reason": reason})
}
