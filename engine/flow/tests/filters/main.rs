//! Filters of records, against what argus's client `ra` makes of the same expressions.
//!
//! The records are those of a capture of each kind and of a mix. They are written to one file, and
//! each has a sequence number of its own, by which `ra` tells which ones it keeps.

mod expressions;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use expressions::{DIFFERENT, EXTENSIONS, MISTAKES, SAME, TERMS, is_turned_round};
use panoptes_decoders::packet::{self, Tunnels};
use panoptes_flow::{FlowTableSettings, Flows, Reports, Timeouts};
use panoptes_records::flow::{Extra, FlowRecord, Jitter};
use panoptes_sinks::flow::argus::{self, ArgusOptions, Management, PLAIN_BYTES_MAX, SourceId};
use panoptes_sinks::flow::filter::{NameSource, RecordFilter};
use panoptes_tables::HashKey;
use panoptes_traffic::{Argus, Capture, Clock, kinds};

const THREADS: usize = 8;
/// 10.9.8.7.
const SOURCE: SourceId = SourceId::Address(0x0a09_0807);
const BEGIN_NS: i64 = 1_700_000_000_000_000_000;

/// Records with numbers of their own.
#[derive(Default)]
struct Records(Vec<(FlowRecord, Option<Jitter>)>);

impl Reports for Records {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        let sequence = self.0.len() as u32 + 1;
        self.0.push((FlowRecord { sequence, ..*record }, extra.jitter.copied()));
    }
}

impl Records {
    /// Collects the records of a capture of each kind, and of a mix.
    fn of_everything() -> Self {
        let mut records = Self::default();
        for (_, capture) in kinds() {
            records.add(&capture);
        }
        records.add(&Capture::mix(7, 200));
        records
    }

    fn add(&mut self, capture: &Capture) {
        let settings = FlowTableSettings {
            capacity: 1000,
            status_interval_ns: 5_000_000_000,
            timeouts: Timeouts::default(),
            has_jitter: true,
            user_bytes: 0,
            ..FlowTableSettings::default()
        };
        let mut flows = Flows::new(&settings, HashKey::new(1));
        let pcap = capture.pcap(Clock::Microseconds);
        let (header, mut rest) = pcap.split_at(24);
        let word = |bytes: &[u8], at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
        };
        let link = word(header, 20) as u16;
        while !rest.is_empty() {
            let (head, behind) = rest.split_at(16);
            let time_ns =
                i64::from(word(head, 0)) * 1_000_000_000 + i64::from(word(head, 4)) * 1000;
            let (bytes, behind) = behind.split_at(word(head, 8) as usize);
            rest = behind;
            let packet = packet::decode(link, bytes, word(head, 12), Tunnels::Declared);
            flows.packet(&packet, time_ns, word(head, 12), self);
        }
        flows.finish(self);
    }

    fn write(&self, file: &Path) {
        let management =
            Management { source_id: SOURCE, begin_ns: BEGIN_NS, ..Management::default() };
        let mut bytes = management.first(BEGIN_NS).to_vec();
        let options = ArgusOptions {
            source_id: SOURCE,
            application_bytes: true,
            hardware: true,
            packet_sizes: true,
            ..ArgusOptions::default()
        };
        for (record, jitter) in &self.0 {
            let mut out = [0; PLAIN_BYTES_MAX];
            let extra = Extra { jitter: jitter.as_ref(), ..Extra::default() };
            let length = argus::write(&mut out, &options, record, &extra).expect("there is room");
            bytes.extend(&out[..length]);
        }
        std::fs::write(file, bytes).expect("there is room");
    }

    /// The numbers of the records that match.
    fn matching(&self, expression: &str) -> Result<BTreeSet<u32>, String> {
        let filter =
            RecordFilter::parse(expression, NameSource::BuiltIn).map_err(|e| e.to_string())?;
        let matches = |(record, jitter): &&(FlowRecord, Option<Jitter>)| {
            let extra = Extra { jitter: jitter.as_ref(), ..Extra::default() };
            filter.matches(record, &extra, SOURCE)
        };
        Ok(self.0.iter().filter(matches).map(|(record, _)| record.sequence).collect())
    }

    fn record(&self, sequence: u32) -> &(FlowRecord, Option<Jitter>) {
        &self.0[sequence as usize - 1]
    }
}

/// Our records, and the file that `ra` reads.
struct Written {
    argus: Argus,
    records: Records,
    folder: tempfile::TempDir,
}

impl Written {
    fn new() -> Self {
        let argus = Argus::find().unwrap_or_else(|error| panic!("{error}"));
        let folder = tempfile::tempdir().expect("a folder");
        let records = Records::of_everything();
        assert!(records.0.len() > 300, "{} records", records.0.len());
        records.write(&folder.path().join("records"));
        Self { argus, records, folder }
    }

    /// Which records `ra` keeps.
    fn of_ra(&self, expression: &str) -> Result<BTreeSet<u32>, String> {
        let file = self.folder.path().join("records");
        Ok(self.argus.ra_matching(&file, expression)?.into_iter().collect())
    }

    /// Which records only our filter keeps, and which only that of `ra`.
    fn differences(&self, ours: &str, theirs: &str) -> Result<[BTreeSet<u32>; 2], String> {
        let (ours, theirs) = (self.records.matching(ours)?, self.of_ra(theirs)?);
        let only = |some: &BTreeSet<u32>, others: &BTreeSet<u32>| {
            let only = some.difference(others).copied();
            only.filter(|sequence| !is_turned_round(&self.records.record(*sequence).0)).collect()
        };
        Ok([only(&ours, &theirs), only(&theirs, &ours)])
    }

    /// A few records in words.
    fn shown(&self, sequences: &BTreeSet<u32>) -> String {
        let shown = |sequence: &u32| {
            let key = self.records.record(*sequence).0.key;
            format!("{sequence} {:?} {} {}", key.kind, key.source_port, key.destination_port)
        };
        let some: Vec<_> = sequences.iter().take(4).map(shown).collect();
        format!("{} ({})", sequences.len(), some.join(", "))
    }

    /// Describes what is wrong with two filters that must keep the same records; `None` if nothing
    /// is.
    fn wrong(&self, ours: &str, theirs: &str) -> Option<String> {
        match self.differences(ours, theirs) {
            Err(error) => Some(format!("{ours}: {error}")),
            Ok([more, less]) if more.is_empty() && less.is_empty() => None,
            Ok([more, less]) => {
                Some(format!("{ours}: more: {}; less: {}", self.shown(&more), self.shown(&less)))
            }
        }
    }
}

/// Collects what is wrong with each item, many at a time.
fn wrong<T: Sync>(items: &[T], check: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let next = Mutex::new(items.iter());
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let item = next.lock().expect("no thread panics here").next();
                    let Some(item) = item else { break };
                    if let Some(text) = check(item) {
                        found.lock().expect("no thread panics here").push(text);
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panicked")
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} filters are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn filters_keep_what_ra_keeps() {
    let written = Written::new();
    let expressions: Vec<&str> = SAME.trim().split([';', '\n']).map(str::trim).collect();
    assert!(expressions.len() > 250, "{} expressions", expressions.len());
    assert_none(&wrong(&expressions, |expression| written.wrong(expression, expression)));
}

/// Terms joined at random, some by operands alone, which have the qualifiers of the term before.
#[test]
fn joined_terms_keep_what_ra_keeps() {
    let written = Written::new();
    let mut random = Random(1);
    let expressions: Vec<String> = (0..300).map(|_| random.expression(3)).collect();
    assert_none(&wrong(&expressions, |expression| written.wrong(expression, expression)));
}

/// Makes expressions. `ra` understands an operand alone behind a term that takes one.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    fn expression(&mut self, depth: u32) -> String {
        let mut text = String::new();
        for number in 0..=self.below(3) {
            if number > 0 {
                text += [" and ", " or ", " && ", " || "][self.below(4)];
            }
            text += ["", "", "", "not ", "! "][self.below(5)];
            if depth > 0 && self.below(3) == 0 {
                text = text + "(" + &self.expression(depth - 1) + ")";
                continue;
            }
            let (term, operands) = TERMS[self.below(TERMS.len())];
            text += term;
            for operand in operands.iter().take(self.below(3)) {
                text += [" and ", " or ", " and not ", " or ! "][self.below(4)];
                text += operand;
            }
        }
        text
    }
}

/// Each word has a condition of its own: most expressions keep some records, and not all.
#[test]
fn most_expressions_tell_records_apart() {
    let records = Records::of_everything();
    let expressions: Vec<&str> = SAME.trim().split([';', '\n']).map(str::trim).collect();
    let counts = expressions.iter().map(|expression| {
        records.matching(expression).unwrap_or_else(|error| panic!("{expression}: {error}")).len()
    });
    let telling = counts.filter(|count| (1..records.0.len()).contains(count)).count();
    assert!(telling * 4 > expressions.len() * 3, "{telling} of {}", expressions.len());
}

#[test]
fn filters_differ_from_ra_where_it_is_known() {
    let written = Written::new();
    let pairs: Vec<_> = DIFFERENT
        .iter()
        .flat_map(|known| known.expressions.iter().map(move |expression| (known, *expression)))
        .collect();
    let wrong = wrong(&pairs, |(known, expression)| {
        let [more, less] = match written.differences(expression, expression) {
            Ok(differences) => differences,
            Err(error) => return Some(format!("{expression}: {error}")),
        };
        let is_other = |sequence: &u32| {
            let (record, jitter) = written.records.record(*sequence);
            !(known.of)(record, jitter.as_ref())
        };
        let others: BTreeSet<u32> =
            more.union(&less).copied().filter(|sequence| is_other(sequence)).collect();
        if !others.is_empty() {
            return Some(format!("{expression}: {}, but {}", known.reason, written.shown(&others)));
        }
        let is_same = more.is_empty() && less.is_empty();
        is_same.then(|| format!("{expression}: to be removed from the list: {}", known.reason))
    });
    assert_none(&wrong);
}

#[test]
fn words_that_ra_lacks_have_the_same_meaning_as_its_own() {
    let written = Written::new();
    assert_none(&wrong(EXTENSIONS, |(ours, theirs)| {
        let of_ra = written.of_ra(ours);
        let is_known = of_ra.is_ok().then(|| format!("{ours}: ra knows it"));
        written.wrong(ours, theirs).or(is_known)
    }));
}

#[test]
fn mistakes_are_refused() {
    let written = Written::new();
    assert_none(&wrong(MISTAKES, |expression| {
        let is_mistake = RecordFilter::parse(expression, NameSource::BuiltIn).is_err();
        let is_for_ra = written.of_ra(expression).is_err();
        (!is_mistake || !is_for_ra).then(|| format!("{expression}: {is_mistake}, {is_for_ra}"))
    }));
}
