//! `flows`: what is refused and where.

use super::*;

#[test]
fn mistakes_of_flows_have_their_places() {
    let wrong = "is no interface; write a name, or several such as dup:en0,en1";
    check(
        "auto_scan: false\nflows:\n  interfaces: [lo, 'xdp:lo', 'a:b']\n  sequence: 31\n",
        &[
            "3:20: `flows.interfaces`: `xdp:lo` takes packets away from this machine; start \
             `panoptes flow` for that",
            &format!("3:30: `flows.interfaces`: `a:b` {wrong}"),
            "4:13: `flows.sequence` is 31; it must be from 1 to 30",
        ],
    );
    check(
        "flows: {interfaces: [lo], aplication: [dns]}",
        &["1:27: unknown key `aplication` in `flows`; did you mean `application`?"],
    );
    let words = <FlowApplication as crate::config::value::Setting>::form();
    check(
        "flows: {interfaces: [lo], application: [dnz]}",
        &[&format!("1:41: `flows.application`: `dnz` is not one of {words}")],
    );
    check(
        "flows: {interfaces: [lo], filter: tcp prot 80}",
        &["1:35: `flows.filter`: `tcp prot 80` is no filter of packets: can't parse filter \
           expression: syntax error"],
    );
    check(
        "flows: {interfaces: [lo], threads: 17}",
        &["1:36: `flows.threads` is 17; it must be from 1 to 16"],
    );
    check(
        "flows: {interfaces: [lo, 'udp:127.0.0.1:4789'], threads: 2}",
        &["1:58: `flows.threads`: a port of mirrors is for one thread alone; write 1"],
    );
    check(
        "flows: lo",
        &["1:8: `flows` must be a mapping of keys to values, not a single value; \
                          write \
                          {interfaces: [lo]}"],
    );
}

#[test]
fn interfaces_of_flows_have_names_groups_and_ids() {
    for text in [
        "lo",
        "any",
        "all",
        "en0.7",
        "br-0a1b/7",
        "dup:en0,en1/10.0.0.7",
        "bond:a,b",
        "udp:0.0.0.0:4789",
        "vxlan:[::]/7",
        "dup:geneve:10.0.0.1,gre:10.0.0.1",
    ] {
        let configuration = good(&format!("flows: {{interfaces: ['{text}']}}"));
        assert_eq!(configuration.flows.interfaces, [FlowInterfaces(text.to_owned())]);
    }
    for text in
        ["lo/", "/7", "a b", "en0,en1", "dup:", "dup:en0,", "ind:a,b", "sixteen-letters-", "."]
    {
        let (_, problems) = read_file(&format!("flows: {{interfaces: ['{text}']}}"));
        let message = format!("`flows.interfaces`: `{text}` is no interface; ");
        assert!(problems[0].message.starts_with(&message), "{text}: {problems:?}");
    }
    for text in ["udp:10.0.0.1", "dup:en0,vxlan:host"] {
        let (_, problems) = read_file(&format!("flows: {{interfaces: ['{text}']}}"));
        let message = format!("`flows.interfaces`: `{text}` has no address and port of this ");
        assert!(problems[0].message.starts_with(&message), "{text}: {problems:?}");
    }
}

#[test]
fn the_system_of_flows_is_one_that_is_watched() {
    let systems = "auto_scan: false\nsystems: {web-1: {system: /a}}\n";
    let flows = |system: &str| format!("flows: {{interfaces: [lo], system: {system}}}");
    good(&format!("{systems}{}", flows("web-1")));
    check(
        &format!("{systems}{}", flows("web1")),
        &["3:35: `flows.system`: `web1` is none of `systems`; did you mean `web-1`?"],
    );
    check(
        &format!("auto_scan: false\n{}", flows("web")),
        &["2:35: `flows.system`: `web` is none of `systems`, which is empty"],
    );
    // A guest may have that name.
    good(&flows("web1"));
}

#[test]
fn a_service_may_have_flows_and_nothing_else() {
    let configuration = good("auto_scan: false\nflows: {interfaces: [en0, 'dup:en1,en2/7']}");
    assert!(configuration.flows.are_wanted());
    let nothing = format!("1:12: {NOTHING_TO_WATCH}");
    check("auto_scan: false\nflows: {interfaces: []}", &[&nothing]);
}

#[test]
fn keys_of_flows_without_interfaces_are_worth_a_warning() {
    let (_, problems) = read_file("flows: {filter: udp}");
    let warnings: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let expected = "without `flows.interfaces`, nothing of this section has an effect";
    assert_eq!(warnings, [expected]);
}

#[test]
fn receivers_get_records_of_flows_except_in_forms_of_activities() {
    let receiver = |keys: &str| format!("output: {{telemetry: [{{address: 'a:1'{keys}}}]}}");
    let gets = |keys: &str| good(&receiver(keys)).output.telemetry[0].choice.flows;
    for (keys, expected) in [
        ("", true),
        (", activities: [process_created, network_flow]", true),
        (", activities: [process_created]", false),
        (", preset: security", false),
        (", severity: LOW", false),
        (", format: syslog", true),
        (", format: forward", true),
        (", format: ocsf", false),
        (", format: ecs", false),
    ] {
        assert_eq!(gets(keys), expected, "{keys}");
    }
    check(
        &receiver(", format: ecs, activities: [network_flow]"),
        &["1:65: `output.telemetry[0].activities`: `network_flow` is not possible with \
           `format: ocsf` or `ecs`, whose events are activities"],
    );
    check(
        &receiver(", preset: security, activities: [network_flow]"),
        &["1:70: `output.telemetry[0].activities`: `network_flow` is not in the preset security; \
           write `preset: everything`"],
    );
}
