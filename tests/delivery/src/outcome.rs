//! The outcome of a fault: what each place got, and which rules it breaks.

use std::fmt;
use std::time::Duration;

use crate::faults::{Effect, Fault};
use crate::receivers::Kind;
use crate::records::Received;

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) fault: Fault,
    /// The receiver; `None` for the event log.
    pub(crate) receiver: Option<Kind>,
    pub(crate) sent: usize,
    pub(crate) received: Received,
    pub(crate) time: Duration,
}

impl Row {
    /// The rules that do not hold.
    pub(crate) fn broken(&self) -> Vec<&'static str> {
        let Self { fault, receiver, received, .. } = self;
        let acknowledges = receiver.is_none_or(Kind::acknowledges);
        let [kills_receivers, kills_program, doubles_log] =
            [Effect::KillsReceivers, Effect::KillsProgram, Effect::DoublesLog]
                .map(|effect| fault.has(effect));
        let may_lose = kills_program || kills_receivers && !acknowledges;
        let is_log = receiver.is_none();
        let comes_again = kills_receivers || kills_program || acknowledges;
        let may_double = if is_log { doubles_log } else { comes_again };
        let separates = receiver.is_none_or(Kind::separates) && !(is_log && doubles_log);
        let rules = [
            ("records are lost", received.lost > 0 && !may_lose),
            ("records are doubled", received.doubled > 0 && !may_double),
            ("records are cut or changed", received.wrong > 0),
            ("records come from nowhere", received.unknown > 0 && !kills_program),
            ("a connection or a file has a gap or no order", received.breaks > 0 && separates),
            ("nothing came", received.whole == 0),
        ];
        rules.into_iter().filter(|(_, is_broken)| *is_broken).map(|(rule, _)| rule).collect()
    }
}

/// The heading of the table.
pub(crate) const HEADING: &str =
    "fault      receiver       sent  received    lost  doubled  seconds";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let receiver = self.receiver.map_or("event log", Kind::name);
        let Received { whole, lost, doubled, .. } = self.received;
        let (fault, sent, seconds) = (self.fault.name, self.sent, self.time.as_secs_f64());
        write!(f, "{fault:<10} {receiver:<10} {sent:>8}  {whole:>8}")?;
        write!(f, "  {lost:>6}  {doubled:>7}  {seconds:>7.1}")?;
        self.broken().iter().try_for_each(|rule| write!(f, "  {rule}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::chosen;

    #[test]
    fn what_may_be_lost_depends_on_fault_and_receiver() {
        let is_good = |fault: &str, receiver, received| {
            let fault = chosen(&[fault.to_owned()]).expect("it exists")[0];
            let time = Duration::from_secs(1);
            Row { fault, receiver, sent: 10, received, time }.broken().is_empty()
        };
        let lost = Received { whole: 9, lost: 1, ..Received::default() };
        let doubled = Received { whole: 10, doubled: 1, ..Received::default() };
        let (json, forward) = (Some(Kind::Own("json")), Some(Kind::Own("forward")));
        assert!(is_good("restarts", json, lost) && !is_good("restarts", forward, lost));
        assert!(!is_good("restarts", None, lost) && !is_good("frozen", json, lost));
        assert!(is_good("frozen", forward, doubled) && !is_good("frozen", json, doubled));
        assert!(is_good("removed", None, doubled) && !is_good("none", None, doubled));
        let broken = Received { whole: 10, breaks: 1, ..Received::default() };
        assert!(
            !is_good("restarts", json, broken) && is_good("frozen", Some(Kind::Fluent), broken)
        );
    }
}
