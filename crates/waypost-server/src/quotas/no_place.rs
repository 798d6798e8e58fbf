//! Why a recipient has no place in the limits.

use std::fmt;

use waypost_relay::QuotaRefusal;
use waypost_types::Reply;

use crate::metrics::Reason;

/// Why a recipient has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// It is beyond a limit.
    Beyond(QuotaRefusal),
    /// Nobody can say, since Redis does not answer (O5).
    Unknown {
        /// What is wrong with it.
        because: Box<str>,
    },
}

impl NoPlace {
    pub(crate) fn reply(&self) -> Reply {
        match self {
            Self::Beyond(refusal) => refusal.reply(),
            // Not why: that is nothing for strangers.
            Self::Unknown { .. } => Reply::new(
                451,
                (4, 3, 0),
                "Relay quotas cannot be counted now; try again in some minutes (O5)",
            ),
        }
    }

    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Beyond(refusal) => refusal.limit.into(),
            Self::Unknown { .. } => Reason::QuotaUnknown,
        }
    }
}

impl From<QuotaRefusal> for NoPlace {
    fn from(refusal: QuotaRefusal) -> Self {
        Self::Beyond(refusal)
    }
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond(refusal) => refusal.fmt(f),
            Self::Unknown { because } => {
                write!(f, "relay quotas are shared over Redis, which cannot be asked: {because}")
            }
        }
    }
}
