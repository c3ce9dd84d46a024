//! What servers of DNS have told their clients: passive DNS.
//!
//! A row is a server, a client, a name, a record type and an answer, however often they come. All
//! rows are reported at intervals, and the table begins anew. It does so early if it is full: then
//! a row may be reported more than once in an interval, but nothing is lost.

use std::net::IpAddr;

use panoptes_decoders::application::dns::{Data, DnsMessage, DomainName};
use panoptes_records::flow::NameResolution;
use panoptes_tables::{HashIndex, HashKey, room};

use super::dns::{self, DATA_TEXT_MAX};
use crate::reports::Reports;

/// The most rows.
const ROWS_MAX: usize = 1 << 16;
/// The most bytes of all names and answers.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// The parts of a [`NameResolution`] whose texts are in the table.
#[derive(Clone, Copy, Debug)]
struct ResolutionRow {
    /// With empty texts.
    resolution: NameResolution<'static>,
    hash: u64,
    begin: u32,
    name_length: u16,
    answer_length: u16,
}

/// What was seen since the last report.
#[derive(Debug)]
pub(super) struct PassiveDns {
    key: HashKey,
    index: HashIndex,
    rows: Vec<ResolutionRow>,
    texts: Vec<u8>,
    /// How often the table was full.
    pub(super) overflows: u64,
}

/// Server and client of a DNS message, and its time in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) server: IpAddr,
    pub(super) client: IpAddr,
    pub(super) is_known_server: Option<bool>,
    pub(super) time_ns: i64,
}

impl PassiveDns {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            key: key.derive("passive DNS"),
            index: HashIndex::new(ROWS_MAX),
            rows: room::list(ROWS_MAX),
            texts: room::list(TEXT_BYTES_MAX),
            overflows: 0,
        }
    }

    /// Takes a response.
    pub(super) fn add(
        &mut self,
        message: &DnsMessage<'_>,
        exchange: &Exchange,
        reports: &mut impl Reports,
    ) {
        let mut one = NameResolution {
            server: exchange.server,
            client: exchange.client,
            is_known_server: exchange.is_known_server,
            name: &[],
            kind: 0,
            answer: &[],
            response_code: message.response_code(),
            count: 1,
            first_ns: exchange.time_ns,
            last_ns: exchange.time_ns,
        };
        let (mut name, mut answer) = ([0; DATA_TEXT_MAX], [0; DATA_TEXT_MAX]);
        let mut is_empty = true;
        for record in message.answers().take(dns::LOOKED_AT_MAX) {
            is_empty = false;
            let length = dns::text(&record, &mut answer).len();
            let answer = &mut answer[..length];
            if !matches!(record.data, Data::Txt(_)) {
                answer.make_ascii_lowercase();
            }
            let (name, kind) = (lower(record.name, &mut name), record.kind);
            self.count(&NameResolution { name, kind, answer, ..one }, reports);
        }
        if let Some(question) = message.question().filter(|_| is_empty) {
            (one.name, one.kind) = (lower(question.name, &mut name), question.kind);
            self.count(&one, reports);
        }
    }

    fn count(&mut self, one: &NameResolution<'_>, reports: &mut impl Reports) {
        let hash = self.hash(one);
        if let Some(row) = self.find(hash, one) {
            let known = &mut self.rows[row as usize].resolution;
            known.count += 1;
            known.first_ns = known.first_ns.min(one.first_ns);
            known.last_ns = known.last_ns.max(one.last_ns);
            return;
        }
        let length = one.name.len() + one.answer.len();
        let is_full = self.rows.len() == ROWS_MAX || self.texts.len() + length > TEXT_BYTES_MAX;
        if is_full || !self.index.insert(hash, self.rows.len() as u32) {
            self.overflows += 1;
            self.report(reports);
            // There is room in an empty table.
            let _ = self.index.insert(hash, 0);
        }
        self.rows.push(ResolutionRow {
            resolution: NameResolution { name: &[], answer: &[], ..*one },
            hash,
            begin: self.texts.len() as u32,
            name_length: one.name.len() as u16,
            answer_length: one.answer.len() as u16,
        });
        self.texts.extend_from_slice(one.name);
        self.texts.extend_from_slice(one.answer);
    }

    fn hash(&self, one: &NameResolution<'_>) -> u64 {
        let address = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let [server, client] = [one.server, one.client].map(address);
        self.key.hash_numbers([
            server as u64,
            (server >> 64) as u64,
            client as u64,
            (client >> 64) as u64,
            u64::from(one.kind) << 8 | u64::from(one.response_code),
            self.key.hash(one.name),
            self.key.hash(one.answer),
        ])
    }

    fn find(&self, hash: u64, one: &NameResolution<'_>) -> Option<u32> {
        self.index.find(hash, |number| {
            let row = &self.rows[number as usize];
            let known = &row.resolution;
            row.hash == hash
                && (known.server, known.client) == (one.server, one.client)
                && (known.kind, known.response_code) == (one.kind, one.response_code)
                && self.texts(row) == (one.name, one.answer)
        })
    }

    fn texts(&self, row: &ResolutionRow) -> (&[u8], &[u8]) {
        let texts = &self.texts[row.begin as usize..];
        let (name, rest) = texts.split_at(usize::from(row.name_length));
        (name, &rest[..usize::from(row.answer_length)])
    }

    /// Reports all rows, and begins anew.
    pub(super) fn report(&mut self, reports: &mut impl Reports) {
        for row in &self.rows {
            let (name, answer) = self.texts(row);
            reports.resolved(&NameResolution { name, answer, ..row.resolution });
        }
        self.rows.clear();
        self.texts.clear();
        self.index.clear();
    }
}

/// A name in lower case: names that differ in nothing else are equal (RFC 4343).
fn lower<'a>(name: DomainName<'_>, buffer: &'a mut [u8; DATA_TEXT_MAX]) -> &'a [u8] {
    let length = name.write(buffer).map_or(0, str::len);
    let text = &mut buffer[..length];
    text.make_ascii_lowercase();
    text
}
