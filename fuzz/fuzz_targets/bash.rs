//! bash's structures in memory, and the symbol table that leads to them: each decoder, on any
//! bytes.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::user::bash::{
    BashHashTable, BashHistoryEntry, Bucket, Variable, has_option, ignores_spaces, operand_of,
    seconds, timestamp, wants_more,
};
use panoptes_decoders::user::bash_patterns::ignores_everything;
use panoptes_decoders::user::elf_dynamic::{
    Dynamic, GnuHash, Segments, Symbol, SysvHash, candidates, gnu_hash, program_headers, sysv_hash,
};
use panoptes_fuzz::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let address = data.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if let Some((offset, count)) = program_headers(data) {
        assert!(count <= 32);
        let headers = usize::try_from(offset).ok().and_then(|offset| data.get(offset..));
        let segments = headers.and_then(Segments::parse);
        assert!(segments.is_none_or(|segments| segments.first < segments.end));
        let _ = segments.map(|segments| segments.in_file(address));
    }
    let _ = Segments::parse(data);
    if let Some(dynamic) = Dynamic::parse(data) {
        let _ = dynamic.symbol(address as u32);
    }
    if let Some(table) = GnuHash::parse(data, address) {
        let hash = gnu_hash(data);
        let _ = (table.bucket(hash), table.chain(hash));
    }
    if let Some(table) = SysvHash::parse(data, address) {
        let _ = (table.bucket(sysv_hash(data)), table.next(address as u32));
    }
    assert!(candidates(data, address as u32).count() <= data.len() / 4);
    let _ = Symbol::parse(data);
    let _ = operand_of(data, address);
    assert!(timestamp(data).is_none_or(|time| time >= 0));
    assert!(seconds(data).is_none_or(|time| time >= 0));
    let _ = (BashHistoryEntry::parse(data), Bucket::parse(data), Variable::parse(data));
    if let Some(table) = BashHashTable::parse(data) {
        let slot = table.slot(data).wrapping_sub(table.buckets);
        assert!(slot < u64::from(table.count) * 8);
    }
    let _ = (
        has_option(data, b"history"),
        ignores_everything(data, false),
        ignores_everything(data, true),
        ignores_spaces(data),
        wants_more(data),
    );
});
