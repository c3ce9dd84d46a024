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
    pub(crate) dropped: Dropped,
    pub(crate) time: Duration,
}

/// How many records Panoptes itself counts as dropped.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dropped {
    /// Records dropped by the output to this place.
    pub(crate) here: usize,
    /// Records dropped by the output that no fault disturbs.
    pub(crate) undisturbed: usize,
}

impl Row {
    /// The rules that do not hold.
    pub(crate) fn broken(&self) -> Vec<&'static str> {
        let Self { fault, receiver, received, dropped, .. } = self;
        let acknowledges = receiver.is_none_or(Kind::acknowledges);
        let is_log = receiver.is_none();
        let [kills_receivers, kills_program, freezes] =
            [Effect::KillsReceivers, Effect::KillsProgram, Effect::FreezesReceivers]
                .map(|effect| fault.has(effect));
        let [doubles_log, drops] =
            [Effect::DoublesLog, Effect::DropsInLog].map(|effect| is_log && fault.has(effect));
        let may_lose_silently = kills_program || kills_receivers && !acknowledges;
        let comes_again = kills_receivers || kills_program || freezes && acknowledges;
        let may_double = if is_log { doubles_log } else { comes_again };
        let separates = receiver.is_none_or(Kind::separates) && !doubles_log;
        let could_follow = dropped.undisturbed == 0;
        let too_many = is_log && could_follow && !kills_program && !doubles_log;
        let rules = [
            ("records are lost", received.lost > 0 && !may_lose_silently && !drops),
            (
                "records are lost and not counted",
                received.lost > dropped.here && !may_lose_silently,
            ),
            ("more is counted as lost than is lost", dropped.here > received.lost && too_many),
            ("the last record is lost", !received.has_last),
            ("records are doubled", received.doubled > 0 && !may_double),
            ("records are cut or changed", received.wrong > 0),
            ("the undisturbed output could not follow", !could_follow),
            ("records come from nowhere", received.unknown > dropped.undisturbed && !kills_program),
            ("a connection or a file has a gap", received.gaps > 0 && separates && !drops),
            ("a connection or a file has no order", received.backward > 0 && separates),
            ("nothing came", received.whole == 0),
        ];
        rules.into_iter().filter(|(_, is_broken)| *is_broken).map(|(rule, _)| rule).collect()
    }
}

/// The heading of the table.
pub(crate) const HEADING: &str =
    "fault           receiver       sent  received    lost  counted  doubled  seconds";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let receiver = self.receiver.map_or("event log", Kind::name);
        let Received { whole, lost, doubled, .. } = self.received;
        let (fault, sent, seconds) = (self.fault.name, self.sent, self.time.as_secs_f64());
        write!(f, "{fault:<15} {receiver:<10} {sent:>8}  {whole:>8}  {lost:>6}")?;
        write!(f, "  {:>7}  {doubled:>7}  {seconds:>7.1}", self.dropped.here)?;
        self.broken().iter().try_for_each(|rule| write!(f, "  {rule}"))?;
        match self.dropped.undisturbed {
            0 => Ok(()),
            lost => write!(f, " (it lost {lost})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::chosen;

    fn broken(
        fault: &str,
        receiver: Option<Kind>,
        received: Received,
        dropped: Dropped,
    ) -> Vec<&'static str> {
        let fault = chosen(&[fault.to_owned()]).expect("it exists")[0];
        let time = Duration::from_secs(1);
        Row { fault, receiver, sent: 10, received, dropped, time }.broken()
    }

    const ALL: Received = Received {
        whole: 10,
        lost: 0,
        doubled: 0,
        wrong: 0,
        unknown: 0,
        gaps: 0,
        backward: 0,
        has_last: true,
    };
    const LOST: Received = Received { whole: 9, lost: 1, ..ALL };
    const JSON: Option<Kind> = Some(Kind::Own("json"));
    const FORWARD: Option<Kind> = Some(Kind::Own("forward"));
    const HTTP: Option<Kind> = Some(Kind::Own("http"));

    #[test]
    fn what_may_be_lost_depends_on_fault_and_receiver() {
        let is_good = |fault: &str, receiver, received| {
            broken(fault, receiver, received, Dropped::default()).is_empty()
        };
        let doubled = Received { doubled: 1, ..ALL };
        assert!(is_good("restarts", JSON, LOST) && !is_good("restarts", FORWARD, LOST));
        assert!(!is_good("restarts", HTTP, LOST) && is_good("restarts", HTTP, doubled));
        assert!(!is_good("restarts", None, LOST) && !is_good("frozen", JSON, LOST));
        assert!(is_good("frozen", FORWARD, doubled) && !is_good("frozen", JSON, doubled));
        assert!(!is_good("none", FORWARD, doubled) && !is_good("none", HTTP, doubled));
        let of = |name| Some(Kind::Own(name));
        assert!(is_good("restarts", of("tls"), LOST) && !is_good("restarts", of("https"), LOST));
        assert!(is_good("removed", None, doubled) && !is_good("none", None, doubled));
        let gap = Received { gaps: 1, ..ALL };
        assert!(!is_good("restarts", JSON, gap) && is_good("frozen", Some(Kind::Fluent), gap));
        let end = Received { has_last: false, ..LOST };
        assert!(is_good("killed", None, LOST) && !is_good("killed", None, end));
    }

    #[test]
    fn what_is_counted_is_no_bug() {
        let here = |here| Dropped { here, undisturbed: 0 };
        assert_eq!(broken("none", JSON, LOST, here(1)), ["records are lost"]);
        let silent = ["records are lost", "records are lost and not counted"];
        assert_eq!(broken("none", JSON, LOST, here(0)), silent);
        let gap = Received { gaps: 1, ..LOST };
        assert!(broken("disk-full-long", None, gap, here(1)).is_empty());
        assert_eq!(broken("disk-full-long", None, gap, here(0)), [silent[1]]);
        let too_many = ["more is counted as lost than is lost"];
        assert_eq!(broken("disk-full-long", None, gap, here(2)), too_many);
        assert_eq!(broken("disk-full-long", JSON, LOST, here(1)), [silent[0]]);
        let back = Received { backward: 1, ..LOST };
        let order = ["a connection or a file has no order"];
        assert_eq!(broken("disk-full-long", None, back, here(1)), order);
    }

    #[test]
    fn an_undisturbed_output_that_lacks_records_is_named() {
        let unknown = Received { unknown: 1, ..ALL };
        let undisturbed = |undisturbed| Dropped { here: 0, undisturbed };
        assert_eq!(broken("none", None, unknown, undisturbed(0)), ["records come from nowhere"]);
        let late = ["the undisturbed output could not follow"];
        assert_eq!(broken("none", None, unknown, undisturbed(1)), late);
        assert!(broken("killed", None, unknown, undisturbed(0)).is_empty());
    }
}
