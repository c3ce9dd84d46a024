//! Built-in tables: constant offsets of kernels that are known beforehand, found by build id.
//!
//! For: starting without reading a kernel's types and symbols out of its memory. They are made from the
//! profiles in `profiles/tables` when this crate is compiled (`build.rs`), and are verified against the
//! memory like any other profile. `cargo xtask profiles` makes those profiles anew; a table that is silent
//! about something that today's code asks for gives way to the memory.

use panoptes_decoders::layout::Member;

use crate::stored::{Answer, Answers, Stored};

#[allow(clippy::unreadable_literal, reason = "nobody reads what build.rs made")]
mod made {
    use super::Table;

    include!(concat!(env!("OUT_DIR"), "/tables.rs"));
}
use made::{MEMBERS, SYMBOLS, TABLES};

/// The kernel has no such thing.
const ABSENT: u32 = u32::MAX;

/// Nobody asked when the table was made.
const UNASKED: u32 = u32::MAX - 1;

/// One kernel's table.
#[derive(Debug)]
pub struct Table {
    /// Its build id in lower-case hex.
    pub build_id: &'static str,
    /// Its release.
    pub release: &'static str,
    /// Distances from the image's beginning, in the order of `SYMBOLS`.
    symbols: &'static [u32],
    /// Offsets and sizes, in the order of `MEMBERS`.
    members: &'static [(u32, u32)],
}

/// All tables.
pub fn tables() -> &'static [Table] {
    TABLES
}

/// The table for a build.
pub(crate) fn find(build_id: &str, release: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.build_id == build_id && table.release == release)
}

impl Answers for Table {
    fn answer(&self, structure: &str, path: &str) -> Answer<Member> {
        let index = MEMBERS.binary_search(&(structure, path)).ok();
        match index.and_then(|index| self.members.get(index).copied()) {
            None | Some((UNASKED, _)) => Answer::Unasked,
            Some((ABSENT, _)) => Answer::Absent,
            Some((offset, size)) => Answer::Known(Member { offset, size }),
        }
    }
}

impl Stored for Table {
    fn symbol(&self, name: &str) -> Answer<u64> {
        let index = SYMBOLS.binary_search(&name).ok();
        match index.and_then(|index| self.symbols.get(index).copied()) {
            None | Some(UNASKED) => Answer::Unasked,
            Some(ABSENT) => Answer::Absent,
            Some(distance) => Answer::Known(u64::from(distance)),
        }
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::kernel::Layouts;

    use super::*;
    use crate::profile_file::Completeness;
    use crate::symbols::Symbols;

    /// Tables that the code has outgrown are not wrong, but nobody starts faster by them.
    #[test]
    fn every_table_answers_all_that_is_asked() {
        for table in tables() {
            let members = Completeness::of(table);
            let layouts = Layouts::bind(&members).expect(table.release);
            assert!(layouts.task_struct.size > 1000, "{}", table.release);
            let release = table.release;
            assert_eq!(members.unanswered(), None, "{release}: run `cargo xtask profiles`");
            for name in Symbols::NAMES {
                assert!(
                    table.symbol(name) != Answer::Unasked,
                    "{release}: {name}: run `cargo xtask profiles`"
                );
            }
        }
    }

    #[test]
    fn a_table_is_found_by_its_build_id_and_release() {
        let Some(table) = tables().first() else { return };
        assert_eq!(
            find(table.build_id, table.release).map(|found| found.build_id),
            Some(table.build_id)
        );
        assert!(find(table.build_id, "6.1.0-another").is_none());
        assert!(find("00", table.release).is_none());
    }
}
