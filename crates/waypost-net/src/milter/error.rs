//! Why a filter gave no verdict.

use std::io;
use std::time::Duration;

use super::MilterAddress;

/// Why a filter gave no verdict. What follows for the message is the caller's; a 451 loses nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Nobody could be reached there.
    #[error(
        "the filter {address} cannot be reached: {source}; start it, or set `[server] filter` to where \
         it listens"
    )]
    Connect {
        /// The filter.
        address: MilterAddress,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody answered the connection in time.
    #[error(
        "the filter {address} took no connection within {after:?}; see whether it runs, and whether a \
         firewall stands between"
    )]
    ConnectTime {
        /// The filter.
        address: MilterAddress,
        /// The time that it was given.
        after: Duration,
    },
    /// There was no verdict in time.
    #[error(
        "the filter {address} gave no verdict within {after:?}: it owed {owed}; see its log, give it \
         more workers, or more time"
    )]
    Time {
        /// The filter.
        address: MilterAddress,
        /// The time that it was given.
        after: Duration,
        /// What it owed an answer to.
        owed: Box<str>,
    },
    /// All connections were busy for all of the time.
    #[error(
        "the filter {address} was busy with {at_once} other messages for {after:?}; give it more \
         workers, or allow more connections at once"
    )]
    Busy {
        /// The filter.
        address: MilterAddress,
        /// How many messages it may have at once.
        at_once: usize,
        /// The time that was waited.
        after: Duration,
    },
    /// The connection ended in mid-dialogue.
    #[error("the filter {address} broke off: {source} while it owed {owed}; see its log")]
    Lost {
        /// The filter.
        address: MilterAddress,
        /// What it owed an answer to.
        owed: Box<str>,
        /// What the system says.
        source: io::Error,
    },
    /// It does not keep to the protocol.
    #[error("the filter {address} does not keep to the milter protocol: {fault}")]
    Fault {
        /// The filter.
        address: MilterAddress,
        /// What came, the rule, and the cure.
        fault: waypost_milter::Fault,
    },
}
