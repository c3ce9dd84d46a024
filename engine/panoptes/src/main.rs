//! The program; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    panoptes::run(std::env::args_os()).into()
}
