//! Developers' commands: `cargo xtask COMMAND`.
//!
//! Each command has a file of its own and a row in [`COMMANDS`]. Not for users of Panoptes: nothing
//! here is installed.

use std::process::ExitCode;

mod before_after;
mod bench;
mod bindings;
mod busy;
mod cargo;
mod cost;
mod demo;
mod docs;
mod fuzz;
mod guest;
mod hashes;
mod human;
mod kernels;
mod live;
mod picture;
mod profiles;
mod program;
mod recorded;
mod scenarios;
mod scripts;
mod setup;
mod shells;
mod stages;
#[cfg(feature = "tamper")]
mod tamper;
#[cfg(not(feature = "tamper"))]
#[path = "untampered.rs"]
mod tamper;
mod test;
#[cfg(test)]
mod tidy;
mod twins;

/// A command: its name, its part of `help`, and the function that runs it.
struct Command {
    name: &'static str,
    usage: &'static str,
    /// An empty error was already printed.
    run: fn(&[String]) -> Result<(), String>,
}

const COMMANDS: &[Command] = &[
    Command { name: "demo", usage: demo::USAGE, run: demo::run },
    Command { name: "test", usage: test::USAGE, run: test::run },
    Command { name: "kernels", usage: kernels::USAGE, run: kernels::run },
    Command { name: "hashes", usage: hashes::USAGE, run: hashes::run },
    Command { name: "scenarios", usage: scenarios::USAGE, run: scenarios::run },
    Command { name: "shells", usage: shells::USAGE, run: shells::run },
    Command { name: "twins", usage: twins::USAGE, run: twins::run },
    Command { name: "bench", usage: bench::USAGE, run: bench::run },
    Command { name: "cost", usage: cost::USAGE, run: cost::run },
    Command { name: "docs", usage: docs::USAGE, run: docs::run },
    Command { name: "fuzz", usage: fuzz::USAGE, run: fuzz::run },
    Command { name: "guest", usage: guest::USAGE, run: guest::run },
    Command { name: "profiles", usage: profiles::USAGE, run: profiles::run },
    Command { name: "record", usage: recorded::USAGE, run: recorded::run },
    Command { name: "bindings", usage: bindings::USAGE, run: bindings::run },
    Command { name: "setup", usage: setup::USAGE, run: setup::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", help());
        return ExitCode::from(2);
    };
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("xtask: no command {name:?}; `cargo xtask help` lists them");
        return ExitCode::from(2);
    };
    let done = (command.run)(rest);
    for death in panoptes_rig::death::deaths() {
        eprintln!("died: a guest with {death}");
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if !message.is_empty() {
                eprintln!("xtask: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let usages: Vec<&str> = COMMANDS.iter().map(|command| command.usage).collect();
    format!("cargo xtask COMMAND\n\n{}", usages.join("\n"))
}
