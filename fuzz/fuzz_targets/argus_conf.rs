//! `argus.conf` of `panoptes flow`: each line is read, or is a mistake or a warning of one line.
#![cfg_attr(fuzzing, no_main)]

use panoptes::argus_conf_remarks;
use panoptes_fuzz::fuzz_target;

/// Whether reading a line asks no resolver: names of hosts are looked up, which takes seconds.
fn has_no_host(line: &str) -> bool {
    let Some((name, value)) = line.split_once('=') else { return true };
    let has_end = !value.contains(['/', '\\']);
    if name.contains("MONITOR_ID") {
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
        return has_end && (is_number || value.starts_with('"'));
    }
    has_end || !["INTERFACE", "OUTPUT_"].iter().any(|one| name.contains(one))
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let kept: Vec<_> = text.lines().filter(|line| has_no_host(line)).collect();
    let text = kept.join("\n");
    let remarks = argus_conf_remarks(&text);
    assert!(remarks.len() <= kept.len(), "at most one for each line");
    for (line, remark) in &remarks {
        assert!((1..=kept.len()).contains(line), "{line}: {remark}");
        assert!(!remark.is_empty());
    }
});
