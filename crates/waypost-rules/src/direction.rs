//! Which way a message goes, seen from an organization.

use std::fmt;

/// The direction of a message for one recipient (C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From an external sender to us.
    Inbound,
    /// From us to an external recipient.
    Outbound,
    /// Between our own addresses, seen from the sender.
    InternalSending,
    /// Between our own addresses, seen from the recipient.
    InternalReceiving,
}

impl Direction {
    /// All four.
    pub const ALL: [Direction; 4] = [
        Direction::Inbound,
        Direction::Outbound,
        Direction::InternalSending,
        Direction::InternalReceiving,
    ];

    /// The word used in configuration and explanations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::InternalSending => "internal-sending",
            Direction::InternalReceiving => "internal-receiving",
        }
    }

    /// Whether unit and account are those of the sender (C4, C8).
    #[must_use]
    pub fn is_outgoing(self) -> bool {
        matches!(self, Direction::Outbound | Direction::InternalSending)
    }

    fn bit(self) -> u8 {
        1 << self.place()
    }

    /// Its place in [`Direction::ALL`].
    pub(crate) fn place(self) -> u8 {
        match self {
            Direction::Inbound => 0,
            Direction::Outbound => 1,
            Direction::InternalSending => 2,
            Direction::InternalReceiving => 3,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of directions: what a rule affects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions(u8);

impl Directions {
    /// Inbound alone.
    pub const INBOUND: Directions = Directions(1);

    /// Whether the direction is in the set.
    #[must_use]
    pub fn contains(self, direction: Direction) -> bool {
        self.0 & direction.bit() != 0
    }

    /// The directions in the set, in the order of [`Direction::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Direction> {
        Direction::ALL.into_iter().filter(move |direction| self.contains(*direction))
    }

    /// Whether the set is empty; a rule that affects nothing is a configuration error (C2).
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the set holds outgoing directions and no others (B2).
    #[must_use]
    pub fn is_outgoing_only(self) -> bool {
        !self.is_empty() && self.iter().all(Direction::is_outgoing)
    }
}

impl FromIterator<Direction> for Directions {
    fn from_iter<I: IntoIterator<Item = Direction>>(directions: I) -> Self {
        Self(directions.into_iter().fold(0, |set, direction| set | direction.bit()))
    }
}

impl fmt::Display for Directions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, direction) in self.iter().enumerate() {
            write!(f, "{}{direction}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
