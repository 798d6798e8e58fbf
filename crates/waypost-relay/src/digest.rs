//! Who is counted, as 128 bits.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use siphasher::sip128::{Hasher128, SipHasher13};
use waypost_types::Mailbox;

/// 128 bits of keyed SipHash: two senders or recipients with one digest will not be met, and nobody
/// without the key can make them. Never 0, which marks a free place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u128);

impl Digest {
    /// A user of an organization.
    pub(crate) fn of_user(key: [u8; 16], organization: &str, user: &Mailbox) -> Self {
        let mut gathered = Gathered::new(key);
        organization.hash(&mut gathered);
        user.hash(&mut gathered);
        gathered.digest()
    }

    /// A recipient of this user: the same recipient of another user is another one.
    pub(crate) fn of_recipient(self, key: [u8; 16], recipient: &Mailbox) -> Self {
        let mut gathered = Gathered::new(key);
        gathered.write(&self.to_octets());
        recipient.hash(&mut gathered);
        gathered.digest()
    }

    /// One of `count` shards; from other bits than [`Digest::place`].
    pub(crate) fn shard(self, count: usize) -> usize {
        usize::try_from(self.0 & 0xFFFF_FFFF).unwrap_or_default() % count
    }

    /// 64 bits that say where in a table to look first.
    pub(crate) fn place(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The same of a digest's octets.
    pub(crate) fn place_of(octets: [u8; 16]) -> u64 {
        Self(u128::from_ne_bytes(octets)).place()
    }

    pub(crate) fn to_octets(self) -> [u8; 16] {
        self.0.to_ne_bytes()
    }
}

/// Octets for a hasher that is slow at many small pieces.
struct Gathered {
    hasher: SipHasher13,
    octets: [u8; 192],
    end: usize,
}

impl Gathered {
    fn new(key: [u8; 16]) -> Self {
        Self { hasher: SipHasher13::new_with_key(&key), octets: [0; 192], end: 0 }
    }

    fn pass_on(&mut self) {
        self.hasher.write(self.octets.get(..self.end).unwrap_or_default());
        self.end = 0;
    }

    fn digest(mut self) -> Digest {
        self.pass_on();
        Digest(self.hasher.finish128().as_u128().max(1))
    }
}

impl Hasher for Gathered {
    fn write(&mut self, octets: &[u8]) {
        if self.end + octets.len() > self.octets.len() {
            self.pass_on();
        }
        match self.octets.get_mut(self.end..self.end + octets.len()) {
            Some(room) => {
                room.copy_from_slice(octets);
                self.end += octets.len();
            }
            None => self.hasher.write(octets),
        }
    }

    fn finish(&self) -> u64 {
        0
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.place());
    }
}

/// Hands a digest's own bits to a hash map.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestBits(u64);

impl Hasher for DigestBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(*octet);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }
}

pub(crate) type DigestBuild = BuildHasherDefault<DigestBits>;
