//! `panoptes test-alert`: sends one marked record through each configured output, as the service
//! would open it, and tells what became of it.
//!
//! The record goes to every output, whatever that takes otherwise. What waits on the disk for a
//! receiver is left to the service. Not for: logs of single systems, and standard output, where a
//! record proves nothing.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};
use panoptes_records::activities::{Activity, Severity};
use panoptes_records::json::time::Timestamp;
use panoptes_records::queue::{RecordBlock, Waker, queue};
use panoptes_records::record::detection::{Confidence, Detection};
use panoptes_records::record::value::Uuid;
use panoptes_records::record::{Details, Record, RecordWriter};
use panoptes_sinks::output::remote::REFUSAL_WAIT;
use panoptes_sinks::output::{Output, OutputCounters, OutputStatus};
use serde_json::json;

use super::clocks::{nanoseconds, wall_clock_ns};
use super::outputs::{ConfiguredOutput, LogFolder, Receivers, Recipe, wanted};
use super::system_events::because;
use super::telemetry::confirmation;
use crate::config::Configuration;
use crate::exit::{CommandOutput, Exit, Failure};
use crate::interfaces::of_this_machine;
use crate::memory::CONTROL_QUEUE;
use crate::record_header::header_of_service;
use crate::request::OutputView;

/// How long all outputs together may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often progress is looked for.
const TEST_PROGRESS_INTERVAL: Duration = Duration::from_millis(5);

/// Says what the record is, in the record.
const REASON: &str = "this is a test that `panoptes test-alert` sent; nothing has happened";

/// What became of the record at an output.
#[derive(Clone, Debug, Eq, PartialEq)]
enum TestAlertOutcome {
    /// The output has it; with the words for that.
    Taken(String),
    /// Why the output has not got it.
    Failed(String),
    /// Why the output is not tested.
    Skipped(String),
}

/// An output with the record under way.
#[derive(Debug)]
struct Trial {
    name: String,
    recipe: Recipe,
    output: Option<Box<dyn Output>>,
    /// When the output had passed all of it on.
    idle_since: Option<Instant>,
    fate: Option<TestAlertOutcome>,
}

/// Sends the record with this severity, or the configured one, and waits for the outputs.
pub(crate) fn test_alert(
    configuration: &Configuration,
    severity: Option<Severity>,
    as_json: bool,
) -> Result<CommandOutput, Failure> {
    let configured = configuration.default.events.get(Activity::TestAlert).severity;
    let severity = severity.unwrap_or(configured);
    let (block, id) = marked_record(configuration, severity)?;
    let mut trials = begin(configuration, &block)?;
    let start = Instant::now();
    while trials.iter().any(|trial| trial.fate.is_none()) {
        for trial in &mut trials {
            trial.advance(start);
        }
        sleep(TEST_PROGRESS_INTERVAL);
    }
    let fates = trials.iter().map(|trial| (trial.name.as_str(), trial.fate.as_ref()));
    let fates: Vec<_> = fates.filter_map(|(name, fate)| Some((name, fate?))).collect();
    Ok(answer(&fates, &id, severity, as_json))
}

/// The record in a block of a queue, and its `message_id`.
fn marked_record(
    configuration: &Configuration,
    severity: Severity,
) -> Result<(RecordBlock, String), Failure> {
    let interfaces = of_this_machine().unwrap_or_default();
    let mut header = header_of_service(configuration, &interfaces);
    header.set_severity(Activity::TestAlert, severity);
    let string_length = configuration.default.limits.string_length as usize;
    let mut writer = RecordWriter::new(crate::random::key(), string_length);
    let now_ns = wall_clock_ns();
    let details = because(REASON);
    let detection =
        Detection::new(REASON.into(), &[], Confidence::High, Timestamp::from_ns(now_ns), 1);
    let record = Record::new(Activity::TestAlert, Details::SystemActivity(&details));
    let record = Record { detection: Some(&detection), ..record };
    let (mut producer, mut consumer) = queue(CONTROL_QUEUE, &Waker::default());
    let id: Uuid = writer.next_id(now_ns);
    let class = header.class_of(&record);
    let pushed =
        producer.push_with(class, |room| writer.write_as(id, room, &header, &record, now_ns));
    producer.flush();
    let block = consumer.pop().filter(|_| pushed.is_ok());
    let block = block.ok_or_else(|| Failure::new(Exit::Failed, "the record has no room"))?;
    Ok((block, id.to_string()))
}

/// Opens the outputs and gives them the record.
fn begin(configuration: &Configuration, block: &RecordBlock) -> Result<Vec<Trial>, Failure> {
    let left = configuration.output.log_folder.as_deref().and_then(left_to_service);
    let folder = match &left {
        Some(_) => Ok(None),
        None => LogFolder::take(&configuration.output, &[]),
    };
    let folder_of_logs = folder.as_ref().ok().and_then(Option::as_ref);
    let outputs = wanted(configuration, OutputView::default(), folder_of_logs, &Receivers::NONE)?;
    let mut trials: Vec<_> =
        outputs.into_iter().map(|output| Trial::begin(output, block)).collect();
    if let (Err(failure), Some(path)) = (&folder, &configuration.output.log_folder) {
        let (name, why) = (path.display().to_string(), failure.message.clone());
        // The service that writes there proves that it can.
        let is_taken = why.contains(panoptes_sinks::output::folder::TAKEN);
        let fate =
            if is_taken { TestAlertOutcome::Skipped(why) } else { TestAlertOutcome::Failed(why) };
        trials.insert(0, Trial::over(name, Recipe::Stdout(OutputView::default()), fate));
    }
    if let (Some(fate), Some(path)) = (left, &configuration.output.log_folder) {
        let name = path.display().to_string();
        trials.insert(0, Trial::over(name, Recipe::Stdout(OutputView::default()), fate));
    }
    Ok(trials)
}

/// Why the files of a folder are left to the service: those that this process made there, or the
/// folder itself, would not be the service's.
fn left_to_service(folder: &Path) -> Option<TestAlertOutcome> {
    left_to_service_by(Uid::effective(), folder)
}

/// The same for a process of this user.
fn left_to_service_by(own: Uid, folder: &Path) -> Option<TestAlertOutcome> {
    let owner = match folder.metadata() {
        Ok(facts) => Uid::from_raw(facts.uid()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && own.is_root() => {
            let why = "the folder does not exist, and one that root makes may not be the \
                       service's; the service makes it at its start";
            return Some(TestAlertOutcome::Skipped(why.to_owned()));
        }
        Err(_) => return None,
    };
    if owner.is_root() || owner == own {
        return None;
    }
    let user = User::from_uid(owner).ok().flatten();
    let user = user.map_or_else(|| format!("#{owner}"), |user| user.name);
    Some(TestAlertOutcome::Skipped(format!(
        "it belongs to the user {user}; test it with `sudo -u '{user}' panoptes test-alert`"
    )))
}

impl Trial {
    fn over(name: String, recipe: Recipe, fate: TestAlertOutcome) -> Self {
        Self { name, recipe, output: None, idle_since: None, fate: Some(fate) }
    }

    fn begin(ConfiguredOutput { name, recipe }: ConfiguredOutput, block: &RecordBlock) -> Self {
        let recipe = match recipe {
            Recipe::Receiver { number, mut receiver, digest, state_dir } => {
                // What waits there is the service's.
                receiver.backlog.disk = None;
                Recipe::Receiver { number, receiver, digest, state_dir }
            }
            Recipe::Stdout(_) => {
                let why = "a record would go where this command prints, not where the service does";
                return Self::over(name, recipe, TestAlertOutcome::Skipped(why.to_owned()));
            }
            Recipe::File { ref path, .. } => match path.parent().and_then(left_to_service) {
                Some(fate) => return Self::over(name, recipe, fate),
                None => recipe,
            },
        };
        match recipe.open() {
            Err(error) => Self::over(name, recipe, TestAlertOutcome::Failed(error.to_string())),
            Ok(mut output) => {
                output.append(block, 0..1, 0);
                Self { name, recipe, output: Some(output), idle_since: None, fate: None }
            }
        }
    }

    /// Lets the output work, and notes what became of the record.
    fn advance(&mut self, start: Instant) {
        let Some(output) = self.output.as_mut().filter(|_| self.fate.is_none()) else { return };
        let standing = output.advance(nanoseconds(start.elapsed()), TEST_PROGRESS_INTERVAL);
        let counters = Arc::clone(output.counters());
        let is_idle = matches!(standing, OutputStatus::Idle | OutputStatus::Closed);
        let since = is_idle.then(|| *self.idle_since.get_or_insert_with(Instant::now));
        // A file is synced at its end.
        let patience = if self.recipe.is_file() { Duration::ZERO } else { REFUSAL_WAIT };
        let fate = if counters.errors() + counters.refused() + counters.failed_syncs() > 0 {
            TestAlertOutcome::Failed(why(&counters))
        } else if since.is_some_and(|since| since.elapsed() >= patience) {
            output.finish();
            match counters.records() {
                0 => TestAlertOutcome::Failed(why(&counters)),
                _ if counters.failed_syncs() > 0 => TestAlertOutcome::Failed(why(&counters)),
                _ => TestAlertOutcome::Taken(taken(&self.recipe, &counters)),
            }
        } else if start.elapsed() > PATIENCE {
            let seconds = PATIENCE.as_secs();
            TestAlertOutcome::Failed(format!(
                "it has confirmed nothing in {seconds} seconds, but may have the record: its log \
                 should have the reason"
            ))
        } else {
            return;
        };
        self.fate = Some(fate);
    }
}

/// Why an output has failed.
fn why(counters: &OutputCounters) -> String {
    match (counters.failure(), counters.last_error()) {
        (failure, _) if !failure.is_empty() => failure,
        (_, 0) => "the output did not take the record".to_owned(),
        (_, number) => io::Error::from_raw_os_error(number).to_string(),
    }
}

/// Describes how an output took the record.
fn taken(recipe: &Recipe, counters: &OutputCounters) -> String {
    match recipe {
        Recipe::Receiver { receiver, .. } => match counters.answer() {
            answer if answer.is_empty() => confirmation(receiver).to_owned(),
            answer => format!("it answers {answer}"),
        },
        Recipe::File { .. } | Recipe::Stdout(_) => "written".to_owned(),
    }
}

/// For people, or as one JSON object.
fn answer(
    fates: &[(&str, &TestAlertOutcome)],
    id: &str,
    severity: Severity,
    as_json: bool,
) -> CommandOutput {
    let failed =
        fates.iter().filter(|(_, fate)| matches!(fate, TestAlertOutcome::Failed(_))).count();
    let is_taken = fates.iter().any(|(_, fate)| matches!(fate, TestAlertOutcome::Taken(_)));
    let exit = match failed {
        0 if is_taken => Exit::Done,
        0 => Exit::Failed,
        _ => Exit::Output,
    };
    let words = |fate: &TestAlertOutcome| match fate {
        TestAlertOutcome::Taken(words) => ("ok", words.clone()),
        TestAlertOutcome::Failed(words) => ("failed", words.clone()),
        TestAlertOutcome::Skipped(words) => ("skipped", words.clone()),
    };
    let out = if as_json {
        let object = |(name, fate): &(&str, &TestAlertOutcome)| {
            let (state, message) = words(fate);
            json!({ "output": name, "state": state, "message": message })
        };
        let outputs: Vec<_> = fates.iter().map(object).collect();
        let severity = severity.word();
        format!("{}\n", json!({ "message_id": id, "severity": severity, "outputs": outputs }))
    } else {
        let mut out = format!("test_alert, {}, message_id {id}\n", severity.word());
        for (name, fate) in fates {
            let (state, message) = words(fate);
            let _ = writeln!(out, "{state:8}{name}: {message}");
        }
        let count = fates.len();
        let _ = match failed {
            0 if is_taken => writeln!(out, "no output has failed"),
            0 => writeln!(out, "no output was tested"),
            _ => writeln!(out, "{failed} of {count} outputs failed"),
        };
        out
    };
    CommandOutput { out, err: Vec::new(), exit }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};

    use panoptes_bounded as bounded;

    use super::*;
    use crate::config::{Mode, Overrides, read};

    /// The only trial of a configuration with this receiver of HTTP requests.
    fn trial(address: SocketAddr) -> Trial {
        let text = format!(
            "output: {{log_folder: none, telemetry: [{{address: 'http://{address}', transport: \
             http}}]}}"
        );
        let (configuration, problems) =
            read(&text, Path::new(""), Mode::Test, &Overrides::default());
        assert!(problems.is_empty(), "{problems:?}");
        let (block, _) = marked_record(&configuration, Severity::Info).unwrap();
        let [trial] = <[Trial; 1]>::try_from(begin(&configuration, &block).unwrap()).unwrap();
        trial
    }

    /// What becomes of the record at a receiver that does this with a connection.
    fn fate(serve: impl Fn(std::net::TcpStream) + Send + 'static) -> TestAlertOutcome {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut trial = trial(listener.local_addr().unwrap());
        let server = std::thread::spawn(move || serve(bounded::accept(&listener).unwrap()));
        let start = Instant::now();
        while trial.fate.is_none() {
            trial.advance(start);
        }
        trial.output = None;
        bounded::join(server).unwrap();
        trial.fate.unwrap()
    }

    #[test]
    fn a_receiver_that_is_silent_may_have_the_record() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut trial = trial(listener.local_addr().unwrap());
        trial.advance(Instant::now());
        assert_eq!(trial.fate, None);
        trial.advance(Instant::now().checked_sub(2 * PATIENCE).unwrap());
        let Some(TestAlertOutcome::Failed(why)) = trial.fate else { panic!("it is not confirmed") };
        assert!(why.contains("20 seconds, but may have the record"), "{why}");
    }

    #[test]
    fn a_receiver_that_closes_the_connection_has_failed() {
        let TestAlertOutcome::Failed(why) = fate(drop) else { panic!("it is not confirmed") };
        assert!(["closed", "reset", "Broken"].iter().any(|word| why.contains(word)), "{why}");
    }

    #[test]
    fn a_receiver_that_answers_late_has_the_record() {
        let fate = fate(|mut stream| {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            sleep(2 * REFUSAL_WAIT);
            let _ = stream.write_all(b"HTTP/1.1 204 Fine\r\n\r\n");
        });
        assert_eq!(fate, TestAlertOutcome::Taken("it answers 204 Fine".to_owned()));
    }

    #[test]
    fn a_folder_that_does_not_exist_is_left_to_the_service_by_root() {
        let folder = tempfile::tempdir().unwrap();
        let own = Uid::from_raw(folder.path().metadata().unwrap().uid());
        let missing = folder.path().join("log");
        let Some(TestAlertOutcome::Skipped(why)) = left_to_service_by(Uid::from_raw(0), &missing)
        else {
            panic!("root would make it");
        };
        assert!(why.starts_with("the folder does not exist"), "{why}");
        assert!(!missing.exists());
        assert_eq!(left_to_service_by(Uid::from_raw(12345), &missing), None);
        assert_eq!(left_to_service_by(own, folder.path()), None);
    }

    #[test]
    fn a_test_of_nothing_is_no_success() {
        let skipped = TestAlertOutcome::Skipped("x".to_owned());
        let CommandOutput { out, exit, .. } =
            answer(&[("a", &skipped)], "1", Severity::Info, false);
        assert_eq!(exit, Exit::Failed);
        assert!(out.ends_with("no output was tested\n"), "{out}");
        assert_eq!(answer(&[], "1", Severity::Info, true).exit, Exit::Failed);
        let taken = TestAlertOutcome::Taken("y".to_owned());
        let both = [("a", &skipped), ("b", &taken)];
        assert_eq!(answer(&both, "1", Severity::Info, false).exit, Exit::Done);
    }

    #[test]
    fn a_service_that_watches_nothing_can_test_its_outputs() {
        let read = |mode| read("auto_scan: false", Path::new(""), mode, &Overrides::default());
        assert!(read(Mode::Test).1.is_empty());
        assert!(!read(Mode::Run).1.is_empty());
        assert_eq!(read(Mode::Test).0.output, read(Mode::Run).0.output);
    }
}
