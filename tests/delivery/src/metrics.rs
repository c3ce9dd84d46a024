//! What Panoptes counts itself: its metrics, over HTTP on loopback.

use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;

use panoptes_bounded as bounded;

/// Its metrics at one time.
#[derive(Debug)]
pub(crate) struct Metrics(String);

/// Its samples begin with this.
const DROPPED: &str = "panoptes_output_dropped_total{output=\"";

impl Metrics {
    /// Asks for them.
    pub(crate) fn ask(port: u16) -> io::Result<Self> {
        let mut stream = bounded::connect((Ipv4Addr::LOCALHOST, port))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.starts_with("HTTP/1.1 200 ") => Ok(Self(page.to_owned())),
            _ => Err(io::Error::other(format!("no metrics: {answer:.80}"))),
        }
    }

    /// How many records of the output have reached the kernel, or were confirmed.
    pub(crate) fn written(&self, output: &str) -> io::Result<usize> {
        self.value(&format!("panoptes_output_records_total{{output=\"{output}\"}}"))
    }

    /// How many records the output has dropped.
    pub(crate) fn dropped(&self, output: &str) -> io::Result<usize> {
        self.value(&format!("{DROPPED}{output}\"}}"))
    }

    /// How many records each output has dropped.
    pub(crate) fn dropped_by_output(&self) -> impl Iterator<Item = (String, usize)> {
        self.0.lines().filter_map(|line| {
            let (output, records) = line.strip_prefix(DROPPED)?.rsplit_once("\"} ")?;
            Some((output.to_owned(), records.parse().ok()?))
        })
    }

    /// How many records found no room in the queues to the outputs.
    pub(crate) fn refused(&self) -> io::Result<usize> {
        self.value("panoptes_queue_dropped_total")
    }

    fn value(&self, sample: &str) -> io::Result<usize> {
        let rest = |line| str::strip_prefix(line, sample)?.strip_prefix(' ');
        let value = self.0.lines().find_map(rest).and_then(|value| value.parse().ok());
        value.ok_or_else(|| io::Error::other(format!("no metric {sample} in\n{}", self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_value() {
        let page = "# TYPE panoptes_output_records_total counter\n\
                    panoptes_output_records_total{output=\"/log/events.jsonl\"} 17\n\
                    panoptes_output_dropped_total{output=\"/log/events.jsonl\"} 3\n\
                    panoptes_queue_dropped_total 5\n";
        let metrics = Metrics(page.to_owned());
        assert_eq!(metrics.written("/log/events.jsonl").ok(), Some(17));
        assert_eq!(metrics.dropped("/log/events.jsonl").ok(), Some(3));
        let all: Vec<_> = metrics.dropped_by_output().collect();
        assert_eq!(all, [("/log/events.jsonl".to_owned(), 3)]);
        assert_eq!(metrics.refused().ok(), Some(5));
        assert!(metrics.written("/log/events").is_err());
    }
}
