//! `panoptes profile`: the description of a kernel as a file, so that a search in memory is not
//! needed.

mod build;
mod show;
mod source;
mod verify;

use std::io::{self, Write};

use crate::exit::{Exit, Failure};

pub use build::build;
pub use show::show;
pub use verify::verify;

/// Writes to standard output. A closed pipe is no error: its reader needs no more.
fn print(out: &mut dyn Write, bytes: &[u8]) -> Result<Exit, Failure> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let exit = Exit::from_io(&error, Exit::Output);
            Err(Failure::new(exit, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}
