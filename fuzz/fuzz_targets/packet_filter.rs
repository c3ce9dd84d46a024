//! Filters of any instructions, run over any packet: each run ends, and no instruction panics.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::packet::program::Instruction;
use panoptes_fuzz::fuzz_target;
use panoptes_packet_filter::PacketFilter;

// The number of instructions, the instructions in eight bytes each, and the packet.
fuzz_target!(|data: &[u8]| {
    let Some((&count, rest)) = data.split_first() else { return };
    let (program, packet) = rest.split_at(rest.len().min(usize::from(count) * 8));
    let of = |bytes: &[u8; 8]| {
        let [class, operation, jump_true, jump_false, constant @ ..] = *bytes;
        // Half of the codes with a class and an operation exist.
        let code = u16::from(class & 7 | operation & 0xf8);
        Instruction { code, jump_true, jump_false, constant: u32::from_le_bytes(constant) }
    };
    let (instructions, _) = program.as_chunks::<8>();
    let Ok(filter) = PacketFilter::from_instructions(instructions.iter().map(of).collect()) else {
        return;
    };
    let is_kept = filter.matches(packet, packet.len() as u32);
    assert_eq!(filter.matches(packet, packet.len() as u32), is_kept);
    assert_eq!(filter.dump().lines().count(), filter.instructions().len());
});
