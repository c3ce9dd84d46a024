//! libvirt's save images (`virsh save`, `managedsave`): a header of 92 bytes, the domain's XML, and
//! a migration stream, possibly compressed (libvirt's src/qemu/qemu_saveimage.h).
//!
//! The header is in the byte order of the host that saved the guest.

use super::super::blocks::BlockDump;
use super::super::bytes::DumpBytes;
use super::super::{DumpProblem, Lacks};
use super::place::RamSlot;
use super::{MAGIC, open_at};

const HEADER_BYTES: u64 = 92;
/// Largest XML with its spare room in bytes.
const XML_BYTES_MAX: u64 = 16 << 20;
/// Number of bytes behind the XML in which the stream of a sparse image is searched.
const GAP_BYTES: usize = 1 << 20;
/// Maximum number of devices of memory in the XML.
const SLOTS_MAX: usize = 256;

/// Programs that unpack a stream, by the number of their format; 0 and 6 need none.
const PROGRAMS: [&str; 6] = ["cat", "gzip -dc", "bzip2 -dc", "xz -dc", "lzop -dc", "zstd -dc"];
const SPARSE: u32 = 6;

/// Opens a save image; also returns what it lacks.
pub(crate) fn open(file: DumpBytes) -> Result<(BlockDump, Lacks), DumpProblem> {
    let mut header = [0; HEADER_BYTES as usize];
    if !file.read(0, &mut header) {
        return Err(DumpProblem::Headers);
    }
    let field = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let is_little = matches!(u32::from_le_bytes(field(16)), 1 | 2);
    let word = |at| {
        let bytes = field(at);
        if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    };
    let (version, xml_bytes) = (word(16), u64::from(word(20)));
    if !matches!(version, 1 | 2) {
        return Err(DumpProblem::Unsupported(
            "its version is unknown; restore it with libvirt, then: \
             virsh dump --memory-only GUEST memory.elf",
        ));
    }
    if xml_bytes > XML_BYTES_MAX {
        return Err(DumpProblem::Header("its XML is too long"));
    }
    let format = if version == 1 { 0 } else { word(28) };
    let at = HEADER_BYTES + xml_bytes;
    if let Some(program) = PROGRAMS.get(format as usize).filter(|_| format != 0) {
        // tail(1) counts from 1.
        return Err(DumpProblem::Packed { from: at + 1, program });
    }
    if format > SPARSE {
        return Err(DumpProblem::Unsupported(
            "it is compressed in an unknown way; restore it with libvirt, then: \
             virsh dump --memory-only GUEST memory.elf",
        ));
    }
    let mut xml = vec![0; xml_bytes as usize];
    if !file.read(HEADER_BYTES, &mut xml) {
        return Err(DumpProblem::Headers);
    }
    let at = stream_at(&file, at)?;
    open_at(file, at, &slots(&xml))
}

/// The offset of the stream: where the XML ends, or shortly behind.
fn stream_at(file: &DumpBytes, at: u64) -> Result<u64, DumpProblem> {
    let left = file.len().saturating_sub(at).min(GAP_BYTES as u64);
    let mut bytes = vec![0; left as usize];
    if !file.read(at, &mut bytes) {
        return Err(DumpProblem::Headers);
    }
    let place = bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
    let place = place.ok_or(DumpProblem::Header("no migration stream is behind its XML"))?;
    Ok(at + place as u64)
}

/// The names of blocks of memory in slots, each with its address: attribute `base` of the element
/// `address` in each `memory` with a model.
///
/// libvirt names a block after its device, and a device after its model, with a number: that of the
/// slot, or for virtio its position (qemu_alias.c, `qemuAssignDeviceMemoryAlias`).
fn slots(xml: &[u8]) -> Vec<RamSlot> {
    let text = String::from_utf8_lossy(xml);
    let mut counts = [0_u32; 2];
    let mut slots = Vec::new();
    for device in text.split("<memory model=").skip(1).take(SLOTS_MAX) {
        let Some(device) = device.split("</memory>").next() else { continue };
        let Some(model) = device.get(1..).and_then(|rest| rest.split(['\'', '"']).next()) else {
            continue;
        };
        let number = |count: &mut u32| {
            *count += 1;
            Some(*count - 1)
        };
        let (prefix, number) = match model {
            "dimm" => ("dimm", slot_of(device)),
            "nvdimm" => ("nvdimm", slot_of(device)),
            "virtio-mem" => ("virtiomem", number(&mut counts[0])),
            "virtio-pmem" => ("virtiopmem", number(&mut counts[1])),
            _ => continue,
        };
        let name = match (attribute(device, "<alias name="), number) {
            (Some(alias), _) => format!("mem{alias}"),
            (None, Some(number)) => format!("mem{prefix}{number}"),
            (None, None) => continue,
        };
        if let Some(address) = address_of(device) {
            slots.push(RamSlot { name: name.into_bytes(), address });
        }
    }
    slots
}

fn slot_of(device: &str) -> Option<u32> {
    attribute(device, "slot=")?.parse().ok()
}

fn address_of(device: &str) -> Option<u64> {
    u64::from_str_radix(attribute(device, "base=")?.strip_prefix("0x")?, 16).ok()
}

/// The value in quotes behind the first occurrence of a text.
fn attribute<'d>(device: &'d str, before: &str) -> Option<&'d str> {
    device.split_once(before)?.1.get(1..)?.split(['\'', '"']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(xml: &str, expected: &[(&str, u64)]) {
        let slots = slots(xml.as_bytes());
        let slots: Vec<(&str, u64)> = slots
            .iter()
            .map(|slot| (std::str::from_utf8(&slot.name).unwrap(), slot.address))
            .collect();
        assert_eq!(slots, expected);
    }

    #[test]
    fn addresses_of_slots_are_in_the_xml() {
        check(
            "<domain><memory unit='KiB'>4</memory><memory model='dimm'><target/>\
             <address type='dimm' slot='1' base='0x140000000'/></memory>\
             <memory model='virtio-mem'><target><address base='0x180000000'/></target>\
             <address type='pci' slot='0x03'/></memory>\
             <memory model='dimm'><address type='dimm' slot='0' base='0x100000000'/></memory>\
             <memory model=\"nvdimm\"><alias name='ua-pmem'/>\
             <address type='dimm' slot='2' base='0x1c0000000'/></memory>\
             <memory model='virtio-mem'><target><address base='0x200000000'/></target></memory>",
            &[
                ("memdimm1", 0x1_4000_0000),
                ("memvirtiomem0", 0x1_8000_0000),
                ("memdimm0", 0x1_0000_0000),
                ("memua-pmem", 0x1_c000_0000),
                ("memvirtiomem1", 0x2_0000_0000),
            ],
        );
        check("<memory model='dimm'></memory>", &[]);
        check("<memory model='dimm'><address slot='0' base='0xzz'/>", &[]);
        check("<memory model='dimm'><address base='0x100000000'/>", &[]);
        check("<memory model=base=", &[]);
        check("<memory model=", &[]);
    }
}
