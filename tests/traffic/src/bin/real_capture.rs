//! Writes a capture of real programs that talk through network namespaces: `real_capture FILE`.

use std::path::Path;
use std::process::ExitCode;

use panoptes_traffic::{NoCapture, real_capture};

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("real_capture: give the file to be written");
        return ExitCode::FAILURE;
    };
    match real_capture(Path::new(&file)) {
        Ok(real) => {
            println!("{file}: {} conversations, loss: {:?}", real.contacts.len(), real.loss);
            println!("not installed: {}", real.missing.join(", "));
            ExitCode::SUCCESS
        }
        Err(NoCapture::NotPermitted(error) | NoCapture::Failed(error)) => {
            eprintln!("real_capture: {error}");
            ExitCode::FAILURE
        }
    }
}
