//! zsh's structures in memory: each decoder, on any bytes.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::user::bash_patterns::ignores_everything;
use panoptes_decoders::user::zsh::{Parameter, ZshHashTable, ZshHistoryEntry, as_list, unmetafy};
use panoptes_fuzz::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(entry) = ZshHistoryEntry::parse(data) {
        assert!(data.len() as u64 >= ZshHistoryEntry::BYTES && entry.up != 0 && entry.down != 0);
        let _ = entry.is_typed();
    }
    if let Some(table) = ZshHashTable::parse(data) {
        let slot = table.slot(data).wrapping_sub(table.nodes);
        assert!(slot < u64::from(table.size) * 8);
    }
    let parameter = Parameter::parse(data);
    assert!(parameter.is_none_or(|parameter| parameter.name != 0));
    let mut text = data.to_vec();
    assert!(unmetafy(&mut text) <= data.len());
    let mut room = [0; 192];
    if let Some(list) = as_list(data, &mut room) {
        assert!(list.len() <= data.len());
        let _ = ignores_everything(list, false);
    }
});
