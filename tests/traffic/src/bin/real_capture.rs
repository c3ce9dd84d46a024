//! Writes a capture of real programs that talk through network namespaces: `real_capture FILE
//! [FOLDER]`. Programs are searched in the folder first.

use std::path::Path;
use std::process::ExitCode;

use panoptes_traffic::{NoCapture, real_capture};

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("real_capture: give the file to be written");
        return ExitCode::FAILURE;
    };
    let programs = std::env::args_os().nth(2);
    match real_capture(Path::new(&file), programs.as_deref().map(Path::new)) {
        Ok(real) => {
            let (lost, reordered) = (real.lost, real.reordered);
            println!("{file}: {} conversations", real.contacts.len());
            println!("{lost} packets lost, {reordered} reordered");
            println!("not installed: {}", real.missing.join(", "));
            ExitCode::SUCCESS
        }
        Err(NoCapture::NotPermitted(error) | NoCapture::Failed(error)) => {
            eprintln!("real_capture: {error}");
            ExitCode::FAILURE
        }
    }
}
