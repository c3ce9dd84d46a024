//! One run of the program, from its arguments to its exit code.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use panoptes_sinks::schema::{record_schema, scan_schema};

use crate::check::check;
use crate::cli::Arguments;
use crate::config::{Configuration, Mode, Report, Weight, one_line, printable};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::{Refusal, Request, Schema, resolve};
use crate::{profile, sbom, scan, systems, watch};

/// Runs the program with `arguments`, which start with the program's own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Documented, so that it gets its own message.
    if is_called(&arguments, "argus") || arguments.get(1).is_some_and(|word| word == "flow") {
        return end(&Failure::not_built("the flow auditor (`argus`, `panoptes flow`)"));
    }
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    match resolve(parsed, Path::new(DEFAULT_CONFIG)) {
        Ok(request) => carry_out(request),
        Err(Refusal::Failure(failure)) => end(&failure),
        Err(Refusal::Report(report)) => {
            for line in report.to_string().lines() {
                print_line(line);
            }
            report.exit()
        }
    }
}

fn carry_out(request: Request) -> Exit {
    let result = match request {
        Request::Scan(request) => messages(Mode::Scan, &request.configuration, &request.warnings)
            .and_then(|messages| scan::scan(&request, &mut io::stdout().lock(), &messages)),
        Request::Watch(request) => {
            messages(request.mode, &request.configuration, &request.warnings)
                .and_then(|messages| watch::watch(&request, &messages))
        }
        Request::ProfileBuild(request) => plain_messages()
            .and_then(|messages| profile::build(&request, &mut io::stdout().lock(), &messages)),
        Request::ProfileShow(request) => plain_messages()
            .and_then(|messages| profile::show(&request, &mut io::stdout().lock(), &messages)),
        Request::ProfileVerify(request) => plain_messages()
            .and_then(|messages| profile::verify(&request, &mut io::stdout().lock(), &messages)),
        Request::Systems { json, service } => {
            systems::list(&service, json, &mut io::stdout().lock())
        }
        Request::Check { file, json } => {
            let answer = check(&file, json);
            for line in &answer.err {
                print_line(line);
            }
            print(answer.out.as_bytes()).map(|_| answer.exit)
        }
        Request::SbomBuild(request) => plain_messages()
            .and_then(|messages| sbom::build(&request, &mut io::stdout().lock(), &messages)),
        Request::Schema(of) => print(schema(of).as_bytes()),
        Request::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "panoptes", &mut script);
            print(&script)
        }
        Request::Man(words) => manual(&words).and_then(|page| print(&page)),
    };
    result.unwrap_or_else(|failure| end(&failure))
}

/// The messages of a command that reads no configuration.
fn plain_messages() -> Result<Arc<Messages>, Failure> {
    messages(Mode::Scan, &Configuration::defaults(Mode::Scan), &Report::default())
}

/// Messages of the service go to stdout, unless records go there; all others go to stderr.
fn messages(
    mode: Mode,
    configuration: &Configuration,
    warnings: &Report,
) -> Result<Arc<Messages>, Failure> {
    let level = configuration.service.log_level;
    let messages = if mode == Mode::Run && !configuration.output.stdout {
        Messages::on_stdout(level)
    } else {
        Messages::on_stderr(level)
    };
    if let Some(folder) = &configuration.service.debug_log_folder {
        messages.log_to(folder)?;
    }
    for (weight, line) in warnings.lines() {
        debug_assert_eq!(weight, Weight::Warning, "an error would have ended the program");
        messages.warning(line);
    }
    Ok(Arc::new(messages))
}

fn is_called(arguments: &[OsString], name: &str) -> bool {
    let called = arguments.first().and_then(|program| Path::new(program).file_name());
    called == Some(OsStr::new(name))
}

/// Prints the help, the version or the error. Help and version are no errors.
fn usage(error: &clap::Error) -> Exit {
    match error.print() {
        Err(failure) if failure.kind() != ErrorKind::BrokenPipe => Exit::Output,
        _ if error.use_stderr() => Exit::Usage,
        _ => Exit::Done,
    }
}

/// The text of a JSON Schema, which ends with a line feed.
fn schema(of: Schema) -> String {
    let mut text = match of {
        Schema::Records => record_schema(),
        Schema::Scan => scan_schema(),
        Schema::Sbom => panoptes_reference::format::SCHEMA.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn manual(words: &[String]) -> Result<Vec<u8>, Failure> {
    let mut command = Arguments::command();
    // Gives the subcommands their full names, which head their pages.
    command.build();
    for word in words {
        let subcommand = command.find_subcommand(word).cloned();
        command = subcommand.ok_or_else(|| {
            let message = format!("`{}` is no command of {}", printable(word), command.get_name());
            Failure::new(Exit::Usage, message)
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::new(Exit::Failed, format!("the manual page: {error}")))?;
    Ok(page)
}

/// Writes `text` to standard output. A closed pipe is no error: its reader needs no more.
fn print(text: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => {
            Err(Failure::new(Exit::Output, format!("standard output can't be written: {error}")))
        }
    }
}

/// Reports the failure on stderr, whatever the log level.
fn end(failure: &Failure) -> Exit {
    print_line(&one_line(&format!("panoptes: error: {failure}")));
    failure.exit
}

/// Writes a line to stderr; if stderr is closed, the line is lost.
fn print_line(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The file that `panoptes run` reads without `--config`.
const DEFAULT_CONFIG: &str = "/etc/panoptes/panoptes.yaml";
