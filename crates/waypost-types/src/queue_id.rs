//! The name of an accepted message.

use std::fmt;
use std::str::FromStr;

/// The id that the 250 returns and logs, traces and the spool use: 64 bits, shown as 13 characters
/// of `0-9A-Z` without I, L, O and U (Crockford's base 32), so that ids made later sort later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct QueueId(u64);

/// The text is no queue id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no queue id; it has 13 characters such as `0F3Z9K2M4T7QA`")]
pub struct QueueIdError(String);

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl QueueId {
    /// An id from its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..13).rev() {
            let digit = usize::try_from(self.0 >> (place * 5) & 31).unwrap_or(0);
            let digit = DIGITS.get(digit).copied().unwrap_or(b'0');
            fmt::Write::write_char(f, char::from(digit))?;
        }
        Ok(())
    }
}

impl FromStr for QueueId {
    type Err = QueueIdError;

    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        let wrong = || QueueIdError(text.chars().take(32).filter(|c| !c.is_control()).collect());
        if text.len() != 13 {
            return Err(wrong());
        }
        let mut number: u64 = 0;
        for b in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == b.to_ascii_uppercase());
            let digit = digit.and_then(|d| u64::try_from(d).ok()).ok_or_else(wrong)?;
            number = number.checked_mul(32).and_then(|n| n.checked_add(digit)).ok_or_else(wrong)?;
        }
        Ok(Self(number))
    }
}

impl TryFrom<String> for QueueId {
    type Error = QueueIdError;

    fn try_from(text: String) -> Result<Self, QueueIdError> {
        text.parse()
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_parses_back_and_sorts() {
        let numbers = [0, 1, 31, 32, 1 << 40, u64::MAX];
        let shown: Vec<_> = numbers.iter().map(|n| QueueId::new(*n).to_string()).collect();
        assert!(shown.is_sorted());
        for (number, text) in numbers.iter().zip(&shown) {
            assert_eq!(text.parse(), Ok(QueueId::new(*number)));
        }
        assert!("ZZZZZZZZZZZZZ".parse::<QueueId>().is_err(), "above 64 bits");
        assert!("0".parse::<QueueId>().is_err());
        assert!("0F3Z9K2M4T7Q!".parse::<QueueId>().is_err());
    }
}
