//! The lines of programs, maps and links of eBPF.

use core::fmt::Write as _;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::kernel::bpf_names::{
    attach_kind_name, link_kind_name, map_kind_name, program_kind_name,
};
use panoptes_records::json::text::Text;
use panoptes_records::record::ebpf_object::{EbpfHelper, EbpfObjectDetails, EbpfObjectKind};
use panoptes_records::record::value::{Hex, MemoryAddress};

use super::describe;
use crate::walk::{
    BpfHelpers, BpfLinkRow, BpfMapRow, BpfProgramRow, BpfTarget, Index, ProcessRow, Snapshot,
    bpf_view,
};

/// Each helper with its word.
pub(super) const HELPERS: [(BpfHelpers, EbpfHelper); EbpfHelper::ALL.len()] = [
    (BpfHelpers::PROBE_WRITE_USER, EbpfHelper::ProbeWriteUser),
    (BpfHelpers::OVERRIDE_RETURN, EbpfHelper::OverrideReturn),
    (BpfHelpers::SEND_SIGNAL, EbpfHelper::SendSignal),
];

/// What a line borrows: the words of numbers.
#[derive(Debug, Default)]
pub(super) struct EbpfWords {
    kind: ArrayString<32>,
    attach_kind: ArrayString<32>,
    helpers: ArrayVec<EbpfHelper, { HELPERS.len() }>,
}

impl EbpfWords {
    pub(super) fn of_program(row: &BpfProgramRow) -> Self {
        // Zero is the type of those that have none, too.
        let attach_kind = Some(row.attach_kind).filter(|&kind| kind != 0);
        let called = row.helpers.unwrap_or_default();
        Self {
            kind: word(program_kind_name(row.kind), row.kind),
            attach_kind: attach_word(attach_kind),
            helpers: HELPERS.iter().filter(|(bit, _)| called.has(*bit)).map(|it| it.1).collect(),
        }
    }

    pub(super) fn of_map(row: &BpfMapRow) -> Self {
        Self { kind: word(map_kind_name(row.kind), row.kind), ..Self::default() }
    }

    pub(super) fn of_link(row: &BpfLinkRow) -> Self {
        Self {
            kind: word(link_kind_name(row.kind), row.kind),
            attach_kind: attach_word(row.attach_kind),
            ..Self::default()
        }
    }
}

fn attach_word(kind: Option<u32>) -> ArrayString<32> {
    kind.map_or_else(ArrayString::new, |kind| word(attach_kind_name(kind), kind))
}

/// The name of a number, or the number itself.
pub(super) fn word(name: Option<&str>, number: u32) -> ArrayString<32> {
    let mut word = ArrayString::new();
    // There is room for both.
    let _ = match name {
        Some(name) => word.write_str(name),
        None => write!(word, "{number}"),
    };
    word
}

fn text(text: &str) -> Option<Text<'_>> {
    (!text.is_empty()).then(|| text.into())
}

fn holder(snapshot: &Snapshot, process: Option<Index<ProcessRow>>) -> Option<u32> {
    let process = snapshot.processes.at(process)?;
    Some(snapshot.leader(process)?.task.tgid)
}

/// Whether the IDR lacks an object, if the scan has read all of it: these views.
fn is_unlisted(views: u16, complete: u16, idr: u16) -> Option<bool> {
    (complete & idr != 0 && views & bpf_view::PROGRAM_IDR == 0).then_some(true)
}

pub(super) fn program<'a>(
    snapshot: &'a Snapshot,
    row: &'a BpfProgramRow,
    words: &'a EbpfWords,
) -> EbpfObjectDetails<'a> {
    let has_image = !row.image.is_null();
    EbpfObjectDetails {
        ebpf_object: EbpfObjectKind::Program,
        ebpf_id: row.id,
        ebpf_type: words.kind.as_str().into(),
        ebpf_name: text(&row.name),
        ebpf_tag: Some(Hex(&row.tag)),
        ebpf_attach_type: text(&words.attach_kind),
        ebpf_instruction_count: Some(row.instructions),
        ebpf_image_address: has_image.then_some(MemoryAddress(row.image.0)),
        ebpf_image_size: has_image.then_some(row.image_bytes),
        ebpf_load_time: Some(row.loaded_ns),
        ebpf_user_id: row.user_id,
        ebpf_map_count: Some(row.maps),
        ebpf_function: text(&row.function),
        ebpf_helpers: (!words.helpers.is_empty()).then_some(&words.helpers),
        ebpf_holder_process_id: holder(snapshot, row.holder),
        ebpf_pinned_path: snapshot.bpf.pinned_path(row.address).map(Text::from),
        ebpf_is_unlisted: is_unlisted(row.views, snapshot.bpf.complete, bpf_view::PROGRAM_IDR),
        ..EbpfObjectDetails::default()
    }
}

pub(super) fn map<'a>(
    snapshot: &'a Snapshot,
    row: &'a BpfMapRow,
    words: &'a EbpfWords,
) -> EbpfObjectDetails<'a> {
    EbpfObjectDetails {
        ebpf_object: EbpfObjectKind::Map,
        ebpf_id: row.id,
        ebpf_type: words.kind.as_str().into(),
        ebpf_name: text(&row.name),
        ebpf_key_size: Some(row.key_bytes),
        ebpf_value_size: Some(row.value_bytes),
        ebpf_max_entries: Some(row.entries_max),
        ebpf_map_flags: Some(row.flags),
        ebpf_holder_process_id: holder(snapshot, row.holder),
        ebpf_pinned_path: snapshot.bpf.pinned_path(row.address).map(Text::from),
        ebpf_is_unlisted: is_unlisted(row.views, snapshot.bpf.complete, bpf_view::MAP_IDR),
        ..EbpfObjectDetails::default()
    }
}

pub(super) fn link<'a>(
    snapshot: &'a Snapshot,
    row: &'a BpfLinkRow,
    words: &'a EbpfWords,
) -> EbpfObjectDetails<'a> {
    let is_attachment = row.is_attachment();
    // No list of the kernel has attachments.
    let complete = if is_attachment { 0 } else { snapshot.bpf.complete };
    let mut details = EbpfObjectDetails {
        ebpf_object: if is_attachment { EbpfObjectKind::Attachment } else { EbpfObjectKind::Link },
        ebpf_id: row.id,
        ebpf_type: words.kind.as_str().into(),
        ebpf_attach_type: text(&words.attach_kind),
        ebpf_program_id: snapshot.bpf.programs.at(row.program).map(|program| program.id),
        ebpf_holder_process_id: holder(snapshot, row.holder),
        ebpf_pinned_path: snapshot.bpf.pinned_path(row.address).map(Text::from),
        ebpf_is_unlisted: is_unlisted(row.views, complete, bpf_view::LINK_IDR),
        ..EbpfObjectDetails::default()
    };
    match &row.target {
        BpfTarget::Unknown => {}
        BpfTarget::Function(address) => {
            details.ebpf_target_address = Some(MemoryAddress(address.0));
        }
        BpfTarget::Functions { first, count } => {
            details.ebpf_target_address = Some(MemoryAddress(first.0));
            details.ebpf_target_count = Some(*count);
        }
        BpfTarget::Tracepoint(name) => details.ebpf_target_tracepoint = text(name),
        BpfTarget::Device(index) => details.ebpf_target_interface_index = Some(*index),
        BpfTarget::Cgroup(id) => details.ebpf_target_control_group_id = Some(*id),
        BpfTarget::NetNamespace(inode) => {
            details.ebpf_target_network_namespace = describe::namespace("net", *inode);
        }
    }
    details
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::kernel::bpf_attach::attachment_kind;

    use super::*;
    use crate::limits::Limits;

    #[test]
    fn a_type_without_a_name_is_its_number() {
        let row = BpfProgramRow { kind: 2, attach_kind: 0, ..BpfProgramRow::default() };
        let words = EbpfWords::of_program(&row);
        assert_eq!((words.kind.as_str(), words.attach_kind.as_str()), ("kprobe", ""));
        let row = BpfLinkRow { kind: 300, attach_kind: Some(0), ..BpfLinkRow::default() };
        let words = EbpfWords::of_link(&row);
        assert_eq!(words.kind.as_str(), "300");
        assert_eq!(words.attach_kind.as_str(), "cgroup_inet_ingress");
        let row = BpfMapRow { kind: u32::MAX, ..BpfMapRow::default() };
        assert_eq!(EbpfWords::of_map(&row).kind.as_str(), "4294967295");
    }

    #[test]
    fn an_attachment_is_no_link_and_no_list_lacks_it() {
        let mut snapshot = Snapshot::empty(&Limits::default());
        snapshot.bpf.complete = u16::MAX;
        let row = BpfLinkRow {
            kind: attachment_kind::TC_INGRESS,
            target: BpfTarget::Device(2),
            views: bpf_view::ATTACHMENT,
            ..BpfLinkRow::default()
        };
        let words = EbpfWords::of_link(&row);
        let line = link(&snapshot, &row, &words);
        assert_eq!(line.ebpf_object, EbpfObjectKind::Attachment);
        assert_eq!(
            (words.kind.as_str(), line.ebpf_target_interface_index),
            ("tc_ingress", Some(2))
        );
        assert_eq!((line.ebpf_id, line.ebpf_is_unlisted), (0, None));
        let row = BpfLinkRow { kind: 6, views: bpf_view::REFERENCE, ..row };
        let line = link(&snapshot, &row, &words);
        assert_eq!((line.ebpf_object, line.ebpf_is_unlisted), (EbpfObjectKind::Link, Some(true)));
    }

    #[test]
    fn helpers_have_their_words_in_order() {
        let helpers = BpfHelpers::SEND_SIGNAL.with(BpfHelpers::PROBE_WRITE_USER);
        let row = BpfProgramRow { helpers: Some(helpers), ..BpfProgramRow::default() };
        let words = EbpfWords::of_program(&row);
        assert_eq!(words.helpers[..], [EbpfHelper::ProbeWriteUser, EbpfHelper::SendSignal]);
    }

    #[test]
    fn only_a_complete_list_lacks_an_object() {
        assert_eq!(
            is_unlisted(bpf_view::SYMBOLS, bpf_view::PROGRAM_IDR, bpf_view::PROGRAM_IDR),
            Some(true)
        );
        assert_eq!(is_unlisted(bpf_view::SYMBOLS, bpf_view::SYMBOLS, bpf_view::PROGRAM_IDR), None);
        assert_eq!(
            is_unlisted(bpf_view::PROGRAM_IDR, bpf_view::PROGRAM_IDR, bpf_view::PROGRAM_IDR),
            None
        );
    }
}
