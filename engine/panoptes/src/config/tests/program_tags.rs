//! The tags of programs of eBPF that are allowed.

use panoptes_engine::policy::PolicyConfig;

use super::{check, good};

#[test]
fn allowed_programs_are_named_by_their_tags() {
    let at = |text: &str| {
        format!("default: {{events: {{ebpf_program_dangerous: {{allowed_tags: [{text}]}}}}}}")
    };
    let configuration = good(&at("3D6c1b8f0a5e9724, '0000000000000001'"));
    let policy = PolicyConfig::from(&configuration.default.events);
    assert_eq!(
        policy.allowed_tags[..],
        [[0x3d, 0x6c, 0x1b, 0x8f, 0x0a, 0x5e, 0x97, 0x24], [0, 0, 0, 0, 0, 0, 0, 1]]
    );
    let what = "1:60: `default.events.ebpf_program_dangerous.allowed_tags`:";
    let why = "is not the tag of a program; write its 16 hexadecimal digits, as `bpftool prog` \
               and `ebpf_program_tag` have them";
    for text in ["3d6c1b8f0a5e972", "3d6c1b8f0a5e97240", "3d6c1b8f0a5e972g", "+d6c1b8f0a5e9724"] {
        check(&at(text), &[&format!("{what} `{text}` {why}")]);
    }
}
