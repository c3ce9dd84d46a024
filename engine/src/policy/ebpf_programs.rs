//! The records of programs of eBPF: those that come and go, those that the kernel's IDR lacks, and
//! those that are dangerous.
//!
//! Not here: what is counted instead of being written ([`super::kernel_events`]).

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_records::activities::Activity;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::{Details, Record};

use super::changes::describe_process;
use super::ebpf_words::{EbpfProgramWords, effects_of, names_of, subject};
use super::evidence::AlertEvidence;
use super::techniques::{DANGEROUS_PROGRAM, HIDDEN_FILTER, HIDDEN_PROGRAM, Techniques};
use super::write::EventSubject;
use super::{Reporter, describe};
use crate::detect::Acceptance;
use crate::state::bpf::{BPF_NAME_BYTES, BpfLinkFacts, BpfProgramFacts};
use crate::state::process::Process;
use crate::state::{Change, ScanContext};
use crate::time::RealTime;
use crate::walk::{BpfHelpers, bpf_view};

/// Maximum length of the reason in bytes: each byte of the name is written as `\x00` at worst, and
/// every view or every helper is named once.
const REASON_BYTES_MAX: usize = 4 * BPF_NAME_BYTES + 384;

/// Types of programs that see packets before the filters of the kernel do (`enum bpf_prog_type`):
/// socket filters, `tc` and XDP.
const FILTERS: [u16; 4] = [1, 3, 4, 6];

impl Reporter<'_> {
    /// Reports a change of a program.
    pub(super) fn ebpf_program(&mut self, cx: &ScanContext<'_>, change: &Change<'_>) {
        match *change {
            Change::BpfProgramLoaded { program, process } => {
                let about = (Some(program), None, process);
                self.ebpf_event(cx, Activity::EbpfProgramLoaded, about);
            }
            Change::BpfProgramUnloaded { program } => {
                self.ebpf_event(cx, Activity::EbpfProgramUnloaded, (Some(program), None, None));
            }
            Change::BpfProgramAttached { link, program, process } => {
                let about = (program, Some(link), process);
                self.ebpf_event(cx, Activity::EbpfProgramAttached, about);
            }
            Change::BpfProgramDetached { link, program } => {
                self.ebpf_event(cx, Activity::EbpfProgramDetached, (program, Some(link), None));
            }
            Change::BpfProgramHidden { program, process, scans, since_ns, is_accepted } => {
                let sentence = hidden_reason(program, scans);
                let is_filter = FILTERS.contains(&program.kind);
                let alert = EbpfAlert {
                    activity: Activity::EbpfProgramHidden,
                    reason: &sentence,
                    techniques: if is_filter { HIDDEN_FILTER } else { HIDDEN_PROGRAM },
                    confidence: Confidence::High,
                    since_ns,
                    scans,
                };
                let accepted = self.ebpf_alert(cx, program, process, alert);
                is_accepted.set(accepted == Acceptance::Yes);
            }
            Change::BpfProgramDangerous { program, process, is_accepted }
                if self.policy.config.allowed_tags.contains(&program.tag)
                    || program.helpers == BpfHelpers::DENIES && is_of_systemd(cx, process) =>
            {
                is_accepted.set(true);
            }
            Change::BpfProgramDangerous { program, process, is_accepted } => {
                let sentence = danger_reason(program);
                let alert = EbpfAlert {
                    activity: Activity::EbpfProgramDangerous,
                    reason: &sentence,
                    techniques: DANGEROUS_PROGRAM,
                    confidence: Confidence::Medium,
                    since_ns: cx.now.real,
                    scans: 1,
                };
                let accepted = self.ebpf_alert(cx, program, process, alert);
                is_accepted.set(accepted == Acceptance::Yes);
            }
            _ => {}
        }
    }

    /// Reports that a program was loaded, unloaded, attached or detached.
    fn ebpf_event(
        &mut self,
        cx: &ScanContext<'_>,
        activity: Activity,
        (program, link, process): (
            Option<&BpfProgramFacts>,
            Option<&BpfLinkFacts>,
            Option<&Process>,
        ),
    ) {
        if !self.is_wanted(activity) || !self.policy.kernel_events.admit(activity) {
            return;
        }
        let words = EbpfProgramWords::of(program, link);
        let (machine, bpf) = (&cx.snapshot.machine, &cx.snapshot.bpf);
        let details = words.details((machine, bpf), program, link);
        let described = process.map(|process| describe_process(cx, process));
        let parent = described.as_ref().map(Details::Process);
        let record = Record::new(activity, Details::EbpfProgram(&details));
        let of_process = process.map(|process| EventSubject::of(cx, process));
        self.write(cx, of_process.unwrap_or_default(), &record.with_parents(parent.as_slice()));
    }

    /// Writes an alert about a program, with the process that holds it.
    fn ebpf_alert(
        &mut self,
        cx: &ScanContext<'_>,
        program: &BpfProgramFacts,
        process: Option<&Process>,
        alert: EbpfAlert<'_>,
    ) -> Acceptance {
        let EbpfAlert { activity, reason, techniques, confidence, since_ns, scans } = alert;
        if process.is_some_and(|process| !self.admits(process.key, activity)) {
            return Acceptance::No;
        }
        let words = EbpfProgramWords::of(Some(program), None);
        let (machine, bpf) = (&cx.snapshot.machine, &cx.snapshot.bpf);
        let details = words.details((machine, bpf), Some(program), None);
        let facts = process.map(|process| process.facts(cx.strings));
        let tsc_khz = cx.snapshot.machine.tsc_khz;
        let described = facts.as_ref().map(|facts| describe::process(facts, tsc_khz));
        let parent = described.as_ref().map(Details::Process);
        let record = Record::new(activity, Details::EbpfProgram(&details));
        let record = record.with_parents(parent.as_slice());
        let of_process = facts.as_ref().map(EventSubject::process);
        let is_dangerous = activity == Activity::EbpfProgramDangerous;
        let cause = self.cause().of_ebpf_program(program, is_dangerous);
        let evidence = AlertEvidence { reason, techniques, confidence, since_ns, scans, cause };
        self.alert(cx, of_process.unwrap_or_default(), &record, evidence)
    }
}

/// What an alert about a program says.
#[derive(Clone, Copy, Debug)]
struct EbpfAlert<'a> {
    activity: Activity,
    reason: &'a str,
    techniques: Techniques,
    confidence: Confidence,
    since_ns: RealTime,
    scans: u32,
}

/// All helpers that are dangerous.
const CALLED: BpfHelpers =
    BpfHelpers::PROBE_WRITE_USER.with(BpfHelpers::OVERRIDE_RETURN).with(BpfHelpers::SEND_SIGNAL);

/// Whether process 1 holds a program, or a service of systemd whose program only root could have
/// put there: they restrict services by programs of LSM.
fn is_of_systemd(cx: &ScanContext<'_>, process: Option<&Process>) -> bool {
    process.is_some_and(|process| {
        let facts = process.facts(cx.strings);
        let path = facts.executable.filter(|_| facts.executable_is_roots);
        process.process_id() == 1 || path.is_some_and(is_path_of_service)
    })
}

/// Whether the program of a path is a service of systemd itself.
fn is_path_of_service(path: &[u8]) -> bool {
    const FOLDERS: [&[u8]; 2] = [b"/usr/lib/systemd/", b"/lib/systemd/"];
    FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// Why a program is hidden: the views that show it.
fn hidden_reason(program: &BpfProgramFacts, scans: u32) -> ArrayString<REASON_BYTES_MAX> {
    let mut reason = ArrayString::new();
    let shown = u16::from(program.views) & !bpf_view::PROGRAM_IDR;
    // The whole sentence fits: see the test of all views.
    let _ = write!(
        reason,
        "{} is not in {}, but in {}",
        subject(program),
        names_of(bpf_view::PROGRAM_IDR, ""),
        names_of(shown, " and ")
    );
    // A copy of memory shows it once.
    if scans > 1 {
        let _ = write!(reason, ", in {scans} scans in a row");
    }
    reason
}

/// Why a program is dangerous: the helpers that it calls.
fn danger_reason(program: &BpfProgramFacts) -> ArrayString<REASON_BYTES_MAX> {
    let mut reason = ArrayString::new();
    // The whole sentence fits: see the test of all helpers.
    let _ = write!(reason, "{}", subject(program));
    let mut before = "";
    if program.helpers.has(CALLED) {
        let _ = write!(reason, " calls {}", effects_of(program.helpers));
        before = " and";
    }
    if program.helpers.has(BpfHelpers::DENIES) {
        let _ = write!(reason, "{before} denies what processes do (it returns an error to LSM)");
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of the type kprobe.
    fn program(name: &[u8], views: u16) -> BpfProgramFacts {
        let tag = [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77];
        let mut program = BpfProgramFacts { id: 17, kind: 2, tag, ..BpfProgramFacts::default() };
        program.name[..name.len()].copy_from_slice(name);
        program.views = views as u8;
        program
    }

    #[test]
    fn the_reason_names_the_program_and_all_views() {
        let hidden = program(b"hide\n", bpf_view::SYMBOLS | bpf_view::REFERENCE);
        assert_eq!(
            hidden_reason(&hidden, 2).as_str(),
            "the program of eBPF hide\\n (number 17, type kprobe, tag 0011223344556677) is not in \
             the kernel's IDR of programs, but in the list of symbols of eBPF and what a link or a \
             descriptor leads to, in 2 scans in a row"
        );
        let nameless = program(b"", bpf_view::SYMBOLS);
        let reason = hidden_reason(&nameless, 1);
        assert!(reason.starts_with("a program of eBPF without a name (number 17"), "{reason}");
        assert!(reason.ends_with("but in the list of symbols of eBPF"), "{reason}");
    }

    #[test]
    fn services_of_systemd_are_in_its_folders() {
        assert!(is_path_of_service(b"/usr/lib/systemd/systemd-nsresourced"));
        assert!(is_path_of_service(b"/lib/systemd/systemd"));
        assert!(!is_path_of_service(b"/usr/local/lib/systemd/systemd"));
        assert!(!is_path_of_service(b"/usr/lib/systemd-other/agent"));
    }

    #[test]
    fn the_longest_reasons_fit() {
        let mut longest = program(&[0xff; BPF_NAME_BYTES - 1], u16::MAX);
        (longest.id, longest.kind, longest.helpers) = (u32::MAX, u16::MAX, BpfHelpers(u8::MAX));
        let reason = hidden_reason(&longest, u32::MAX);
        assert!(reason.ends_with(", in 4294967295 scans in a row"), "{reason}");
        let reason = danger_reason(&longest);
        let end = "bpf_send_signal (it sends signals to processes) and denies what processes do \
                   (it returns an error to LSM)";
        assert!(reason.ends_with(end), "{reason}");
    }
}
