//! `panoptes profile`: what is written down of a kernel, so that it need not be found in memory again.

mod build;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use panoptes_profiles::import;

use crate::exit::{Exit, Failure};

pub use build::build;

/// Opens a file that should be no machine's memory; `None` if it may be.
fn open_kernel(path: &Path) -> Result<Option<(File, import::Kind)>, Failure> {
    let refused = |error: io::Error| {
        let exit = Exit::from_io(&error, Exit::Source);
        Failure::new(exit, format!("cannot open {}: {error}", path.display()))
    };
    // A pipe would wait for somebody, a device may do anything.
    if !std::fs::metadata(path).map_err(refused)?.is_file() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(refused)?;
    let kind = import::kind(&mut file).map_err(|error| import_failure(path, &error))?;
    Ok(kind.map(|kind| (file, kind)))
}

/// The exit code and line for a file of which no profile can be made.
fn import_failure(path: &Path, error: &import::Error) -> Failure {
    let exit = match error {
        import::Error::Io(error) => Exit::from_io(error, Exit::Source),
        import::Error::Hidden(_) => Exit::Permission,
        _ => Exit::NoKernel,
    };
    Failure::new(exit, format!("{}: {error}", path.display()))
}

/// Writes to standard output; whoever closed it has seen enough.
fn print(out: &mut dyn Write, bytes: &[u8]) -> Result<Exit, Failure> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let exit = Exit::from_io(&error, Exit::Output);
            Err(Failure::new(exit, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}
