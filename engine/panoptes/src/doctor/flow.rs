//! The checks for the flow sensor: `panoptes doctor --flow`.
//!
//! As in `checks`, facts about this machine come first, and what they mean is apart.

use std::fs;
use std::path::Path;

use panoptes_packet_rings::all;

use super::checks::{self, Capabilities, DoctorCheck};
use super::ethtool::Ethtool;
use crate::flow::Needs;
use crate::size::show;

/// Numbers of capabilities (include/uapi/linux/capability.h).
const NET_RAW: (u32, &str) = (13, "CAP_NET_RAW");
const FOR_XDP: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (39, "CAP_BPF")];
/// `ARPHRD_ETHER` (include/uapi/linux/if_arp.h).
const ARPHRD_ETHER: u16 = 1;
/// The longest packet that XDP receives here, without its Ethernet header.
const XDP_MTU_MAX: u32 = 3840 - 14;
/// Features by which several packets become one before they are seen.
const MERGES: [&str; 3] = ["rx-gro", "rx-gro-hw", "rx-lro"];
/// Clocks that take about a microsecond or more to read. Each packet is stamped by one.
const SLOW_CLOCKS: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Whether an interface can have packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum InterfaceLinkState {
    #[default]
    Missing,
    /// It was not switched on.
    Down,
    NoCarrier,
    Up,
}

/// An interface, as the kernel describes it.
#[derive(Clone, Debug, Default)]
struct Card {
    name: String,
    by_xdp: bool,
    link: InterfaceLinkState,
    hardware: u16,
    mtu: Option<u32>,
    driver: Option<String>,
    /// Those of [`MERGES`] that are on.
    merges: Option<Vec<String>>,
    /// Packets that the card's ring has room for, and could have.
    ring: Option<(u32, u32)>,
    /// Packets that found this ring full.
    missed: u64,
}

/// Checks this machine for an `argus.conf`.
pub(super) fn examine(file: &Path) -> Vec<DoctorCheck> {
    let needs = match Needs::read(file) {
        Ok(needs) => needs,
        Err(mistake) => return vec![wrong(&mistake)],
    };
    let mut checks = vec![configuration(file, &needs.warnings)];
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let has = Capabilities::of(&status);
    match needs.interfaces {
        Ok(names) => {
            let by_xdp = names.iter().any(|(_, by_xdp)| *by_xdp);
            checks.push(capabilities(has, by_xdp));
            checks.push(xdp(by_xdp, &line("/proc/sys/kernel/osrelease").unwrap_or_default()));
            let ethtool = Ethtool::open().ok();
            for (name, by_xdp) in names {
                let card = look(name, by_xdp, ethtool.as_ref());
                checks.push(interface(&card, needs.ring_bytes));
                if card.link != InterfaceLinkState::Missing {
                    checks.extend([merged(&card), ring(&card)]);
                }
            }
        }
        Err(why) => checks.push(no_interface(&why)),
    }
    checks.push(libpcap(needs.filter.as_ref()));
    checks.push(clock(line(CLOCK).as_deref()));
    for path in &needs.files {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        checks.push(checks::folder("output", Some(folder), super::writable(folder)));
    }
    checks
}

/// The first line of a file of the kernel's.
fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn look(name: String, by_xdp: bool, ethtool: Option<&Ethtool>) -> Card {
    let devices = all().unwrap_or_default();
    let Some(device) = devices.into_iter().find(|device| device.name == name) else {
        return Card { name, by_xdp, ..Card::default() };
    };
    let of = |what: &str| line(&format!("/sys/class/net/{name}/{what}"));
    let count = |what: &str| of(&format!("statistics/{what}"))?.parse::<u64>().ok();
    let driver = fs::read_link(format!("/sys/class/net/{name}/device/driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let features = ethtool.and_then(|ethtool| ethtool.features(&name).ok());
    let merges = features.map(|mut features| {
        features.retain(|feature| MERGES.contains(&feature.as_str()));
        features
    });
    Card {
        link: match (device.is_up, device.is_running) {
            (false, _) => InterfaceLinkState::Down,
            (true, false) => InterfaceLinkState::NoCarrier,
            (true, true) => InterfaceLinkState::Up,
        },
        hardware: device.hardware,
        mtu: of("mtu").and_then(|text| text.parse().ok()),
        driver,
        merges,
        ring: ethtool.and_then(|ethtool| ethtool.receive_ring(&name).ok()),
        missed: ["rx_missed_errors", "rx_fifo_errors"].into_iter().filter_map(count).sum(),
        name,
        by_xdp,
    }
}

fn wrong(mistake: &str) -> DoctorCheck {
    DoctorCheck::obstacle("configuration", mistake, "correct the line, or remove it")
}

fn configuration(file: &Path, warnings: &[String]) -> DoctorCheck {
    let what = "configuration";
    match warnings {
        [] => DoctorCheck::fine(what, format!("{} is sound", file.display())),
        [first, others @ ..] => {
            let more = if others.is_empty() { "" } else { " (and others)" };
            DoctorCheck::warning(what, format!("{first}{more}"), "remove what has no effect")
        }
    }
}

fn capabilities(has: Capabilities, by_xdp: bool) -> DoctorCheck {
    let what = "capabilities";
    let for_xdp = FOR_XDP.into_iter().filter(|_| by_xdp);
    let needed: Vec<_> = [NET_RAW].into_iter().chain(for_xdp).collect();
    let missing: Vec<_> = needed.iter().filter(|one| !has.has(**one)).map(|one| one.1).collect();
    if missing.is_empty() {
        let names: Vec<_> = needed.iter().map(|one| one.1).collect();
        return DoctorCheck::fine(what, format!("{} can be used", names.join(", ")));
    }
    let unit =
        if by_xdp { "panoptes-flow.service with flow-xdp.conf" } else { "panoptes-flow.service" };
    DoctorCheck::obstacle(
        what,
        format!("{} is missing", missing.join(", ")),
        format!("run as root, or by {unit}"),
    )
}

/// `release`: that of the kernel, such as `6.1.0-18-amd64`.
fn xdp(by_xdp: bool, release: &str) -> DoctorCheck {
    let what = "XDP";
    if !by_xdp {
        return DoctorCheck::unused(what, "no interface is received by XDP");
    }
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 9) {
        return DoctorCheck::fine(what, format!("Linux {release} supports it"));
    }
    let fix = "leave out `xdp:`, or use Linux 5.9 or newer";
    DoctorCheck::obstacle(what, format!("Linux {release} is too old"), fix)
}

fn no_interface(why: &str) -> DoctorCheck {
    DoctorCheck::obstacle("interface", why, "ARGUS_INTERFACE=NAME; ip link set NAME up")
}

fn interface(card: &Card, ring_bytes: usize) -> DoctorCheck {
    let (what, name) = ("interface", &card.name);
    if name == "any" && card.link == InterfaceLinkState::Missing {
        return DoctorCheck::fine(what, "any: all interfaces, by the kernel's pseudo-device");
    }
    if card.link == InterfaceLinkState::Missing {
        let message = format!("there is no interface {name}");
        return DoctorCheck::obstacle(what, message, "ARGUS_INTERFACE: one that `ip link` lists");
    }
    if card.by_xdp && card.hardware != ARPHRD_ETHER {
        let message = format!("{name} is no Ethernet, which XDP needs");
        return DoctorCheck::obstacle(what, message, format!("ARGUS_INTERFACE={name}"));
    }
    if card.link == InterfaceLinkState::Down {
        let message = format!("{name} is down: it has no packets");
        return DoctorCheck::warning(what, message, format!("ip link set {name} up"));
    }
    if card.link == InterfaceLinkState::NoCarrier {
        return DoctorCheck::warning(
            what,
            format!("{name} has no carrier"),
            "look at the cable or the peer",
        );
    }
    if let Some(mtu) = card.mtu.filter(|mtu| card.by_xdp && *mtu > XDP_MTU_MAX) {
        let message =
            format!("{name} has an MTU of {mtu}: longer packets than 3840 bytes are lost");
        return DoctorCheck::warning(
            what,
            message,
            format!("ip link set {name} mtu {XDP_MTU_MAX}"),
        );
    }
    let driver = card.driver.as_deref().map(|driver| format!(", driver {driver}"));
    let (driver, ring) = (driver.unwrap_or_default(), show(ring_bytes as u64));
    DoctorCheck::fine(what, format!("{name} is up{driver}; its packets wait in {ring}"))
}

fn merged(card: &Card) -> DoctorCheck {
    let (what, name) = ("offloads", &card.name);
    match card.merges.as_deref() {
        None => {
            DoctorCheck::fine(what, format!("{name}: the offloads that merge packets are unknown"))
        }
        Some([]) => DoctorCheck::fine(what, format!("{name}: packets are seen as they came")),
        Some(on) => {
            let off: Vec<_> = on.iter().map(|feature| format!("{feature} off")).collect();
            DoctorCheck::warning(
                what,
                format!(
                    "{name}: {} is on, so several segments of TCP count as one long packet",
                    on.join(", ")
                ),
                format!("ethtool -K {name} {}", off.join(" ")),
            )
        }
    }
}

fn ring(card: &Card) -> DoctorCheck {
    let (what, name) = ("receive ring", &card.name);
    match card.ring {
        None => {
            DoctorCheck::unused(what, format!("{name}: its driver has no ring of variable size"))
        }
        Some((size, most)) if size < most && card.missed > 0 => DoctorCheck::warning(
            what,
            format!("{name}: {size} of {most} packets; {} found it full", card.missed),
            format!("ethtool -G {name} rx {most}"),
        ),
        Some((size, most)) => DoctorCheck::fine(what, format!("{name}: {size} of {most} packets")),
    }
}

/// `filter`: whether it could be compiled; `None` without one.
fn libpcap(filter: Option<&Result<(), String>>) -> DoctorCheck {
    let what = "libpcap";
    match filter {
        None => DoctorCheck::unused(what, "not needed: there is no filter of packets"),
        Some(Ok(())) => DoctorCheck::fine(what, "it compiles the filter of packets"),
        Some(Err(why)) => {
            DoctorCheck::obstacle(what, why, "apt install libpcap0.8, or correct ARGUS_FILTER")
        }
    }
}

fn clock(source: Option<&str>) -> DoctorCheck {
    let what = "clock";
    match source {
        Some(name) if SLOW_CLOCKS.contains(&name) => DoctorCheck::warning(
            what,
            format!("the kernel's clock is {name}, and slow to read for each packet"),
            "see /sys/devices/system/clocksource/clocksource0/available_clocksource",
        ),
        Some(name) => DoctorCheck::fine(what, format!("the kernel's clock is {name}")),
        None => DoctorCheck::fine(what, "the kernel's clock source is unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::DoctorCheckState;
    use super::*;

    fn card() -> Card {
        Card {
            name: "eth1".to_owned(),
            link: InterfaceLinkState::Up,
            hardware: ARPHRD_ETHER,
            mtu: Some(1500),
            driver: Some("ixgbe".to_owned()),
            merges: Some(Vec::new()),
            ring: Some((512, 4096)),
            ..Card::default()
        }
    }

    #[track_caller]
    fn is(check: &DoctorCheck, state: DoctorCheckState, fix: Option<&str>) {
        assert_eq!((check.state, check.fix.as_deref()), (state, fix), "{}", check.message);
    }

    #[test]
    fn an_interface_must_be_there_and_up() {
        let of = |card: Card| interface(&card, 32 << 20);
        let sound = of(card());
        is(&sound, DoctorCheckState::Fine, None);
        assert!(sound.message.contains("ixgbe") && sound.message.contains("32.0 MiB"));
        let missing = Card { link: InterfaceLinkState::Missing, ..card() };
        assert_eq!(of(missing).state, DoctorCheckState::Obstacle);
        is(
            &of(Card { link: InterfaceLinkState::Down, ..card() }),
            DoctorCheckState::Warning,
            Some("ip link set eth1 up"),
        );
        assert_eq!(
            of(Card { link: InterfaceLinkState::NoCarrier, ..card() }).state,
            DoctorCheckState::Warning
        );
        let long = Card { mtu: Some(9000), ..card() };
        is(&of(long.clone()), DoctorCheckState::Fine, None);
        let fix = "ip link set eth1 mtu 3826";
        is(&of(Card { by_xdp: true, ..long }), DoctorCheckState::Warning, Some(fix));
        assert_eq!(
            of(Card { by_xdp: true, hardware: 772, ..card() }).state,
            DoctorCheckState::Obstacle
        );
    }

    #[test]
    fn merged_packets_are_a_warning() {
        is(&merged(&card()), DoctorCheckState::Fine, None);
        is(&merged(&Card { merges: None, ..card() }), DoctorCheckState::Fine, None);
        let merges = Some(vec!["rx-gro".to_owned(), "rx-lro".to_owned()]);
        let fix = "ethtool -K eth1 rx-gro off rx-lro off";
        is(&merged(&Card { merges, ..card() }), DoctorCheckState::Warning, Some(fix));
    }

    #[test]
    fn a_small_ring_matters_if_it_was_full() {
        is(&ring(&card()), DoctorCheckState::Fine, None);
        let fix = Some("ethtool -G eth1 rx 4096");
        is(&ring(&Card { missed: 3, ..card() }), DoctorCheckState::Warning, fix);
        is(
            &ring(&Card { missed: 3, ring: Some((4096, 4096)), ..card() }),
            DoctorCheckState::Fine,
            None,
        );
        is(&ring(&Card { ring: None, ..card() }), DoctorCheckState::Unused, None);
    }

    #[test]
    fn capabilities_are_those_of_the_interfaces() {
        let with = |mask: u64| Capabilities::of(&format!("CapEff:\t{mask:016x}\n"));
        let raw = 1 << 13;
        assert_eq!(capabilities(with(raw), false).state, DoctorCheckState::Fine);
        assert_eq!(capabilities(with(!raw), false).state, DoctorCheckState::Obstacle);
        let check = capabilities(with(raw | 1 << 12), true);
        assert!(check.state == DoctorCheckState::Obstacle && check.message == "CAP_BPF is missing");
        assert_eq!(capabilities(with(raw | 1 << 12 | 1 << 39), true).state, DoctorCheckState::Fine);
    }

    #[test]
    fn xdp_needs_a_kernel() {
        assert_eq!(xdp(false, "").state, DoctorCheckState::Unused);
        for (release, state) in [
            ("5.8.0-1", DoctorCheckState::Obstacle),
            ("5.9.1", DoctorCheckState::Fine),
            ("6.1.0-18-amd64", DoctorCheckState::Fine),
        ] {
            assert_eq!(xdp(true, release).state, state, "{release}");
        }
    }

    #[test]
    fn a_slow_clock_is_a_warning() {
        assert_eq!(clock(Some("tsc")).state, DoctorCheckState::Fine);
        assert_eq!(clock(Some("kvm-clock")).state, DoctorCheckState::Fine);
        assert_eq!(clock(Some("hpet")).state, DoctorCheckState::Warning);
    }

    #[test]
    fn a_configuration_is_examined() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("argus.conf");
        let states = |text: &str| {
            fs::write(&file, text).expect("there is room");
            let checks = examine(&file);
            move |what: &str| {
                let check = checks.iter().find(|check| check.what == what);
                check.map(|check| check.state)
            }
        };
        // A file is no folder.
        let output = file.join("a");
        let output = format!("ARGUS_OUTPUT_FILE={}\n", output.display());
        let state = states(&format!("ARGUS_INTERFACE=no-such0\nA=b\n{output}"));
        assert_eq!(state("configuration"), Some(DoctorCheckState::Warning));
        assert_eq!(state("interface"), Some(DoctorCheckState::Obstacle));
        assert_eq!(state("libpcap"), Some(DoctorCheckState::Unused));
        assert_eq!(state("output"), Some(DoctorCheckState::Obstacle));
        assert_eq!(state("offloads"), None);
        let state = states("ARGUS_INTERFACE=lo\n");
        assert_eq!(state("configuration"), Some(DoctorCheckState::Fine));
        assert!(state("offloads").is_some() && state("receive ring").is_some());
        assert_eq!(states("ARGUS_DAEMON=x\n")("configuration"), Some(DoctorCheckState::Obstacle));
    }
}
