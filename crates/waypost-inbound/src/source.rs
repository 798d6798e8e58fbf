//! The source IP of a message, and why it is that one.

use std::net::IpAddr;

/// Where a message came from (E3 to E5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Source {
    /// The source IP; `None` for an internal message.
    #[cfg_attr(feature = "serde", serde(rename = "source_ip"))]
    pub ip: Option<IpAddr>,
    /// The rule that chose it.
    pub because: Because,
    /// Whether an SPF check of `ip` is due. Not for an internal message (E4), a private previous hop
    /// (E5), or a gateway's own address (E2), which is what a fall-back gives.
    pub spf: bool,
}

impl Source {
    /// The source where no gateway is configured: the client itself (E3).
    #[must_use]
    pub fn of_client(client: IpAddr) -> Self {
        Self { ip: Some(client.to_canonical()), because: Because::NotFromGateway, spf: true }
    }
}

/// The rule that chose a source IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Because {
    /// No gateway is configured, or the client is none: its own address (E3).
    NotFromGateway,
    /// The first public address that is not in the list (E4).
    FirstExternal,
    /// The hop before the gateway, listed or not (E5).
    PreviousHop,
    /// A line was not understood, or is missing, and nothing else was found: the client's address
    /// (E4, E5).
    NothingReadable,
    /// Every line was understood and none is external (E4).
    Internal,
}

impl Because {
    /// The word for it: `first-external`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFromGateway => "not-from-gateway",
            Self::FirstExternal => "first-external",
            Self::PreviousHop => "previous-hop",
            Self::NothingReadable => "nothing-readable",
            Self::Internal => "internal",
        }
    }
}

/// Whether the header holds the receiving server's own line for this connection (E5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OwnLine {
    /// Not yet: a live session.
    Absent,
    /// The first `Received: from` line is our own, whatever it says.
    Present,
    /// The first `Received: from` line is our own if its address is the client's: a stored message.
    #[default]
    FindOut,
}

/// A `Received: from` line that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct HopReport {
    /// The line's client, if it could be read.
    pub ip: Option<IpAddr>,
    /// Why the line was passed over; `None`: it is the one chosen.
    pub skipped: Option<Skipped>,
}

/// The `Received: from` lines that were looked at, newest first, without our own.
///
/// However long a header is, its table is short: the first [`Hops::MOST`] lines and the one chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hops {
    /// The lines that are listed; the last one is the one chosen, if one was.
    pub listed: Vec<HopReport>,
    /// How many more were passed over after the first [`Hops::MOST`].
    pub left_out: usize,
}

impl Hops {
    /// So many lines are listed; a header of the mail that people send has fewer than fifty.
    pub const MOST: usize = 1000;

    pub(crate) fn add(&mut self, hop: HopReport) {
        if self.listed.len() < Self::MOST || hop.skipped.is_none() {
            self.listed.push(hop);
        } else {
            self.left_out += 1;
        }
    }
}

/// Why a line was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Skipped {
    /// Its address is in the list of gateways.
    Gateway,
    /// Its address is not public.
    Private,
    /// Its address could not be read.
    Unreadable,
}

impl Skipped {
    /// The word for it: `gateway`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Private => "private",
            Self::Unreadable => "unreadable",
        }
    }
}
