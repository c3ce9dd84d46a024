//! Tests of the comparison itself: it must detect every kind of error.

use super::*;

const GUEST: &str = concat!(
    r#"{"kind":"_guest","_boot_to_real_ns":1000000000,"#,
    r#""_ticks_per_second":100,"_agent_process_ids":[9]}"#,
);
const BASH: &str = concat!(
    r#"{"kind":"process","process_id":5,"process_name":"bash","#,
    r#""_start_ticks":200,"process_state":"S (sleeping)"}"#,
);
const SEEN: &str = concat!(
    r#"{"kind":"process","process_id":5,"process_name":"bash","#,
    r#""process_creation_time_iso_8601_ns":"1970-01-01T00:00:03.004000000+00:00","#,
    r#""process_state":"S (sleeping)","process_more":1}"#,
);

fn truth(lines: &[&str]) -> Truth {
    let mut all = vec![GUEST];
    all.extend(lines);
    Truth::parse(&all).unwrap()
}

fn check(truth_lines: &[&str], scan: &[&str]) -> Report {
    let truth = truth(truth_lines);
    compare(&truth, &truth, scan).unwrap()
}

#[test]
fn a_true_scan_is_exact() {
    let report = check(&[BASH], &[SEEN]);
    assert!(report.is_exact(), "{report}");
    assert_eq!(report.kind("process"), KindReport { truth: 1, found: 1, ..KindReport::default() });
}

#[test]
fn what_is_missing_is_named() {
    let report = check(&[BASH], &[]);
    assert_eq!(report.kind("process").missing, 1);
    assert!(report.differences[0].starts_with("missing process 5"), "{report}");
    assert!(report.differing.contains("process 5"), "{report}");
}

#[test]
fn what_is_not_there_is_named_also_when_it_is_a_second_copy() {
    let ghost = SEEN.replace(":5,", ":6,");
    assert_eq!(check(&[BASH], &[SEEN, &ghost]).kind("process").extra, 1);
    assert_eq!(check(&[BASH], &[SEEN, SEEN]).kind("process").extra, 1);
}

#[test]
fn a_wrong_or_absent_attribute_is_a_difference() {
    let wrong = SEEN.replace("S (sleeping)", "R (running)");
    assert_eq!(check(&[BASH], &[&wrong]).kind("process").differing, 1);
    let absent = SEEN.replace("process_state", "process_fate");
    assert_eq!(check(&[BASH], &[&absent]).kind("process").differing, 1);
}

#[test]
fn a_module_that_only_one_side_has_is_a_difference() {
    let module = concat!(
        r#"{"kind":"kernel_module","kernel_module_name":"dummy","#,
        r#""kernel_module_size":16384}"#,
    );
    let hidden = module.replace("dummy", "other");
    let is_only_in_sys = module.replace("16384", "16384,\"kernel_module_is_not_in_proc\":true");
    assert!(check(&[module], &[module]).is_exact());
    assert_eq!(check(&[module], &[]).kind("kernel_module").missing, 1);
    assert_eq!(check(&[module], &[module, &hidden]).kind("kernel_module").extra, 1);
    assert_eq!(check(&[&is_only_in_sys], &[module]).kind("kernel_module").differing, 1);
}

#[test]
fn an_attribute_that_is_null_must_be_absent() {
    let without = BASH.replace("\"process_state\"", "\"process_more\":null,\"process_state\"");
    assert_eq!(check(&[&without], &[SEEN]).kind("process").differing, 1);
    let absent = SEEN.replace(",\"process_more\":1", "");
    assert!(check(&[&without], &[&absent]).is_exact());
}

#[test]
fn a_thread_of_the_kernel_may_run_during_the_scan() {
    let running = SEEN.replace("S (sleeping)", "R (running)");
    assert_eq!(check(&[BASH], &[&running]).kind("process").differing, 1);
    let kernel = BASH.replace("\"process_state\"", "\"_kernel\":true,\"process_state\"");
    assert!(check(&[&kernel], &[&running]).is_exact());
    let stopped = SEEN.replace("S (sleeping)", "T (stopped)");
    assert_eq!(check(&[&kernel], &[&stopped]).kind("process").differing, 1);
}

#[test]
fn a_start_outside_its_tick_is_a_difference() {
    let late = SEEN.replace("03.004", "03.014");
    assert_eq!(check(&[BASH], &[&late]).kind("process").differing, 1);
}

#[test]
fn what_changed_between_the_truths_is_not_compared() {
    let before = truth(&[BASH, r#"{"kind":"process","process_id":7,"_start_ticks":1}"#]);
    let after = truth(&[&BASH.replace("S (sleeping)", "R (running)")]);
    let report = compare(&before, &after, &[SEEN]).unwrap();
    assert!(report.is_exact(), "{report}");
    assert_eq!(report.kind("process").unsettled, 1);
}

#[test]
fn the_agent_and_kworkers_are_left_out_on_both_sides() {
    let kworker = r#"{"kind":"process","process_id":8,"process_name":"kworker/0:1-eve"}"#;
    let thread = r#"{"kind":"thread","process_id":8,"thread_id":8}"#;
    let agent = r#"{"kind":"process","process_id":9,"process_name":"agent"}"#;
    let report = check(&[BASH, kworker], &[SEEN, thread, agent]);
    assert!(report.is_exact(), "{report}");
    assert_eq!(report.kworkers, 1);
}

#[test]
fn cut_strings_match_only_where_the_scan_is_truncated() {
    let long = BASH.replace("\"bash\"", "\"bash-with-more\"");
    assert_eq!(check(&[&long], &[SEEN]).kind("process").differing, 1);
    let cut = SEEN.replace("\"process_more\":1", "\"truncated\":true");
    assert!(check(&[&long], &[&cut]).is_exact());
}

#[test]
fn threads_with_their_own_tables_are_distinguished() {
    let table = |tid: u32, name: &str| {
        format!(
            "{{\"kind\":\"file_descriptor\",\"process_id\":5,\"file_descriptor_index\":0,\
             \"file_descriptor_name\":\"{name}\",\"file_descriptor_thread_id_array\":[{tid}]}}"
        )
    };
    let (first, second) = (table(5, "/dev/null"), table(6, "/dev/zero"));
    assert!(check(&[&first, &second], &[&second, &first]).is_exact());
    assert_eq!(check(&[&first, &second], &[&first]).kind("file_descriptor").missing, 1);
}
