//! Loops that several sources share: over the pieces of a request, and over the parts that one read
//! of a file returns.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use panoptes_decoders::source::{MachineSource, ReadOutcome};

/// A source that belongs to another one.
pub(crate) trait InnerSource: MachineSource + Debug + Send {}

impl<S: MachineSource + Debug + Send> InnerSource for S {}

/// Answers a request piece by piece. `piece` fills the beginning of the bytes for an address and
/// returns their number (not 0), or the outcome of the whole request. What is not backed reads as
/// zeros everywhere: a partial answer is useless.
pub(crate) fn answer_pieces(
    address: u64,
    target: &mut [u8],
    mut piece: impl FnMut(u64, &mut [u8]) -> Result<usize, ReadOutcome>,
) -> ReadOutcome {
    let mut done = 0;
    while done < target.len() {
        let at = address.checked_add(done as u64).ok_or(ReadOutcome::NotBacked);
        match at.and_then(|at| piece(at, &mut target[done..])) {
            Ok(count) => done += count,
            Err(outcome) => {
                if outcome == ReadOutcome::NotBacked {
                    target.fill(0);
                }
                return outcome;
            }
        }
    }
    ReadOutcome::Read
}

/// Reads a file from an offset until the target is full or the file ends; returns the number of
/// bytes. By system calls, which allocate no page of a hole.
pub(crate) fn read_at_most(file: &File, offset: u64, target: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < target.len() {
        match file.read_at(&mut target[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
