//! Compares what is read of QEMU's command lines with what they mean.

use panoptes_sources::{Area, AreaBacking, AreaLabel, layouts};

use super::arguments::Arguments;

const CASES: &str = include_str!("command_lines.txt");

/// One command line and the guest that it describes.
#[derive(Debug, Default)]
struct Case {
    title: String,
    line: Vec<u8>,
    name: Option<String>,
    other: Vec<String>,
    uuid: Option<String>,
    encryption: Option<String>,
    areas: Vec<Area>,
    memory: Vec<(u64, u64, u64)>,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once(": ").unwrap();
        if key == "case" {
            cases.push(Case { title: value.to_owned(), ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap();
        let text = Some(value.to_owned()).filter(|value| value != "-");
        match key {
            "line" => {
                let spaced = value.replace("\\ ", "\x01");
                case.line = spaced.replace(' ', "\0").replace('\x01', " ").into_bytes();
            }
            "name" => case.name = text,
            "other" => case.other.extend(text),
            "uuid" => case.uuid = text,
            "encryption" => case.encryption = text,
            "areas" => case.areas = value.split(' ').enumerate().map(area).collect(),
            "memory" => {
                case.memory = value.split(' ').map(|part| placed(part, &case.areas)).collect();
            }
            other => panic!("{other} of {}", case.title),
        }
    }
    cases
}

/// Areas have falling addresses, as the kernel gives them.
fn area((index, text): (usize, &str)) -> Area {
    let (label, size) = match text.split_once(':') {
        Some((_, size)) => (AreaLabel::Qemu, size),
        None => (AreaLabel::None, text),
    };
    let start = (100 - index as u64) << 40;
    let backing = match label {
        AreaLabel::None => AreaBacking::Private,
        _ => AreaBacking::File { identity: (0, 1, index as u64 + 1), offset: 0, shared: true },
    };
    Area { range: start..start + bytes(size), backing, label }
}

/// Physical address, address in the process, and size.
fn placed(text: &str, areas: &[Area]) -> (u64, u64, u64) {
    let (physical, rest) = text.split_once('=').unwrap();
    let physical = physical.strip_prefix("0x").unwrap_or(physical);
    let (place, size) = rest.split_once('+').unwrap();
    let (index, skip) = place.split_once(':').map_or((place, 0), |(at, skip)| (at, bytes(skip)));
    let area = &areas[index.parse::<usize>().unwrap()];
    (u64::from_str_radix(physical, 16).unwrap(), area.range.start + skip, bytes(size))
}

fn bytes(text: &str) -> u64 {
    text.strip_suffix('M').unwrap().parse::<u64>().unwrap() << 20
}

#[test]
fn command_lines_of_all_tools_are_understood() {
    let cases = cases();
    assert!(cases.len() > 40, "{}", cases.len());
    for case in cases {
        let title = &case.title;
        let arguments = Arguments::parse(&case.line);
        assert_eq!(arguments.name, case.name, "{title}");
        assert_eq!(arguments.other_names, case.other, "{title}");
        assert_eq!(arguments.uuid, case.uuid, "{title}");
        assert_eq!(arguments.encryption, case.encryption.as_deref(), "{title}");
        let mut areas = case.areas.clone();
        areas.sort_by_key(|area| area.range.start);
        let layout = layouts(&areas, &arguments.memory).swap_remove(0);
        let found: Vec<(u64, u64, u64)> =
            layout.iter().map(|one| (one.physical, one.address, one.bytes)).collect();
        assert_eq!(found, case.memory, "{title}: {:?}", arguments.memory);
    }
}
