//! Urgent records that found no room in the queue. They are kept here and offered again at the
//! beginning of each scan, in their order, until the queue accepts them.

use arrayvec::ArrayVec;
use panoptes_records::json::Full;
use panoptes_records::queue::{Producer, RecordClass};
use panoptes_records::record::RECORD_BYTES_MAX;
use panoptes_tables::room;

/// Room in bytes: a few dozen alerts, beside the reserved blocks of the queue.
const BYTES: usize = 128 * 1024;
const _: () = assert!(BYTES >= RECORD_BYTES_MAX, "the longest record has room");
/// Maximum number of records.
const RECORDS_MAX: usize = 256;

/// Records that wait for room in the queue, the oldest first.
#[derive(Debug)]
pub(super) struct UndeliveredRecords {
    bytes: Box<[u8]>,
    used: usize,
    /// Length in bytes and class of each.
    records: ArrayVec<(usize, RecordClass), RECORDS_MAX>,
}

impl UndeliveredRecords {
    pub(super) fn new() -> Self {
        let bytes = room::copies(0, BYTES);
        Self { bytes, used: 0, records: ArrayVec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Passes on the records for which the queue has room now.
    pub(super) fn offer(&mut self, out: &mut Producer) {
        let (mut passed, mut start) = (0, 0);
        for &(length, class) in &self.records {
            let record = &self.bytes[start..start + length];
            let offered = out.offer_with(class, |room| {
                room.get_mut(..length).ok_or(Full)?.copy_from_slice(record);
                Ok(length)
            });
            if offered.is_err() {
                break;
            }
            passed += 1;
            start += length;
        }
        self.records.drain(..passed);
        self.bytes.copy_within(start..self.used, 0);
        self.used -= start;
    }

    /// Drops all; returns their number.
    pub(super) fn clear(&mut self) -> usize {
        self.used = 0;
        self.records.drain(..).count()
    }

    /// Keeps one more record, which `write` writes.
    pub(super) fn keep(
        &mut self,
        class: RecordClass,
        write: impl FnOnce(&mut [u8]) -> Result<usize, Full>,
    ) -> Result<(), Full> {
        if self.records.is_full() {
            return Err(Full);
        }
        let length = write(&mut self.bytes[self.used..])?;
        self.records.push((length, class));
        self.used += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use panoptes_records::queue::{Consumer, QueueSize, Waker, queue};

    use super::*;

    fn urgent() -> RecordClass {
        RecordClass { is_urgent: true, is_alert: true, ..RecordClass::default() }
    }

    fn keep(undelivered: &mut UndeliveredRecords, record: &[u8]) -> Result<(), Full> {
        undelivered.keep(urgent(), |room| {
            room.get_mut(..record.len()).ok_or(Full)?.copy_from_slice(record);
            Ok(record.len())
        })
    }

    fn drain(consumer: &mut Consumer) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(block) = consumer.pop() {
            all.extend(block.iter().map(|record| String::from_utf8_lossy(record).into_owned()));
            consumer.give_back(block);
        }
        all
    }

    #[test]
    fn records_are_offered_in_their_order_until_the_queue_accepts_them() {
        let size = QueueSize { blocks: 4, block_bytes: 32 };
        let (mut producer, mut consumer) = queue(size, &Waker::default());
        let mut undelivered = UndeliveredRecords::new();
        let records: Vec<_> = (0..50).map(|number| format!("record {number:02}")).collect();
        for record in &records {
            keep(&mut undelivered, record.as_bytes()).unwrap();
        }
        let mut seen = Vec::new();
        for _ in 0..20 {
            undelivered.offer(&mut producer);
            producer.flush();
            seen.extend(drain(&mut consumer));
        }
        assert_eq!(seen, records);
        assert!(undelivered.is_empty() && undelivered.used == 0);
        assert_eq!(producer.refused(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut undelivered = UndeliveredRecords::new();
        assert_eq!(keep(&mut undelivered, &vec![b'x'; BYTES + 1]), Err(Full));
        for _ in 0..RECORDS_MAX {
            keep(&mut undelivered, b"record").unwrap();
        }
        assert_eq!(keep(&mut undelivered, b"record"), Err(Full));
    }
}
