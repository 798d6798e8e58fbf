//! What a peer does against the protocol.

use crate::field::FieldError;

/// What a peer did against the protocol: what came, the rule, and the cure.
///
/// After a fault nothing more can be understood on that connection; close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A frame that is too long.
    #[error(
        "a frame of {octets} octets came, and {limit} are the most that is taken; see that a milter \
         listens at that address, and let it send less at a time"
    )]
    FrameTooLong {
        /// Its length, as it says.
        octets: u32,
        /// The limit.
        limit: u32,
    },
    /// A frame without its letter.
    #[error("a frame of no octets came, and each has a letter that says what it is; mend the peer")]
    FrameEmpty,
    /// A letter that means nothing in this direction.
    #[error("a frame `{0}` came, and the protocol knows no such one here; mend the peer")]
    Unknown(char),
    /// What stands in a frame is not what its letter promises.
    #[error("a frame `{frame}` came with `{came}`: {rule}; mend the peer")]
    Payload {
        /// The frame's name.
        frame: &'static str,
        /// The beginning of what came.
        came: Box<str>,
        /// The rule broken.
        rule: &'static str,
    },
    /// A field that could not be written into a header.
    #[error("a frame `{frame}` came, but {source}")]
    Field {
        /// The frame's name.
        frame: &'static str,
        /// What is wrong with the field.
        source: FieldError,
    },
    /// A version of the protocol that was not offered.
    #[error(
        "version {came} of the protocol was asked for, and 2 to {offered} are spoken; mend the peer"
    )]
    Version {
        /// The version that came.
        came: u32,
        /// The highest one spoken.
        offered: u32,
    },
    /// Steps were asked for that were not offered, so that nobody could know who speaks next.
    #[error("the steps {asked:#x} were asked for, and {offered:#x} offered; mend the peer")]
    Steps {
        /// The bits asked for and not known.
        asked: u32,
        /// The bits offered.
        offered: u32,
    },
    /// A frame at the wrong time.
    #[error("a frame `{came}` came {when}, where it has no place; mend the peer")]
    OutOfPlace {
        /// The frame's name.
        came: &'static str,
        /// When it came, as `in answer to RCPT`.
        when: Box<str>,
    },
    /// More of something than is taken.
    #[error("more than {limit} {what} came; mend the peer, or let it do less")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// The beginning of what came, fit to be shown on a line.
pub(crate) fn excerpt(bytes: &[u8]) -> Box<str> {
    let head = bytes.get(..60).unwrap_or(bytes);
    let mut shown = head.escape_ascii().to_string();
    if bytes.len() > head.len() {
        shown.push('…');
    }
    shown.into()
}
