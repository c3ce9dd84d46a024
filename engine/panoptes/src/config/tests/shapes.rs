//! Values of the wrong shape.

use super::*;

#[test]
fn values_of_the_wrong_shape_are_answered_with_the_right_one() {
    let mapping = "must be a mapping of keys to values, not";
    for (text, place, message) in [
        (
            "output: {telemetry: '127.0.0.1:514'}",
            "1:21",
            "`output.telemetry` must be a list, not a single value; write [{address: \
             \"127.0.0.1:514\"}]",
        ),
        (
            "output: {telemetry: ['127.0.0.1:1']}",
            "1:22",
            &format!(
                "`output.telemetry[0]` {mapping} a single value; write {{address: \"127.0.0.1:1\"}}"
            ),
        ),
        (
            "exceptions: process_hidden",
            "1:13",
            "`exceptions` must be a list, not a single value; \
             write [{activity: process_hidden, …}]",
        ),
        (
            "systems: [qemu:4711]",
            "1:10",
            &format!("`systems` {mapping} a list; write {{web-1: {{system: qemu:4711}}}}"),
        ),
        (
            "systems: 4711",
            "1:10",
            &format!("`systems` {mapping} a single value; write {{web-1: {{system: qemu:4711}}}}"),
        ),
        (
            "systems: {web-1: 4711}",
            "1:18",
            &format!(
                "`systems.web-1` {mapping} a single value; write `web-1: {{system: qemu:4711}}`"
            ),
        ),
        (
            "output: {metrics: 9100}",
            "1:19",
            &format!(
                "`output.metrics` {mapping} a single value; write {{address: 127.0.0.1:9100}}"
            ),
        ),
        (
            "service: []",
            "1:10",
            &format!("`service` {mapping} a list; write {{scan_interval: 10ms}}"),
        ),
        (
            "default: {events: [x]}",
            "1:19",
            &format!("`default.events` {mapping} a list; write {{process_created: false}}"),
        ),
    ] {
        check(text, &[&format!("{place}: {message}")]);
    }
}
