//! The versions of TLS, by name.

use std::fmt;

/// A version of TLS that a session can have here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
    /// Another one.
    Other,
}

impl TlsVersion {
    /// The version by the name that the TLS library gives it, such as `TLSv1_3`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "TLSv1_2" => Self::V1_2,
            "TLSv1_3" => Self::V1_3,
            _ => Self::Other,
        }
    }

    /// Such as `TLSv1.3`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
