//! How a message comes in: behind DATA, or in the chunks of BDAT (RFC 3030).

use waypost_types::{Reply, Timestamp};

use super::super::command::{self, ChunkMarker};
use super::super::{CloseCause, Event, ResetCause};
use super::commands::out_of_order;
use super::{Phase, Question, Server, Transaction};
use crate::chunked::ChunkedReader;
use crate::end_of_data::DataFault;

/// Octets of a message that earn another `Timeouts::data`.
const STEP: u64 = 16 << 10;

impl Server {
    /// The octets of refused messages that are read to their end since the last accepted one. So much
    /// that whoever is refused hears it, and does not merely lose the connection; but not any number.
    fn most_discarded(&self) -> u64 {
        self.settings.limits.message_size.saturating_mul(8).saturating_add(1 << 20)
    }

    /// Octets behind DATA; returns how many it took.
    pub(super) fn data(&mut self, now: Timestamp, rest: &[u8]) -> usize {
        let most = self.most_discarded();
        let Phase::Data { reader } = &mut self.phase else { return 0 };
        let before = reader.octets_read();
        let used = reader.read(at_most(rest, most.saturating_sub(before)));
        let after = reader.octets_read();
        if reader.is_complete() {
            if let Phase::Data { reader } = std::mem::replace(&mut self.phase, Phase::Command) {
                match reader.finish() {
                    Ok(data) => self.ask(Question::Message, Event::Message(data)),
                    Err(fault) => self.refuse_message(now, fault),
                }
            }
        } else if after >= most {
            let limit = self.settings.limits.message_size;
            let reply = DataFault::TooBig { limit }.reply();
            self.close(CloseCause::TooManyErrors, Some(&reply));
        } else if before / STEP != after / STEP {
            self.rearm(now);
        }
        used
    }

    /// BDAT. Whatever its reply, as many octets as it names are no commands.
    pub(super) fn bdat(&mut self, now: Timestamp, octets: u64, marker: ChunkMarker) {
        let last = match marker {
            ChunkMarker::More => false,
            ChunkMarker::Last => true,
            ChunkMarker::Unknown => {
                let reply = command::arguments("Behind the number of BDAT only LAST may stand");
                return self.refuse_chunk(now, octets, reply);
            }
        };
        let limit = self.settings.limits.message_size;
        let transaction = match &mut self.transaction {
            None => {
                let reply = out_of_order("Give MAIL and RCPT before BDAT");
                return self.refuse_chunk(now, octets, reply);
            }
            Some(Transaction { recipients: 0, .. }) => {
                let text = "No recipient was accepted; give RCPT before BDAT";
                return self.refuse_chunk(now, octets, Reply::new(554, (5, 5, 1), text));
            }
            Some(transaction) => transaction,
        };
        let first = transaction.chunks.is_none();
        let reader = transaction.chunks.get_or_insert_with(|| Box::new(ChunkedReader::new(limit)));
        reader.begin(octets);
        if let Some(fault) = reader.fault() {
            self.end_transaction(ResetCause::Message(fault));
            return self.discard(now, octets, fault.reply());
        }
        if octets == 0 && !last && !self.idle() {
            return;
        }
        self.phase = Phase::Chunk { octets, last };
        if first {
            self.ask(Question::Chunk, Event::Data);
        } else {
            self.chunk_begins(now);
        }
    }

    /// The octets of a chunk are awaited, if there are any.
    pub(super) fn chunk_begins(&mut self, now: Timestamp) {
        self.rearm(now);
        if let Phase::Chunk { octets: 0, .. } = self.phase {
            self.chunk_ends(now);
        }
    }

    /// The application wants no message: the rest of its chunk is passed over.
    pub(super) fn chunk_unwanted(&mut self, now: Timestamp, reply: Reply) {
        let Phase::Chunk { octets, .. } = self.phase else { return };
        self.phase = Phase::Command;
        self.transaction = None;
        self.discard(now, octets, reply);
    }

    /// Octets of a chunk; returns how many it took.
    pub(super) fn chunk(&mut self, now: Timestamp, rest: &[u8]) -> usize {
        let chunks = self.transaction.as_mut().and_then(|open| open.chunks.as_mut());
        let Some(reader) = chunks else { return 0 };
        let before = reader.left();
        let used = reader.read(rest);
        let after = reader.left();
        if after == 0 {
            self.chunk_ends(now);
        } else if before / STEP != after / STEP {
            self.rearm(now);
        }
        used
    }

    fn chunk_ends(&mut self, now: Timestamp) {
        let Phase::Chunk { octets, last } = self.phase else { return };
        self.phase = Phase::Command;
        let Some(transaction) = &mut self.transaction else { return };
        let fault = transaction.chunks.as_ref().and_then(|reader| reader.fault());
        match (fault, last) {
            (Some(fault), _) => self.refuse_message(now, fault),
            (None, false) => {
                let reply = Reply::new(250, (2, 0, 0), &format!("{octets} octets taken"));
                self.say(now, &reply);
            }
            (None, true) => match transaction.chunks.take().map(|reader| reader.finish()) {
                Some(Ok(data)) => self.ask(Question::Message, Event::Message(data)),
                Some(Err(fault)) => self.refuse_message(now, fault),
                None => {}
            },
        }
    }

    fn refuse_message(&mut self, now: Timestamp, fault: DataFault) {
        self.end_transaction(ResetCause::Message(fault));
        self.pass_on(now, &fault.reply());
        self.after_reply();
    }

    /// A chunk out of order. It is no error of form: more may be on their way when one is refused
    /// (RFC 3030 section 2).
    fn refuse_chunk(&mut self, now: Timestamp, octets: u64, reply: Reply) {
        self.tally.fruitless += 1;
        self.note(&reply);
        self.discard(now, octets, reply);
    }

    /// Passes over so many octets, then says this.
    fn discard(&mut self, now: Timestamp, octets: u64, reply: Reply) {
        if octets == 0 {
            return self.pass_on(now, &reply);
        }
        self.phase = Phase::Discard { left: octets, reply };
        self.rearm(now);
    }

    /// Octets of a refused chunk; returns how many it took.
    pub(super) fn discarded(&mut self, now: Timestamp, rest: &[u8]) -> usize {
        let most = self.most_discarded();
        let before = self.tally.discarded;
        let Phase::Discard { left, reply } = &mut self.phase else { return 0 };
        let used = at_most(rest, most.saturating_sub(before).min(*left)).len();
        let count = u64::try_from(used).unwrap_or(u64::MAX);
        *left -= count;
        self.tally.discarded += count;
        let done = *left == 0;
        if done || self.tally.discarded >= most {
            let reply = reply.clone();
            self.phase = Phase::Command;
            if done {
                self.pass_on(now, &reply);
                self.after_reply();
            } else {
                self.close(CloseCause::TooManyErrors, Some(&reply));
            }
        } else if before / STEP != self.tally.discarded / STEP {
            self.rearm(now);
        }
        used
    }
}

fn at_most(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    bytes.get(..most).unwrap_or(bytes)
}
