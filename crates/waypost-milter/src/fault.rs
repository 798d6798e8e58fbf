//! What a peer does against the protocol.

/// What a peer did against the protocol: what came, the rule, and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A frame that is too long.
    #[error(
        "a frame of {octets} octets came, and {limit} are the most that is taken; send less at a time"
    )]
    FrameTooLong {
        /// Its length, as it says.
        octets: u32,
        /// The limit.
        limit: u32,
    },
}
