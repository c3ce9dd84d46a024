//! What was sent and is not confirmed.

use std::collections::VecDeque;

use super::message::MessageBatch;

/// Messages in the order in which they were sent over one connection.
#[derive(Debug)]
pub(super) struct Flight {
    messages: VecDeque<SentMessage>,
    /// Where the last one ends: in bytes of the stream, or in datagrams.
    end: u64,
    /// Datagrams that the kernel refused and that were counted.
    refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct SentMessage {
    batch: MessageBatch,
    end: u64,
    is_acknowledged: bool,
}

/// More than can lie between the backlog and a receiver: buffers of 512 KiB.
const MESSAGES_MAX: usize = 4096;

impl Flight {
    pub(super) fn new() -> Self {
        Self { messages: VecDeque::with_capacity(MESSAGES_MAX), end: 0, refused: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() == MESSAGES_MAX
    }

    /// Adds a message of so many bytes, or a datagram.
    pub(super) fn push(&mut self, batch: MessageBatch, size: u64) {
        self.end += size;
        // An empty batch is not sent, so it needs no answer.
        let is_acknowledged = batch.records == 0;
        self.messages.push_back(SentMessage { batch, end: self.end, is_acknowledged });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the message that was sent first has arrived and lacks only its acknowledgement.
    pub(super) fn is_overdue(&self, arrived: u64) -> bool {
        let first = self.messages.front();
        first.is_some_and(|sent| sent.batch.chunk.is_some() && sent.end <= arrived)
    }

    /// The message that was sent first.
    pub(super) fn first(&self) -> Option<MessageBatch> {
        self.messages.front().map(|sent| sent.batch)
    }

    /// Notes that the receiver has answered the message that was sent first, and takes so many of
    /// its records never; returns how many it had of them.
    pub(super) fn answer_first(&mut self, refused: u64) -> u64 {
        let Some(SentMessage { batch, is_acknowledged, .. }) = self.messages.front_mut() else {
            return 0;
        };
        let refused = refused.min(batch.records);
        batch.records -= refused;
        batch.left_out += refused;
        *is_acknowledged = true;
        refused
    }

    /// Notes that the receiver has a message.
    pub(super) fn acknowledge(&mut self, chunk: u64) {
        let of_chunk = |sent: &&mut SentMessage| sent.batch.chunk == Some(chunk);
        if let Some(sent) = self.messages.iter_mut().find(of_chunk) {
            sent.is_acknowledged = true;
        }
    }

    /// Removes the messages before this place, and before the first one that still has to be
    /// acknowledged. Returns them as one.
    pub(super) fn confirm(&mut self, arrived: u64) -> Option<MessageBatch> {
        let mut all = None;
        let is_over = |sent: &&SentMessage| {
            sent.end <= arrived && (sent.is_acknowledged || sent.batch.chunk.is_none())
        };
        while let Some(SentMessage { batch, .. }) = self.messages.front().filter(is_over).copied() {
            let MessageBatch { records, left_out, .. } = all.unwrap_or_default();
            let (records, left_out) = (records + batch.records, left_out + batch.left_out);
            all = Some(MessageBatch { records, left_out, ..batch });
            self.messages.pop_front();
        }
        all
    }

    /// Notes the number of refused datagrams of this connection, and returns by how many it has
    /// grown.
    pub(super) fn newly_refused(&mut self, refused: u64) -> u64 {
        refused - std::mem::replace(&mut self.refused, refused)
    }

    /// Begins a connection.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        (self.end, self.refused) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_confirmed_whole_and_in_order() {
        let of =
            |sequence, records, left_out| MessageBatch { sequence, records, left_out, chunk: None };
        let mut flight = Flight::new();
        flight.push(of(3, 1, 0), 10);
        flight.push(of(5, 0, 1), 0);
        flight.push(of(6, 1, 0), 20);
        assert_eq!(flight.confirm(9), None);
        assert_eq!(flight.confirm(29), Some(of(5, 1, 1)));
        assert_eq!(flight.confirm(30), Some(of(6, 1, 0)));
        flight.clear();
        assert_eq!(flight.newly_refused(2), 2);
        assert_eq!(flight.newly_refused(3), 1);
    }

    #[test]
    fn a_message_waits_for_its_acknowledgement_and_for_those_before_it() {
        let of = |chunk| MessageBatch {
            sequence: 10 * chunk,
            records: 4,
            left_out: 0,
            chunk: Some(chunk),
        };
        let mut flight = Flight::new();
        for chunk in 1..=3 {
            flight.push(of(chunk), 100);
        }
        assert!(!flight.is_overdue(99) && flight.is_overdue(100));
        flight.acknowledge(2);
        flight.acknowledge(9);
        assert_eq!(flight.confirm(300), None);
        flight.acknowledge(1);
        assert_eq!(flight.confirm(300), Some(MessageBatch { records: 8, ..of(2) }));
        assert_eq!(flight.confirm(300), None);
    }
}
