//! What the facts of a program of eBPF have as numbers and bits, in the words of records.

use core::fmt::{self, Display, Write as _};

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::bpf_names::{attach_kind_name, link_kind_name, program_kind_name};
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::ebpf_object::EbpfHelper;
use panoptes_records::record::ebpf_program::{EbpfProgramDetails, EbpfProgramView};
use panoptes_records::record::value::{Hex, MemoryAddress};

use super::ebpf_lines::{HELPERS, word};
use super::subject_names;
use crate::state::bpf::{BPF_PLACE_BYTES, BpfLinkFacts, BpfPlace, BpfProgramFacts};
use crate::walk::{BpfHelpers, BpfScan, Machine, bpf_view};

/// Maximum length of a place: a name, each byte of which is written as `\x00` at worst.
const PLACE_BYTES_MAX: usize = 4 * BPF_PLACE_BYTES + 32;

/// Each view with its words.
const VIEWS: [(u16, EbpfProgramView, &str); EbpfProgramView::ALL.len()] = [
    (bpf_view::PROGRAM_IDR, EbpfProgramView::Idr, "the kernel's IDR of programs"),
    (bpf_view::SYMBOLS, EbpfProgramView::Symbols, "the list of symbols of eBPF"),
    (bpf_view::REFERENCE, EbpfProgramView::Reference, "what a link or a descriptor leads to"),
    (
        bpf_view::ATTACHMENT,
        EbpfProgramView::Attachment,
        "an interface, a filter, a control group or an event that runs it",
    ),
    (bpf_view::PIN, EbpfProgramView::Pin, "a file of bpffs"),
];

/// What each helper does. A program of LSM that denies calls none of them.
const EFFECTS: [(BpfHelpers, &str); HELPERS.len()] = [
    (BpfHelpers::PROBE_WRITE_USER, "bpf_probe_write_user (it writes to the memory of processes)"),
    (
        BpfHelpers::OVERRIDE_RETURN,
        "bpf_override_return (it changes what functions of the kernel return)",
    ),
    (BpfHelpers::SEND_SIGNAL, "bpf_send_signal (it sends signals to processes)"),
];

/// What the facts of a program and a link have as numbers and bits, in the words of records.
#[derive(Debug, Default)]
pub(super) struct EbpfProgramWords {
    kind: ArrayString<32>,
    attach_kind: ArrayString<32>,
    place: ArrayString<PLACE_BYTES_MAX>,
    helpers: ArrayVec<EbpfHelper, { HELPERS.len() }>,
    views: ArrayVec<EbpfProgramView, { VIEWS.len() }>,
}

impl EbpfProgramWords {
    /// The words of a program and of the link that attaches it, as far as they are known.
    pub(super) fn of(program: Option<&BpfProgramFacts>, link: Option<&BpfLinkFacts>) -> Self {
        let mut words = Self::default();
        if let Some(program) = program {
            let (kind, attach_kind) = (u32::from(program.kind), u32::from(program.attach_kind));
            words.kind = word(program_kind_name(kind), kind);
            // Zero is the type of those that have none, too.
            if attach_kind != 0 {
                words.attach_kind = word(attach_kind_name(attach_kind), attach_kind);
            }
            let called = HELPERS.iter().filter(|(bit, _)| program.helpers.has(*bit));
            words.helpers = called.map(|(_, helper)| *helper).collect();
            let views = u16::from(program.views);
            if views & bpf_view::PROGRAM_IDR == 0 {
                let shown = VIEWS.iter().filter(|(bit, ..)| views & bit != 0);
                words.views = shown.map(|(_, view, _)| *view).collect();
            }
        }
        if let Some(link) = link {
            let (kind, attach_kind) = (u32::from(link.kind), u32::from(link.attach_kind));
            if link.attach_kind != u16::MAX {
                words.attach_kind = word(attach_kind_name(attach_kind), attach_kind);
            } else if words.attach_kind.is_empty() {
                words.attach_kind = word(link_kind_name(kind), kind);
            }
            words.place = place(link);
        }
        words
    }

    /// Describes a program and its link.
    pub(super) fn details<'a>(
        &'a self,
        (machine, bpf): (&Machine, &'a BpfScan),
        program: Option<&'a BpfProgramFacts>,
        link: Option<&BpfLinkFacts>,
    ) -> EbpfProgramDetails<'a> {
        let text = |text: &'a str| (!text.is_empty()).then(|| Text::from(text));
        let mut details = EbpfProgramDetails {
            ebpf_program_id: link.map_or(0, |link| link.program_id),
            ebpf_program_type: text(&self.kind),
            ebpf_program_helpers: (!self.helpers.is_empty()).then_some(&self.helpers),
            ebpf_program_attach_type: text(&self.attach_kind),
            ebpf_program_attach_target: text(&self.place),
            ebpf_program_link_id: link.filter(|link| !link.is_attachment()).map(|link| link.id),
            ebpf_program_pinned_path: pinned_path(bpf, program, link).map(Text::from),
            ebpf_program_views: (!self.views.is_empty()).then_some(&self.views),
            ..EbpfProgramDetails::default()
        };
        if let Some(program) = program {
            let has_image = !program.image.is_null();
            details.ebpf_program_id = program.id;
            details.ebpf_program_name =
                (!program.name().is_empty()).then(|| Text::new(program.name()));
            details.ebpf_program_tag = Some(Hex(&program.tag));
            details.ebpf_program_size = Some(program.instructions);
            details.ebpf_program_image_address =
                has_image.then_some(MemoryAddress(program.image.0));
            details.ebpf_program_loaded_time_iso_8601_ns = loaded_time(machine, program.loaded_ns);
            details.ebpf_program_user_id = program.user_id.get();
        }
        details
    }
}

/// The file of bpffs that holds the program, or else its link.
fn pinned_path<'a>(
    bpf: &'a BpfScan,
    program: Option<&BpfProgramFacts>,
    link: Option<&BpfLinkFacts>,
) -> Option<&'a str> {
    let objects = [program.map(|it| it.address), link.map(|it| it.address)];
    objects.into_iter().flatten().find_map(|object| bpf.pinned_path(object))
}

/// When a program was loaded, which the kernel has as nanoseconds since boot.
fn loaded_time(machine: &Machine, loaded_ns: u64) -> Option<Timestamp> {
    let real_ns = machine.boot_to_real_ns?.checked_add_unsigned(loaded_ns)?;
    Some(Timestamp::from_ns(real_ns))
}

/// The place of a link; empty if that is unknown.
fn place(link: &BpfLinkFacts) -> ArrayString<PLACE_BYTES_MAX> {
    let mut place = ArrayString::new();
    let (name, number) = (link.name().escape_ascii(), link.number);
    let is_named = !link.name().is_empty();
    // There is room for each of them.
    let _ = match link.place {
        BpfPlace::Unknown => Ok(()),
        BpfPlace::Function if is_named => write!(place, "{name}"),
        BpfPlace::Function if link.count > 1 => {
            write!(place, "{} and {} more", KernelVa(number), link.count - 1)
        }
        BpfPlace::Function => write!(place, "{}", KernelVa(number)),
        BpfPlace::Tracepoint => write!(place, "{name}"),
        BpfPlace::Device => write!(place, "interface {number}"),
        BpfPlace::Cgroup => write!(place, "cgroup {number}"),
        BpfPlace::NetNamespace => write!(place, "net:[{number}]"),
    };
    place
}

/// A program in a reason: its name, its number, its type and its tag.
pub(super) fn subject(program: &BpfProgramFacts) -> impl Display {
    fmt::from_fn(move |f| {
        match program.name() {
            [] => f.write_str("a program of eBPF without a name")?,
            name => write!(f, "the program of eBPF {}", name.escape_ascii())?,
        }
        let kind = u32::from(program.kind);
        let kind = word(program_kind_name(kind), kind);
        write!(f, " (number {}, type {kind}, tag ", program.id)?;
        program.tag.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    })
}

/// The names of views, with `last` before the last one.
pub(super) fn names_of(views: u16, last: &str) -> impl Display {
    let names = VIEWS.iter().filter(move |(bit, ..)| views & bit != 0).map(|(.., name)| *name);
    subject_names::list(names, last)
}

/// The helpers that a program calls, and what they do.
pub(super) fn effects_of(helpers: BpfHelpers) -> impl Display {
    let effects = EFFECTS.iter().filter(move |(bit, _)| helpers.has(*bit));
    subject_names::list(effects.map(|(_, effect)| *effect), " and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{BpfLinkRow, BpfProgramRow, BpfTarget};

    fn place_of(target: BpfTarget, function: &str) -> String {
        let row = BpfLinkRow { target, ..BpfLinkRow::default() };
        let function = ArrayString::from(function).unwrap();
        let program = BpfProgramRow { function, ..BpfProgramRow::default() };
        place(&BpfLinkFacts::read(&row, Some(&program))).as_str().to_owned()
    }

    #[test]
    fn each_place_has_its_words() {
        let function = BpfTarget::Function(KernelVa(0xffff_ffff_8100_0000));
        assert_eq!(place_of(function, "bpf_lsm_file_open"), "bpf_lsm_file_open");
        assert_eq!(place_of(function, ""), "0xffffffff81000000");
        let functions = BpfTarget::Functions { first: KernelVa(0xffff_ffff_8100_0000), count: 3 };
        assert_eq!(place_of(functions, ""), "0xffffffff81000000 and 2 more");
        let tracepoint = BpfTarget::Tracepoint(ArrayString::from("sched_switch").unwrap());
        assert_eq!(place_of(tracepoint, "another"), "sched_switch");
        assert_eq!(place_of(BpfTarget::Device(2), ""), "interface 2");
        assert_eq!(place_of(BpfTarget::Cgroup(4711), ""), "cgroup 4711");
        assert_eq!(place_of(BpfTarget::NetNamespace(4_026_531_840), ""), "net:[4026531840]");
        assert_eq!(place_of(BpfTarget::Unknown, "another"), "");
    }

    #[test]
    fn a_link_without_an_attach_type_has_that_of_its_program_or_its_own_type() {
        // A kprobe that is attached by a perf event, BPF_LINK_TYPE_PERF_EVENT.
        let row = BpfLinkRow { kind: 7, ..BpfLinkRow::default() };
        let link = BpfLinkFacts::read(&row, None);
        let of = |attach_kind| {
            let program = BpfProgramFacts { kind: 2, attach_kind, ..BpfProgramFacts::default() };
            EbpfProgramWords::of(Some(&program), Some(&link)).attach_kind
        };
        assert_eq!((&*of(0), &*of(41)), ("perf_event", "perf_event"));
        assert_eq!(&*of(42), "trace_kprobe_multi");
        // BPF_CGROUP_INET_INGRESS is zero.
        let row = BpfLinkRow { kind: 3, attach_kind: Some(0), ..BpfLinkRow::default() };
        let link = BpfLinkFacts::read(&row, None);
        let words = EbpfProgramWords::of(None, Some(&link));
        assert_eq!((&*words.attach_kind, &*words.kind), ("cgroup_inet_ingress", ""));
    }

    #[test]
    fn the_helpers_of_a_program_are_named_with_their_effects() {
        let helpers = BpfHelpers::SEND_SIGNAL.with(BpfHelpers::OVERRIDE_RETURN);
        assert_eq!(
            effects_of(helpers).to_string(),
            "bpf_override_return (it changes what functions of the kernel return) and \
             bpf_send_signal (it sends signals to processes)"
        );
    }
}
