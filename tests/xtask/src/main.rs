//! Developers' commands: `cargo xtask COMMAND`.
//!
//! Not for users of Panoptes: nothing here is installed. One file a command.

use std::process::ExitCode;

mod guest;
mod setup;

const USAGE: &str = "\
cargo xtask COMMAND

  guest [--kernel 6.1] [--memory MIB] [--five-level] [--load \"COMMAND\"]…
        boots a guest, prints where its memory is, takes the agent's commands on stdin until EOF
  setup installs what guests need and fetches all kernels
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let done = match command.as_str() {
        "guest" => guest::run(rest),
        "setup" => setup::run(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(format!("no command {other:?}; `cargo xtask help` lists them")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
