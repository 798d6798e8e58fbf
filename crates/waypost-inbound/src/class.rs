//! What each byte can mean in a trace line, looked up instead of compared.

use std::ops::BitOr;

/// A set of byte classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class(u16);

impl Class {
    /// No class.
    pub(crate) const NONE: Self = Self(0);
    /// Blank, tab, CR, LF.
    pub(crate) const BLANK: Self = Self(1);
    /// `(` and `)`.
    pub(crate) const PARENTHESIS: Self = Self(1 << 1);
    /// `[`.
    pub(crate) const OPEN: Self = Self(1 << 2);
    /// `]`.
    pub(crate) const CLOSE: Self = Self(1 << 3);
    pub(crate) const BACKSLASH: Self = Self(1 << 4);
    pub(crate) const SEMICOLON: Self = Self(1 << 5);
    pub(crate) const COMMA: Self = Self(1 << 6);
    pub(crate) const QUOTE: Self = Self(1 << 7);
    pub(crate) const AT: Self = Self(1 << 8);
    pub(crate) const COLON: Self = Self(1 << 9);
    pub(crate) const EQUALS: Self = Self(1 << 10);
    /// `<`.
    pub(crate) const LESS: Self = Self(1 << 11);
    pub(crate) const SLASH: Self = Self(1 << 12);
    pub(crate) const DOT: Self = Self(1 << 13);

    const TABLE: [Self; 256] = Self::table();

    const fn table() -> [Self; 256] {
        let mut table = [Self::NONE; 256];
        let mut rest: &mut [Self] = &mut table;
        let mut byte = 0_u8;
        while let [slot, tail @ ..] = rest {
            *slot = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => Self::BLANK,
                b'(' | b')' => Self::PARENTHESIS,
                b'[' => Self::OPEN,
                b']' => Self::CLOSE,
                b'\\' => Self::BACKSLASH,
                b';' => Self::SEMICOLON,
                b',' => Self::COMMA,
                b'"' => Self::QUOTE,
                b'@' => Self::AT,
                b':' => Self::COLON,
                b'=' => Self::EQUALS,
                b'<' => Self::LESS,
                b'/' => Self::SLASH,
                b'.' => Self::DOT,
                _ => Self::NONE,
            };
            rest = tail;
            byte = byte.wrapping_add(1);
        }
        table
    }

    /// The class of a byte; none for letters, digits and whatever else means nothing by itself.
    pub(crate) fn of(byte: u8) -> Self {
        Self::TABLE.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// Both sets together.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two sets share a class.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// How many bytes at the head of `text` are in none of the classes `stop`, and which they are in.
    pub(crate) fn run(text: &[u8], stop: Self) -> (usize, Self) {
        let mut seen = Self::default();
        for (i, byte) in text.iter().enumerate() {
            let class = Self::of(*byte);
            if class.meets(stop) {
                return (i, seen);
            }
            seen = seen | class;
        }
        (text.len(), seen)
    }
}

impl BitOr for Class {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}
