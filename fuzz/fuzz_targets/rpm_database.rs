//! Databases of rpm's: SQLite with its log, ndb and BerkeleyDB, and the headers of packages in
//! them.
//!
//! The first four bytes are the log's length; the log follows, then the database.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_sbom::build::fuzz_rpm;

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (log, database) = rest.split_at(length);
    let _ = fuzz_rpm(database, log);
});
