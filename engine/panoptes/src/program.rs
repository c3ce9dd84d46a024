//! One run of the program, from its arguments to its exit code.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use panoptes_records::dialect::Dialect;
use panoptes_records::schema::{record_schema, scan_schema};
use panoptes_sinks::output::file::FileOptions;

use crate::advice::advise;
use crate::check::check;
use crate::cli::{Arguments, Command, ConfigOptions, Sbom};
use crate::config::{Configuration, LogLevel, Mode, Report, Weight, nearest, one_line, printable};
use crate::doctor::{doctor, doctor_of_flow};
use crate::exit::{Exit, Failure, print};
use crate::message::Messages;
use crate::request::{RequestError, ScanRequest, WatchRequest, loader};
use crate::{completions, flow, profile, sbom, scan, systems, watch};

/// Runs the program with `arguments`, which start with the program's own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Its options are those of argus(8), which only it can read.
    let is_argus = is_called(&arguments, "argus");
    let begin = if is_argus { Some(1) } else { None };
    let begin = begin.or(arguments.get(1).is_some_and(|word| word == "flow").then_some(2));
    if let Some(begin) = begin {
        let ended = flow::run(&arguments[begin..], is_argus);
        return ended.unwrap_or_else(|failure| end(&failure));
    }
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(mut error) => {
            advise(&mut error, &Arguments::command(), &arguments);
            return usage(&error);
        }
    };
    match carry_out(parsed.command) {
        Ok(exit) => exit,
        Err(RequestError::Failure(failure)) => end(&failure),
        Err(RequestError::Report(report)) => {
            for line in report.to_string().lines() {
                print_line(line);
            }
            report.exit()
        }
    }
}

fn carry_out(command: Command) -> Result<Exit, RequestError> {
    // For commands that use no configuration.
    let messages = Messages::on_stderr(LogLevel::default());
    let exit = match command {
        Command::Scan(scan) => {
            let request = ScanRequest::new(scan)?;
            let messages = configured(Mode::Scan, &request.configuration, &request.warnings)?;
            scan::scan(&request, &messages)?
        }
        Command::Watch(watch) => {
            watch_systems(&WatchRequest::watch(watch, io::stdout().is_terminal())?)?
        }
        Command::Run(settings) => {
            watch_systems(&WatchRequest::run(settings, Path::new(DEFAULT_CONFIG))?)?
        }
        Command::Flow { options } => flow::run(&options, false)?,
        Command::Systems { json, config } => {
            let settings = ConfigOptions { config, ..ConfigOptions::default() };
            let loaded = loader(Mode::Scan, settings).load()?;
            systems::list(&loaded.configuration.service, json)?
        }
        Command::Profile(command) => profile::run(command, &messages)?,
        Command::Sbom(Sbom::Build(build)) => match build.running.clone() {
            Some(system) => {
                let request = ScanRequest::of_executables(system, build.config.clone())?;
                let messages = configured(Mode::Scan, &request.configuration, &request.warnings)?;
                scan::build_running(&build, &request, &messages)?
            }
            None => sbom::build(&build, &messages)?,
        },
        Command::Check { file, json, show_effective, overrides } => {
            let answer = check(&file, overrides, json, show_effective);
            for line in &answer.err {
                print_line(line);
            }
            print(answer.out.as_bytes())?;
            answer.exit
        }
        Command::Doctor { config, flow, json, receivers } => {
            let answer = match flow {
                Some(file) => doctor_of_flow(&file, json),
                None => doctor(config.or_else(default_config).as_deref(), json, receivers),
            };
            print(answer.out.as_bytes())?;
            answer.exit
        }
        Command::TestAlert { config, severity, json } => {
            let settings =
                ConfigOptions { config: config.or_else(default_config), ..<_>::default() };
            let loaded = loader(Mode::Test, settings).load()?;
            let answer = watch::test_alert(&loaded.configuration, severity, json)?;
            print(answer.out.as_bytes())?;
            answer.exit
        }
        Command::Schema { scan, sbom, doca_argus } => {
            print(schema(scan, sbom, doca_argus).as_bytes())?
        }
        Command::Completions { shell } => print(completions::script(shell).as_bytes())?,
        Command::Man { command } => print(&manual(&command)?)?,
    };
    Ok(exit)
}

fn watch_systems(request: &WatchRequest) -> Result<Exit, Failure> {
    let messages = configured(request.mode, &request.configuration, &request.warnings)?;
    if let Err(error) = allow_descriptors() {
        messages.debug(format_args!("the limit of open files stays: {error}"));
    }
    watch::watch(request, &messages)
}

/// Raises the limit of open files as far as the user may: each file of a guest's memory takes one,
/// and the usual limit of 1024 exists for programs that call select(2).
fn allow_descriptors() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

/// Messages of the service go to stdout, unless records go there; all others go to stderr.
fn configured(
    mode: Mode,
    configuration: &Configuration,
    warnings: &Report,
) -> Result<Arc<Messages>, Failure> {
    let level = configuration.service.log_level;
    let messages = match mode {
        Mode::Run if !configuration.output.stdout => Messages::of_watch_on_stdout(level),
        Mode::Run | Mode::Watch => Messages::of_watch_on_stderr(level),
        Mode::Scan | Mode::Test => Messages::on_stderr(level),
    };
    if let Some(folder) = &configuration.service.debug_log_folder {
        let (rotate_size, max_files) = configuration.output.rotation();
        messages
            .log_to(folder, &FileOptions { rotate_size, max_files, ..FileOptions::default() })?;
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
fn schema(of_scan: bool, of_sbom: bool, of_doca_argus: bool) -> String {
    let dialect = if of_doca_argus { Dialect::DocaArgus } else { Dialect::Panoptes };
    let mut text = match (of_scan, of_sbom) {
        (true, _) => scan_schema(),
        (false, true) => panoptes_sbom::format::SCHEMA.to_owned(),
        (false, false) => record_schema(dialect),
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
            let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            let (word, name) = (printable(word), command.get_name());
            let fix = match nearest(&word, &names) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("`{name} --help` lists all"),
            };
            let message = format!("`{word}` is no command of {name}; {fix}");
            Failure::new(Exit::Usage, message)
        })?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::new(Exit::Failed, format!("the manual page: {error}")))?;
    Ok(page)
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

/// The file that `panoptes run` reads without `--config`, if it exists.
fn default_config() -> Option<PathBuf> {
    let default = Path::new(DEFAULT_CONFIG);
    default.exists().then(|| default.to_owned())
}

/// The file that `panoptes run` reads without `--config`.
const DEFAULT_CONFIG: &str = "/etc/panoptes/panoptes.yaml";
