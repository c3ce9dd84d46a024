//! Opens the logs of systems on threads of their own: a disk that does not answer delays the
//! control thread for a moment, and no stop.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use panoptes_sinks::output::Output;
use panoptes_sinks::panics::caught;

use super::outputs::Watched;
use crate::exit::{Exit, Failure};

/// How long a log that is being opened is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// An open log.
pub(super) type Opened = (Box<dyn Output>, Watched);

/// A log that is being opened.
#[derive(Debug)]
struct Opening {
    system: String,
    number: u32,
    result: Receiver<Result<Opened, Failure>>,
    /// Whether it is still wanted.
    is_wanted: bool,
}

/// Opens one log at a time.
#[derive(Debug, Default)]
pub(super) struct LogOpener {
    /// The one that is waited for no longer.
    late: Option<Opening>,
}

impl LogOpener {
    /// Opens the log of a system, which has this number.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened. If its disk does not answer, [`late`](Self::late) has it later. No
    /// other log is opened before.
    pub(super) fn open(
        &mut self,
        (system, number): (&str, u32),
        open: impl FnOnce() -> Result<Opened, Failure> + Send + 'static,
    ) -> Result<Opened, Failure> {
        let hangs = || Failure::new(Exit::Output, "the disk does not answer");
        // One that nobody wants any more may be over.
        if self.late.as_ref().is_some_and(|late| !late.is_wanted) {
            drop(self.late());
        }
        if self.late.is_some() {
            return Err(hangs());
        }
        let (sender, result) = channel();
        let run = move || {
            let panicked = |panic| Failure::new(Exit::Failed, format!("a panic: {panic}"));
            let opened = caught(open).unwrap_or_else(|panic| Err(panicked(panic)));
            // Without a receiver, the program ends.
            let _ = sender.send(opened);
        };
        let thread = std::thread::Builder::new().name("panoptes-open".to_owned()).spawn(run);
        thread.map_err(|error| Failure::io(&error, Exit::Failed, "cannot start a thread"))?;
        result.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let system = system.to_owned();
            self.late = Some(Opening { system, number, result, is_wanted: true });
            Err(hangs())
        })
    }

    /// A log that was opened too late, its system, and its number.
    pub(super) fn late(&mut self) -> Option<(String, u32, Result<Opened, Failure>)> {
        let opened = match self.late.as_ref()?.result.try_recv() {
            Ok(opened) => opened,
            Err(TryRecvError::Empty) => return None,
            // The thread has sent its result before it ends.
            Err(TryRecvError::Disconnected) => {
                Err(Failure::new(Exit::Failed, "its thread has ended"))
            }
        };
        let Opening { system, number, is_wanted, .. } = self.late.take()?;
        is_wanted.then_some((system, number, opened))
    }

    /// Has no use for the log of a system that is still being opened.
    pub(super) fn forget(&mut self, system: &str) {
        if let Some(late) = self.late.as_mut().filter(|late| late.system == system) {
            late.is_wanted = false;
        }
    }

    /// Does not wait for a log that is still being opened: the next ones are on another disk.
    pub(super) fn forget_all(&mut self) {
        self.late = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;
    use std::time::Instant;

    use super::*;

    /// A disk that answers when the sender is dropped.
    fn slow() -> (Sender<()>, impl FnOnce() -> Result<Opened, Failure> + Send + 'static) {
        let (answer, answered) = channel();
        let open = move || {
            let _ = panoptes_bounded::recv(&answered);
            Err(Failure::new(Exit::Output, "it is full"))
        };
        (answer, open)
    }

    fn message(opened: Result<Opened, Failure>) -> String {
        opened.expect_err("no log").to_string()
    }

    #[test]
    fn a_disk_that_does_not_answer_is_waited_for_once() {
        let mut opener = LogOpener::default();
        let (answer, open) = slow();
        let begin = Instant::now();
        assert_eq!(message(opener.open(("a", 7), open)), "the disk does not answer");
        assert!(begin.elapsed() >= PATIENCE);
        let (_, open) = slow();
        let begin = Instant::now();
        assert_eq!(message(opener.open(("b", 8), open)), "the disk does not answer");
        assert!(begin.elapsed() < PATIENCE);
        assert!(opener.late().is_none());
        drop(answer);
        let (system, number, opened) = loop {
            if let Some(late) = opener.late() {
                break late;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!((&*system, number, message(opened)), ("a", 7, "it is full".to_owned()));
        // Another log can be opened now.
        let open = || Err(Failure::new(Exit::Output, "refused"));
        assert_eq!(message(opener.open(("b", 9), open)), "refused");
        let open = || panic!("a mistake");
        assert!(message(opener.open(("b", 10), open)).starts_with("a panic: a mistake"));
    }

    #[test]
    fn what_is_forgotten_does_not_come_later() {
        for (system, comes) in [("b", true), ("a", false)] {
            let mut opener = LogOpener::default();
            let (answer, open) = slow();
            assert!(opener.open(("a", 7), open).is_err());
            opener.forget(system);
            drop(answer);
            let mut late = None;
            while opener.late.is_some() {
                late = opener.late();
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(late.is_some(), comes, "{system:?}");
        }
    }

    #[test]
    fn another_place_is_used_although_the_old_disk_does_not_answer() {
        let mut opener = LogOpener::default();
        let (_answer, open) = slow();
        assert!(opener.open(("a", 7), open).is_err());
        opener.forget_all();
        let open = || Err(Failure::new(Exit::Output, "refused"));
        assert_eq!(message(opener.open(("a", 8), open)), "refused");
    }
}
