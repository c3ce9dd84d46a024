//! The files that an address space maps, one by one.

use panoptes_tables::{ListPool, PoolList, Strings};

use super::area::Area;

/// The files that a process maps.
#[derive(Clone, Copy, Debug)]
pub struct MappedFiles<'a> {
    rows: &'a ListPool<Area>,
    list: PoolList,
    strings: &'a Strings,
}

/// A mapped file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MappedFile<'a> {
    /// Its path; `None` if that could not be read.
    pub path: Option<&'a [u8]>,
    /// `VM_*` of all its areas together.
    pub flags: u64,
}

impl<'a> MappedFiles<'a> {
    pub(super) fn new(rows: &'a ListPool<Area>, list: PoolList, strings: &'a Strings) -> Self {
        Self { rows, list, strings }
    }

    /// The files in the order of their first areas. A loader puts a file's areas side by side, with
    /// at most anonymous memory between them; a file that comes again later counts again.
    pub fn iter(self) -> impl Iterator<Item = MappedFile<'a>> {
        let Self { rows, list, strings } = self;
        let mut cursor = ListPool::<Area>::start(list);
        let mut areas = core::iter::from_fn(move || {
            let area = rows.row(cursor)?;
            rows.advance(&mut cursor);
            Some(*area)
        })
        .filter(Area::has_file)
        .peekable();
        core::iter::from_fn(move || {
            let first = areas.next()?;
            let mut flags = first.flags;
            while let Some(next) = areas.next_if(|next| next.maps_file_of(&first)) {
                flags |= next.flags;
            }
            let path = first.name.map(|id| strings.get(id));
            Some(MappedFile { path, flags: flags.into() })
        })
    }
}
