//! Records and lines of the integrity of a kernel's code.

use std::sync::Arc;

use super::exceptions::all;
use super::*;
use crate::container_config::Glob;
use crate::kernel_code::{
    Check, CheckFacts, CodeNames, ConfirmedViolation, Owner, RoundFacts, SymbolText, Violation,
};
use crate::policy::exceptions::{Exception, Exceptions};
use crate::policy::lines::ScanKind;
use crate::time::Monotonic;

const PLACE: KernelVa = KernelVa(0xffff_ffff_8123_4570);
const TARGET: KernelVa = KernelVa(0xffff_ffff_c0a1_b000);

fn violation(check: Check, owner: Owner) -> Violation {
    Violation { owner, ..Violation::new(check, PLACE, TARGET) }
}

/// A hook of a function, by the code of a listed module.
fn hook_of_module() -> Violation {
    let function = KernelVa(PLACE.0 - 0x10);
    let owner = Owner::Module(KernelVa(7));
    Violation { function, ..violation(Check::FtraceHandlers, owner) }
}

fn names(function: &str) -> CodeNames {
    CodeNames {
        place: SymbolText::from("filldir64+0x10").unwrap(),
        function: SymbolText::from(function).unwrap(),
        module: "watcher".try_into().unwrap(),
        ..CodeNames::default()
    }
}

/// The records of a violation that two rounds have seen, 5 s ago for the first time.
fn records(reader: &mut Reader, violation: Violation, names: &CodeNames) -> Vec<Value> {
    reader.now = Now::at(60_000_000_000);
    let first_seen = Monotonic::from_ns(55_000_000_000);
    let confirmed = ConfirmedViolation::seen(violation, first_seen, 2);
    let cx = reader.state.scan_context(&reader.snapshot, reader.now);
    let accepted = reader.policy.reporter(&mut reader.producer).kernel_code(&cx, &confirmed, names);
    assert_eq!(accepted, crate::detect::Acceptance::Yes);
    reader.producer.flush();
    records_of(&mut reader.consumer)
}

#[test]
fn code_that_nobody_owns_raises_an_alert_with_all_that_is_known() {
    let mut reader = Reader::new(&limits());
    let mut changed = violation(Check::KernelText, Owner::Nobody);
    changed.label.push_str("a call");
    changed.before.extend([0xe8, 0x12]);
    changed.after.extend([0xe8, 0x34]);
    let names = CodeNames { module: <_>::default(), ..names("") };
    let found = records(&mut reader, changed, &names);
    assert_eq!(super::names(&found), ["kernel_text_modified"]);
    let (record, detection) = (&found[0], &found[0]["detection"]);
    assert_eq!((&record["message_type"], &record["severity"]), (&json!("ALERT"), &json!("HIGH")));
    assert_eq!(detection["mitre_attack"], json!(["T1014"]));
    assert_eq!(detection["confidence"], "high");
    assert_eq!(detection["scans_confirmed"], 2);
    let since = "1970-01-01T00:00:55.000000000+00:00";
    assert_eq!(detection["first_seen"], since);
    let expected = json!({
        "kernel_code_check": "kernel_text",
        "kernel_code_address": "0xffffffff81234570",
        "kernel_code_symbol": "filldir64+0x10",
        "kernel_code_label": "a call",
        "kernel_code_target": "0xffffffffc0a1b000",
        "kernel_code_owner": "nobody",
        "kernel_code_bytes_before": "e812",
        "kernel_code_bytes_after": "e834",
        "kernel_code_first_seen": since,
        "kernel_code_advice": "Take a dump of the machine before it reboots, and compare the bytes \
                               with those of the kernel's package.",
    });
    assert_eq!(*details(record, "kernel_code_details"), expected);
}

#[test]
fn each_kind_of_violation_has_its_activity() {
    let mut reader = Reader::new(&limits());
    for (check, activity) in [
        (Check::Timers, "kernel_hook_detected"),
        (Check::ExecutablePages, "kernel_code_without_owner"),
        (Check::ReadOnlyData, "kernel_text_modified"),
    ] {
        let found = records(&mut reader, violation(check, Owner::Nobody), &CodeNames::default());
        assert_eq!(super::names(&found), [activity]);
    }
}

#[test]
fn a_hook_of_a_listed_module_is_an_alert_if_the_function_shows_what_there_is() {
    let mut reader = Reader::new(&limits());
    let found = records(&mut reader, hook_of_module(), &names("filldir64"));
    assert_eq!(super::names(&found), ["kernel_hook_detected"]);
    assert_eq!(found[0]["detection"]["mitre_attack"], json!(["T1014", "T1547.006"]));
    assert_eq!(found[0]["detection"]["confidence"], "medium");
    let details = details(&found[0], "kernel_code_details");
    assert_eq!(details["kernel_code_owner"], "module");
    assert_eq!(details["kernel_module_name"], "watcher");
    assert_eq!(details["kernel_code_function"], "filldir64");
    assert_eq!(details["kernel_code_listing"], "files");
    assert_eq!(details["kernel_code_function_address"], "0xffffffff81234560");
    assert!(records(&mut reader, hook_of_module(), &names("ip_rcv")).is_empty());
}

#[test]
fn an_exception_names_the_module_that_hooks() {
    let mut reader = Reader::new(&limits());
    let activity = Activity::KernelHookDetected;
    let kernel_module_name = Some(Glob::new("watch*"));
    let exception = Exception { kernel_module_name, ..all(activity) };
    reader.policy.set_exceptions(Arc::new(Exceptions::new([exception])));
    assert!(records(&mut reader, hook_of_module(), &names("filldir64")).is_empty());
    let other = CodeNames { module: "another".try_into().unwrap(), ..names("filldir64") };
    assert_eq!(records(&mut reader, hook_of_module(), &other).len(), 1);
    // What nobody owns has no name.
    let nobody = CodeNames { module: <_>::default(), ..names("filldir64") };
    let hook = violation(Check::Kprobes, Owner::Nobody);
    assert_eq!(records(&mut reader, hook, &nobody).len(), 1);
}

#[test]
fn a_violation_that_comes_again_is_counted() {
    let mut reader = Reader::new(&limits());
    for _ in 0..20 {
        records(&mut reader, hook_of_module(), &names("filldir64"));
    }
    assert!(records(&mut reader, hook_of_module(), &names("filldir64")).is_empty());
    // Another function is another matter.
    let function = KernelVa(PLACE.0 - 0x20);
    let other = Violation { function, ..hook_of_module() };
    assert_eq!(records(&mut reader, other, &names("tcp4_seq_show")).len(), 1);
}

#[test]
fn a_coverage_report_has_the_checks_of_the_last_round() {
    let mut reader = Reader::new(&limits());
    let holds = CheckFacts { places: 3, ..CheckFacts::default() };
    let violated = CheckFacts { violations: 1, ..holds };
    let shown = [(Check::Kprobes, holds), (Check::Timers, holds), (Check::LsmHooks, violated)];
    let of = |reader: &mut Reader| {
        let coverage = reader.policy.reporter(&mut reader.producer).coverage(None);
        [coverage.checks_holding, coverage.checks_violated, coverage.checks_not_made]
    };
    assert_eq!(of(&mut reader), [None; 3]);
    reader.policy.note_round(&RoundFacts::with(&shown));
    let not_made = Check::ALL.len() as u32 - 3;
    assert_eq!(of(&mut reader), [2, 1, not_made].map(Some));
}

/// The lines of a round, which must be valid.
fn lines_of(round: &RoundFacts, violations: &[Violation]) -> Vec<Value> {
    let seen = |violation: &Violation| {
        ConfirmedViolation::seen(violation.clone(), Monotonic::default(), 1)
    };
    let violations: Vec<_> = violations.iter().map(seen).collect();
    let mut lines = Vec::new();
    let mut writer = LineWriter::new(&limits());
    let mut of_hook = |_: &Violation| names("filldir64");
    let written =
        writer.write_integrity::<()>(round, violations.iter(), &mut of_hook, &mut |line| {
            let line: Value = serde_json::from_slice(line).unwrap();
            assert!(LINES.is_valid(&line), "{line}");
            lines.push(line);
            Ok(())
        });
    assert_eq!(written.unwrap().lines, lines.len() as u64);
    lines
}

#[test]
fn each_check_has_a_line_and_then_each_violation() {
    let holds = CheckFacts { places: 5, ..CheckFacts::default() };
    let partly = CheckFacts { not_checked: Some("no symbol net_namespace_list"), ..holds };
    let violated = CheckFacts { places: 9, violations: 1, ..CheckFacts::default() };
    let round = RoundFacts::with(&[
        (Check::Kprobes, holds),
        (Check::NetfilterHooks, partly),
        (Check::Timers, violated),
        (Check::FtraceHandlers, holds),
    ]);
    let found = [violation(Check::Timers, Owner::Nobody), hook_of_module()];
    let lines = lines_of(&round, &found);
    assert_eq!(lines.len(), Check::ALL.len() + 2);
    // Nothing has confirmed what the facts count of this one.
    let unconfirmed = &lines_of(&round, &found[1..])[Check::Timers as usize];
    assert_eq!(
        (&unconfirmed["verdict"], &unconfirmed["violations"]),
        (&json!("not_checked"), &json!(1))
    );
    let of_check = |check: Check| {
        let line = &lines[check as usize];
        assert_eq!(
            (&line["kind"], &line["check"]),
            (&json!("integrity_check"), &json!(check.name()))
        );
        line
    };
    let expected = json!({
        "kind": "integrity_check", "check": "kprobes", "verdict": "holds",
        "places": 5, "violations": 0, "unread": 0,
    });
    assert_eq!(*of_check(Check::Kprobes), expected);
    assert_eq!(of_check(Check::Timers)["verdict"], "violated");
    // The facts count no hooks of modules.
    let hooked = of_check(Check::FtraceHandlers);
    assert_eq!((&hooked["verdict"], &hooked["violations"]), (&json!("violated"), &json!(1)));
    let partly = of_check(Check::NetfilterHooks);
    assert_eq!(partly["verdict"], "not_checked");
    assert_eq!(partly["reason"], "no symbol net_namespace_list");
    let never = of_check(Check::KernelText);
    assert_eq!((&never["verdict"], &never["places"]), (&json!("not_checked"), &json!(0)));
    let violations = &lines[Check::ALL.len()..];
    assert!(violations.iter().all(|line| line["kind"] == "integrity_violation"));
    assert_eq!(violations[0]["kernel_code_check"], "timers");
    assert_eq!(violations[1]["kernel_code_function"], "filldir64");
    // Two scans can be compared.
    assert!(violations.iter().all(|line| line["kernel_code_first_seen"].is_null()));
}

#[test]
fn a_snapshot_alone_has_no_lines_of_checks() {
    let kinds = [ScanKind::Integrity].into_iter().collect();
    let mut writer = LineWriter::new(&limits());
    let snapshot = Snapshot::empty(&limits());
    let counts = writer.write::<()>(&snapshot, kinds, &Traits::default(), &mut |_| Err(()));
    assert_eq!(counts.unwrap().lines, 0);
}
