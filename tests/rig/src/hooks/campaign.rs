//! Runs kinds in a guest that Panoptes watches, and tells which of them it reported.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Kind, MODULE_HIDDEN, MODULES, Means, Patch, SOURCES};
use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::flavor::Flavor;
use crate::guest::{Guest, GuestSpec};
use crate::kernel::Kernel;
use crate::kernel_module;
use crate::scenarios::HostAct;
use crate::scenarios::watcher::{Arrival, Keep, Watcher};

/// Time for two rounds on a slow host.
const PATIENCE: Duration = Duration::from_mins(1);
/// Time without any hook, in which rounds first see the kernel's code.
const FIRST_ROUNDS: Duration = Duration::from_secs(25);

/// What to run.
#[derive(Debug)]
pub struct Choice {
    pub kinds: Vec<&'static Kind>,
    /// Number of kinds that are done before their records are awaited.
    pub together: usize,
    /// What patches a guest's memory; without it, patches are left out.
    pub host: Option<HostAct>,
}

/// A kind that was done.
#[derive(Debug)]
pub struct Outcome {
    pub kind: &'static Kind,
    /// Why it could not be done.
    pub failure: Option<String>,
    /// Addresses of its module's code; empty for a patch.
    code: Range<u64>,
    /// The address of the bytes that it changed in the kernel's text or data; zero if unknown.
    place: u64,
    begin: Instant,
    /// Time until it was reported.
    pub reported: Option<Duration>,
    /// Rounds that confirmed it.
    pub rounds: u64,
    /// What the record names as hooked, where it is not what was expected.
    pub other_subject: Option<String>,
}

/// What was seen of one kernel.
#[derive(Debug)]
pub struct Report {
    pub flavor: Flavor,
    pub outcomes: Vec<Outcome>,
    /// Alerts that no kind explains.
    pub extra: Vec<String>,
}

/// Runs the kinds on a kernel. `on_line` hears of each step.
pub fn run(
    flavor: Flavor,
    choice: &Choice,
    program: &Path,
    mut on_line: impl FnMut(&str),
) -> Result<Report> {
    let folder = Scratch::of_process("hooks")?;
    let modules = kernel_module::build(flavor, &folder, SOURCES)?;
    let mut spec = GuestSpec::new(Kernel::obtain(flavor)?);
    for name in MODULES {
        let file = format!("{name}.ko");
        let path = modules.join(&file);
        spec.files.push((file, path));
    }
    let mut guest = Guest::boot(&spec)?;
    let configuration = folder.join("integrity.yaml");
    cache::write(&configuration, b"default:\n")?;
    let mut watcher =
        Watcher::start(program, &guest, &configuration, &folder, None, Keep::Findings)?;
    std::thread::sleep(FIRST_ROUNDS);
    guest.memory_is_patched();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let kinds: Vec<_> = choice.kinds.iter().copied().filter(|kind| kind.is_in(flavor)).collect();
    for group in kinds.chunks(choice.together.max(1)) {
        let first = outcomes.len();
        for kind in group {
            let outcome = act(&mut guest, kind, &outcomes, choice.host);
            outcomes.push(outcome);
        }
        let deadline = Instant::now() + PATIENCE;
        watcher.wait_for(0, deadline, |arrival| {
            outcomes[first..].iter_mut().for_each(|outcome| outcome.take(arrival));
            outcomes[first..].iter().all(Outcome::is_settled)
        });
        watcher.check()?;
        outcomes[first..].iter().for_each(|outcome| on_line(&outcome.line(flavor)));
    }
    // A false record may come late.
    std::thread::sleep(FIRST_ROUNDS / 2);
    let alerts = watcher.records(0).into_iter().filter(Arrival::is_alert);
    let extra = alerts.filter(|arrival| !outcomes.iter().any(|it| it.explains(&arrival.record)));
    let extra = extra.map(|arrival| arrival.record["activity_data"].to_string()).collect();
    Ok(Report { flavor, outcomes, extra })
}

/// Does one kind.
fn act(
    guest: &mut Guest,
    kind: &'static Kind,
    before: &[Outcome],
    host: Option<HostAct>,
) -> Outcome {
    let mut outcome = Outcome {
        kind,
        failure: None,
        code: 0..0,
        place: 0,
        begin: Instant::now(),
        reported: None,
        rounds: 0,
        other_subject: None,
    };
    let done = match kind.means {
        Means::Hidden(module) => load(guest, kind, module, "1"),
        Means::Shown(module) => load(guest, kind, module, "0"),
        Means::Patch(what) => {
            let hidden = before.iter().find(|it| !it.code.is_empty() && it.kind.hides_code());
            let target = hidden.map(|it| it.code.start);
            patch(guest, what, target, host).map(|()| 0..0)
        }
    };
    outcome.begin = Instant::now();
    outcome.place = match kind.means {
        Means::Patch(Patch::Bytes(symbol, offset, _)) => place_of(guest, symbol, offset),
        // As in `hook_text` of the module.
        Means::Hidden(_) if kind.name == "text" => place_of(guest, "machine_restart", 8),
        _ => 0,
    };
    match done {
        Ok(code) => outcome.code = code,
        Err(error) => outcome.failure = Some(error.to_string()),
    }
    outcome
}

/// Loads a module, and returns where its code is.
fn load(guest: &mut Guest, kind: &Kind, module: &str, hides: &str) -> Result<Range<u64>> {
    // A listed module does what a hidden one does.
    let name = kind.name.strip_prefix("listed_").unwrap_or(kind.name);
    let answer = guest.agent(&format!(
        "run insmod /{module}.ko kind={name} hides={hides} 2>&1; dmesg | grep 'hooked {name} ' | \
         tail -n 1"
    ))?;
    let told = answer.iter().find_map(|line| {
        let mut words = line.split_once(&format!("hooked {name} "))?.1.split_whitespace();
        let base = u64::from_str_radix(words.next()?, 16).ok()?;
        let size = u64::from_str_radix(words.next()?, 16).ok()?;
        Some(base..base.checked_add(size)?)
    });
    told.ok_or_else(|| Error::new(format!("the module was not loaded: {}", answer.join("; "))))
}

/// Patches the guest's memory.
fn patch(guest: &mut Guest, what: Patch, target: Option<u64>, host: Option<HostAct>) -> Result<()> {
    let host = host.ok_or_else(|| Error::new("nothing here can patch a guest's memory"))?;
    let code = || target.ok_or_else(|| Error::new("no hidden module was loaded before"));
    let act = match what {
        Patch::Bytes(symbol, offset, bytes) => {
            format!("patch {:x} {bytes}", address_of(guest, symbol)? + offset)
        }
        Patch::Pointer(symbol, offset) => {
            let bytes = hex(&code()?.to_le_bytes());
            format!("patch {:x} {bytes}", address_of(guest, symbol)? + offset)
        }
        Patch::Gate(symbol, offset) => {
            let bytes = hex(&gate(code()?));
            format!("patch {:x} {bytes}", address_of(guest, symbol)? + offset)
        }
        Patch::Call(function, callee) => format!(
            "redirect {:x} {:x} {:x}",
            address_of(guest, function)?,
            address_of(guest, callee)?,
            code()?
        ),
    };
    host(guest, &act).map_err(Error::new)
}

/// An interrupt gate of x86-64 (`struct gate_struct`, arch/x86/include/asm/desc_defs.h) of the
/// kernel's segment, that leads to an address.
fn gate(to: u64) -> [u8; 16] {
    let value = u128::from(to & 0xffff)
        | 0x10 << 16
        | 0x8e00 << 32
        | u128::from(to >> 16 & 0xffff) << 48
        | u128::from(to >> 32) << 64;
    value.to_le_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The address at an offset of a symbol; zero if there is no such symbol.
fn place_of(guest: &mut Guest, symbol: &str, offset: u64) -> u64 {
    address_of(guest, symbol).map_or(0, |address| address.saturating_add(offset))
}

/// The address of a symbol, as the guest's `/proc/kallsyms` has it.
fn address_of(guest: &mut Guest, symbol: &str) -> Result<u64> {
    let answer = guest.agent(&format!("run grep -m 1 ' {symbol}$' /proc/kallsyms"))?;
    let address = answer.first().and_then(|line| line.split_whitespace().next());
    address
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| Error::new(format!("the kernel has no symbol {symbol}")))
}

impl Outcome {
    /// Whether nothing more is awaited.
    const fn is_settled(&self) -> bool {
        self.reported.is_some() || self.failure.is_some()
    }

    /// Whether it was reported as it should be.
    pub const fn is_good(&self) -> bool {
        self.reported.is_some() && self.other_subject.is_none()
    }

    fn take(&mut self, arrival: &Arrival) {
        if self.is_settled() || arrival.at < self.begin || !self.is_reported_by(&arrival.record) {
            return;
        }
        self.reported = Some(arrival.at - self.begin);
        self.rounds = arrival.record["detection"]["scans_confirmed"].as_u64().unwrap_or(0);
        let named = subjects(&arrival.record);
        let owner = &arrival.record["activity_data"]["kernel_code_details"]["kernel_code_owner"];
        let is_owner_right = match self.kind.means {
            // The target of changed text is its own.
            Means::Hidden(_) => owner == "nobody" || self.kind.check == "kernel_text",
            Means::Shown(module) => arrival.record.to_string().contains(module),
            Means::Patch(_) => true,
        };
        if !named.contains(self.kind.subject) || !is_owner_right {
            self.other_subject = Some(format!("{named}; owner {owner}"));
        }
    }

    fn is_reported_by(&self, record: &Value) -> bool {
        let activity = &record["activity_data"];
        let Some(module) = self.kind.module() else {
            if self.place != 0 {
                return check_of(record) == self.kind.check && self.is_changed_in(record);
            }
            return check_of(record) == self.kind.check
                && subjects(record).contains(self.kind.subject);
        };
        if self.kind.check == MODULE_HIDDEN {
            let name = &activity["kernel_module_details"]["kernel_module_name"];
            return activity["name"] == MODULE_HIDDEN && name == module;
        }
        if check_of(record) != self.kind.check {
            return false;
        }
        let details = &activity["kernel_code_details"];
        match self.kind.check {
            "kernel_text" => self.is_changed_in(record),
            "direct_map" => true,
            _ => ["kernel_code_target", "kernel_code_address"]
                .iter()
                .any(|field| self.has(&details[*field])),
        }
    }

    /// Whether an address of a record is in the module's code.
    fn has(&self, address: &Value) -> bool {
        let address = number(address);
        // A page is reported from its beginning on.
        let pages = self.code.start & !0xfff..self.code.end.next_multiple_of(0x1000);
        address.is_some_and(|address| pages.contains(&address))
    }

    /// Whether the changed bytes are in the block that a record names by its first byte and its
    /// size: only hashes of blocks are remembered.
    fn is_changed_in(&self, record: &Value) -> bool {
        let details = &record["activity_data"]["kernel_code_details"];
        let start = number(&details["kernel_code_address"]);
        let label = details["kernel_code_label"].as_str().unwrap_or_default();
        let size = label.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let size: u64 = size.unwrap_or(1);
        start.is_some_and(|start| (start..start.saturating_add(size)).contains(&self.place))
    }

    /// Whether an alert is about what this kind has done.
    fn explains(&self, record: &Value) -> bool {
        let (check, details) = (check_of(record), &record["activity_data"]["kernel_code_details"]);
        // More alerts of the same cause: modules that hide, mostly.
        if record["activity_data"]["name"] == "alerts_summed_up" {
            let summed = &record["activity_data"]["system_activity_details"]["activity"];
            return summed == MODULE_HIDDEN && self.kind.hides_code();
        }
        if record["activity_data"]["name"] == MODULE_HIDDEN {
            let name = &record["activity_data"]["kernel_module_details"]["kernel_module_name"];
            let is_hidden = self.kind.hides_code() || self.kind.check == MODULE_HIDDEN;
            let is_renamed = self.kind.name == "namesake" && name == "can_raw";
            return is_hidden && (is_renamed || self.kind.module().is_some_and(|it| name == it));
        }
        if check == "executable_pages" && self.kind.hides_code() {
            return self.has(&details["kernel_code_address"]);
        }
        self.kind.also.contains(&check) || self.is_reported_by(record)
    }

    /// A row of the table.
    fn line(&self, flavor: Flavor) -> String {
        let what = match (&self.failure, self.reported, &self.other_subject) {
            (Some(failure), ..) => format!("not done: {failure}"),
            (_, None, _) => "MISSED".to_owned(),
            (_, Some(time), None) => format!("{:.0} s, {} rounds", time.as_secs_f64(), self.rounds),
            (_, Some(time), Some(named)) => {
                format!("{:.0} s, but names {named:?}", time.as_secs_f64())
            }
        };
        let Kind { name, check, .. } = self.kind;
        format!("{name:<20} {:<8} {check:<26} {what}", flavor.name())
    }
}

/// An address of a record.
fn number(address: &Value) -> Option<u64> {
    let digits = address.as_str()?.strip_prefix("0x")?;
    u64::from_str_radix(digits, 16).ok()
}

fn check_of(record: &Value) -> &str {
    let details = &record["activity_data"]["kernel_code_details"];
    details["kernel_code_check"].as_str().unwrap_or_default()
}

/// What a record names as hooked or changed.
fn subjects(record: &Value) -> String {
    let details = &record["activity_data"]["kernel_code_details"];
    let names = ["symbol", "function", "label"].map(|name| format!("kernel_code_{name}"));
    let names = names.iter().filter_map(|name| details[name].as_str());
    names.collect::<Vec<_>>().join(", ")
}

impl Report {
    /// Whether each kind was reported, and nothing else.
    pub fn is_good(&self) -> bool {
        self.extra.is_empty() && self.outcomes.iter().all(Outcome::is_good)
    }

    /// The kinds with their check and the time until they were reported, then other alerts.
    pub fn table(&self) -> String {
        let mut text = format!("{:<20} {:<8} {:<26} reported\n", "kind", "kernel", "check");
        for outcome in &self.outcomes {
            let _ = writeln!(text, "{}", outcome.line(self.flavor));
        }
        for extra in &self.extra {
            let _ = writeln!(text, "EXTRA {extra}");
        }
        let good = self.outcomes.iter().filter(|outcome| outcome.is_good()).count();
        let (all, extra) = (self.outcomes.len(), self.extra.len());
        let _ = writeln!(text, "{good} of {all} kinds reported, {extra} other alerts");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_leads_to_its_address() {
        let bytes = gate(0xffff_ffff_c012_3456);
        // Offset, segment, stack, type; then the rest of the offset (Intel SDM, volume 3, 6.14.1).
        assert_eq!(hex(&bytes), "56341000008e12c0ffffffff00000000");
    }
}
