//! Sizes in octets as the configuration writes them.

/// A number of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Size {
    /// Reads a whole number and a unit: `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`; case counts not.
    ///
    /// A blank between them is allowed. `None` for anything else, or when it does not fit 64 bits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at_checked(digits)?;
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let (_, octets) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
        number.parse::<u64>().ok()?.checked_mul(*octets).map(Self)
    }

    /// The shortest form in binary units.
    pub(crate) fn show(self) -> String {
        let exact =
            UNITS.iter().take(3).find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => format!("{}{name}", self.0 / unit),
            None => format!("{}B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        for (text, want) in [
            ("50MiB", Some(52_428_800)),
            ("50 mib", Some(52_428_800)),
            ("1MB", Some(1_000_000)),
            ("10B", Some(10)),
            ("1GiB", Some(1 << 30)),
            ("50", None),
            ("50M", None),
            ("", None),
            ("MiB", None),
            ("-1MiB", None),
            ("1.5MiB", None),
            ("99999999999999999GiB", None),
        ] {
            assert_eq!(Size::parse(text), want.map(Size), "{text:?}");
        }
        assert_eq!(Size(52_428_800).show(), "50MiB");
        assert_eq!(Size(1_000).show(), "1000B");
    }
}
