//! What is to be written: command bytes of our own, and pieces of messages that are only lent.

use std::collections::VecDeque;

use super::message::SharedBytes;

enum Chunk {
    Own(Vec<u8>),
    Shared(SharedBytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Own(bytes) => bytes,
            Chunk::Shared(bytes) => bytes.as_bytes(),
        }
    }
}

/// A queue of bytes with two counters, so that a moment in the stream is a number.
#[derive(Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Chunk>,
    /// Octets of the first chunk that are gone.
    offset: usize,
    queued: u64,
    sent: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.queued += wide(bytes.len());
        match self.chunks.back_mut() {
            Some(Chunk::Own(last)) => last.extend_from_slice(bytes),
            _ => self.chunks.push_back(Chunk::Own(bytes.to_vec())),
        }
    }

    pub(super) fn push_shared(&mut self, bytes: &SharedBytes) {
        let length = bytes.as_bytes().len();
        if length > 0 {
            self.queued += wide(length);
            self.chunks.push_back(Chunk::Shared(bytes.clone()));
        }
    }

    /// Octets ever queued.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// Octets ever sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut offset = self.offset;
        self.chunks.iter().map(move |chunk| {
            let rest = chunk.bytes().get(offset..).unwrap_or_default();
            offset = 0;
            rest
        })
    }

    pub(super) fn advance(&mut self, count: usize) {
        let mut left = count;
        while let Some(first) = self.chunks.front() {
            let rest = first.bytes().len().saturating_sub(self.offset);
            if left < rest {
                self.offset += left;
                self.sent += wide(left);
                return;
            }
            left -= rest;
            self.sent += wide(rest);
            self.offset = 0;
            self.chunks.pop_front();
        }
    }

    /// Drops what was not sent.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
        self.offset = 0;
        self.queued = self.sent;
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
