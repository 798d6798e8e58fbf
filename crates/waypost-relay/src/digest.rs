//! Who is counted, as 128 bits.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::IpAddr;

use siphasher::sip128::{Hasher128, SipHasher13};
use waypost_types::{Host, Mailbox};

/// 128 bits of keyed SipHash: two senders or recipients with one digest will not be met, and nobody
/// without the key can make them.
///
/// Each level is the key of the next: the ledger's key of organizations, an organization of its users, a
/// user of its recipients. So the same recipient of another user is another one, and an address is hashed
/// alone. What is hashed begins with the lengths of its parts, so two addresses never look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u128);

/// Bits that [`Digest::shard`] is made of, and that the rest of a digest does without.
pub(crate) const SHARD_BITS: u32 = 10;

impl Digest {
    pub(crate) fn of_organization(key: [u8; 16], name: &str) -> Self {
        let mut words = Words::new(u128::from_le_bytes(key));
        words.write_length(name.len(), 0, 0);
        words.write(name.as_bytes());
        words.digest()
    }

    /// A user of this organization, or a recipient of this user.
    pub(crate) fn of_mailbox(self, mailbox: &Mailbox) -> Self {
        let local_part = mailbox.local_part();
        if local_part.is_ascii() {
            self.of_parts(local_part, mailbox.host())
        } else {
            let folded: String = local_part.chars().flat_map(char::to_lowercase).collect();
            self.of_parts(&folded, mailbox.host())
        }
    }

    #[inline(always)]
    /// Upper-case letters of ASCII count as lower-case ones.
    fn of_parts(self, local_part: &str, host: &Host) -> Self {
        let mut words = Words::new(self.0);
        match host {
            Host::Name(name) => {
                let name = name.as_str().as_bytes();
                words.write_length(local_part.len(), name.len(), 0);
                words.write(name);
            }
            Host::Ip(IpAddr::V4(ip)) => {
                words.write_length(local_part.len(), 4, 1);
                words.write(&ip.octets());
            }
            Host::Ip(IpAddr::V6(ip)) => {
                words.write_length(local_part.len(), 16, 1);
                words.write(&ip.octets());
            }
        }
        words.write_folded(local_part.as_bytes());
        words.digest()
    }

    /// One of `count` shards, at most 1024; from other bits than the rest.
    pub(crate) fn shard(self, count: usize) -> usize {
        (self.0 as usize & ((1 << SHARD_BITS) - 1)) % count
    }

    /// An octet other than 0, from other bits than the rest.
    pub(crate) fn tag(self) -> u8 {
        ((self.0 >> SHARD_BITS) as u8).max(1)
    }

    /// 64 bits that say where in a table to look first.
    pub(crate) fn place(self) -> u64 {
        (self.0 >> 64) as u64
    }

    pub(crate) fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The upper half, which is never 0, and the lower one.
    pub(crate) fn halves(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }

    pub(crate) fn bits(self) -> u128 {
        self.0
    }
}

/// A hasher that is fed whole words.
struct Words(SipHasher13);

impl Words {
    #[inline(always)]
    fn new(key: u128) -> Self {
        Self(SipHasher13::new_with_keys(key as u64, (key >> 64) as u64))
    }

    #[inline(always)]
    fn write_length(&mut self, first: usize, second: usize, kind: u64) {
        self.0.write_u64((first as u64) << 32 | (second as u64) << 8 | kind);
    }

    #[inline(always)]
    fn write(&mut self, octets: &[u8]) {
        let (words, rest) = octets.as_chunks();
        for word in words {
            self.0.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.0.write_u64(last(octets, rest));
        }
    }

    #[inline(always)]
    fn write_folded(&mut self, octets: &[u8]) {
        let (words, rest) = octets.as_chunks();
        for word in words {
            self.0.write_u64(folded(u64::from_le_bytes(*word)));
        }
        if !rest.is_empty() {
            self.0.write_u64(folded(last(octets, rest)));
        }
    }

    #[inline(always)]
    /// The upper half is never 0, so a table may mark a free place so.
    fn digest(self) -> Digest {
        Digest(self.0.finish128().as_u128().max(1 << 64))
    }
}

#[inline(always)]
/// The octets of `rest`, with which `octets` ends, as a word.
fn last(octets: &[u8], rest: &[u8]) -> u64 {
    match octets.last_chunk() {
        Some(word) => u64::from_le_bytes(*word) >> (64 - 8 * rest.len()),
        None => rest.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet)),
    }
}

#[inline(always)]
/// Eight octets at once: upper-case letters of ASCII become lower-case ones.
fn folded(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7F * EACH);
    let from_a = low + (0x80 - u64::from(b'A')) * EACH;
    let past_z = low + (0x7F - u64::from(b'Z')) * EACH;
    let upper = from_a & !past_z & !word & (0x80 * EACH);
    word | upper >> 2
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(mailbox: &Mailbox) -> Digest {
        Digest::of_organization([1; 16], "Solarmora").of_mailbox(mailbox)
    }

    #[test]
    fn equal_mailboxes_have_one_digest_and_others_another() {
        for (left, right, equal) in [
            ("marie@a.example", "MARIE@A.example", true),
            ("marie@a.example", "maria@a.example", false),
            ("marie.claire.long@a.example", "Marie.Claire.LONG@a.example", true),
            ("marie.claire.long@a.example", "marie.claire.lonh@a.example", false),
            ("a@b.example", "ab@.example".trim_start_matches("ab@."), false),
            ("ab@c.example", "a@bc.example", false),
            ("a@b.example", "a@b.example.example", false),
            ("[a]@b.example", "{a}@b.example", false),
            ("a@[192.0.2.1]", "a@[192.0.2.2]", false),
            ("a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", false),
            ("\u{212a}@b.example", "k@b.example", true),
            ("É@b.example", "é@b.example", true),
            ("é@b.example", "e@b.example", false),
        ] {
            let (Ok(left), Ok(right)) = (left.parse::<Mailbox>(), right.parse::<Mailbox>()) else {
                continue;
            };
            assert_eq!(left == right, equal, "{left} {right}");
            assert_eq!(digest(&left) == digest(&right), equal, "{left} {right}");
        }
    }

    #[test]
    fn each_level_counts_for_itself() {
        let marie: Mailbox = "marie@a.example".parse().unwrap();
        let [one, other] =
            ["one", "other"].map(|name| Digest::of_organization([1; 16], name).of_mailbox(&marie));
        assert_ne!(one, other);
        assert_ne!(one.of_mailbox(&marie), other.of_mailbox(&marie));
        assert_ne!(one.of_mailbox(&marie), one);
        assert_ne!(
            Digest::of_organization([2; 16], "one"),
            Digest::of_organization([1; 16], "one")
        );
    }

    proptest! {
        #[test]
        fn digests_agree_with_equality(
            left in "[a-cA-C.éÉ]{1,20}@[ab]{1,9}\\.example",
            right in "[a-cA-C.éÉ]{1,20}@[ab]{1,9}\\.example",
            upper in any::<bool>(),
        ) {
            let Ok(left) = left.parse::<Mailbox>() else { return Ok(()) };
            let right = if upper { left.to_string().to_uppercase() } else { right };
            let Ok(right) = right.parse::<Mailbox>() else { return Ok(()) };
            prop_assert_eq!(left == right, digest(&left) == digest(&right));
        }

        #[test]
        fn folding_eight_octets_is_folding_each(octets in any::<[u8; 8]>()) {
            let want = octets.map(|octet| octet.to_ascii_lowercase());
            prop_assert_eq!(folded(u64::from_le_bytes(octets)), u64::from_le_bytes(want));
        }
    }
}
