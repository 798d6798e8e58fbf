//! The number that decides the order of hosts for one message.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use siphasher::sip::SipHasher24;
use waypost_types::{Domain, QueueId, RouteName};

/// One draw for a message and a route, shared by all recipients and all attempts (A9).
///
/// SipHash-2-4 of the queue id and the route's name without case, under a key that the caller keeps:
/// whoever has key and queue id can compute it again, so an explanation reproduces what was done.
/// Uniform over 64 bits. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct Draw(u64);

impl Draw {
    /// The draw of a message over a route. Bounds: allocates nothing.
    #[must_use]
    pub fn new(key: [u8; 16], message: QueueId, route: &RouteName) -> Self {
        let mut hash = SipHasher24::new_with_key(&key);
        hash.write(&message.number().to_le_bytes());
        hash.write(b"route");
        let mut utf8 = [0; 4];
        for c in route.folded() {
            hash.write(c.encode_utf8(&mut utf8).as_bytes());
        }
        Self(hash.finish())
    }

    /// The draw of a message over the MX hosts of a recipient's domain, where no route is named.
    #[must_use]
    pub fn for_domain(key: [u8; 16], message: QueueId, domain: &Domain) -> Self {
        let mut hash = SipHasher24::new_with_key(&key);
        hash.write(&message.number().to_le_bytes());
        hash.write(b"domain");
        hash.write(domain.as_str().as_bytes());
        Self(hash.finish())
    }

    /// The draw with this value, as an explanation shows it.
    #[must_use]
    pub const fn from_value(value: u64) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The numbers that follow from this draw for one `purpose`: the first one is the value itself
    /// for purpose 0, so the first host drawn can be told from the value by hand.
    pub(crate) fn numbers(self, purpose: u64) -> Numbers {
        let state = match purpose {
            0 => self.0,
            _ => mix(self.0 ^ mix(purpose)),
        };
        Numbers { next: state, state }
    }
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is no draw.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no draw; copy its 16 hexadecimal digits, such as `6c21e73a27888a7d` (A9)")]
pub struct DrawError(());

impl FromStr for Draw {
    type Err = DrawError;

    fn from_str(text: &str) -> Result<Self, DrawError> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(DrawError(()));
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| DrawError(()))
    }
}

impl TryFrom<String> for Draw {
    type Error = DrawError;

    fn try_from(text: String) -> Result<Self, DrawError> {
        text.parse()
    }
}

impl From<Draw> for String {
    fn from(draw: Draw) -> String {
        draw.to_string()
    }
}

/// A stream of numbers (`SplitMix64`). Not secret: secrecy lies in the key of the draw.
pub(crate) struct Numbers {
    next: u64,
    state: u64,
}

impl Numbers {
    /// A number below `end`, each equally likely but for a bias under 2^-50; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        let number = self.next;
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.next = mix(self.state);
        // The product's upper half is below `end`, which fits.
        u32::try_from((u128::from(number) * u128::from(end)) >> 64).unwrap_or(0)
    }
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RouteName {
        text.parse().unwrap()
    }

    #[test]
    fn depends_on_key_message_and_folded_route_a9() {
        let draw = Draw::new([7; 16], QueueId::new(1), &name("Edge"));
        assert_eq!(draw, Draw::new([7; 16], QueueId::new(1), &name("eDGE ")));
        assert_ne!(draw, Draw::new([8; 16], QueueId::new(1), &name("Edge")));
        assert_ne!(draw, Draw::new([7; 16], QueueId::new(2), &name("Edge")));
        assert_ne!(draw, Draw::new([7; 16], QueueId::new(1), &name("Edge2")));
        assert_eq!(draw, Draw::from_value(draw.value()));
    }

    #[test]
    fn text_form_parses_back_a9() {
        for value in [0, 1, 0x6c21_e73a_2788_8a7d, u64::MAX] {
            let draw = Draw::from_value(value);
            assert_eq!(draw.to_string().parse(), Ok(draw));
        }
        for wrong in ["", "1", "+c21e73a27888a7d", "6c21e73a27888a7g", "06c21e73a27888a7d"] {
            assert!(wrong.parse::<Draw>().is_err(), "{wrong}");
        }
    }

    /// The values must never change: mail in the queue and old explanations hold on to them.
    #[test]
    fn values_stay_the_same_a9() {
        let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        for (id, route, want) in [
            (0, "edge", "6c21e73a27888a7d"),
            (1, "edge", "0fd20e5317258223"),
            (u64::MAX, "Échange", "edcae9c412d7ddc6"),
        ] {
            assert_eq!(Draw::new(key, QueueId::new(id), &name(route)).to_string(), want);
        }
        let mut numbers = Draw::from_value(0x8000_0000_0000_0000).numbers(0);
        assert_eq!([numbers.below(100), numbers.below(100), numbers.below(100)], [50, 28, 76]);
    }
}
