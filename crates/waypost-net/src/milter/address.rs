//! Where a filter listens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use waypost_types::{HostError, HostPort};

/// Where a filter listens, as `milter:127.0.0.1:11332`, `milter:[::1]:11332`,
/// `milter:rspamd.example:11332` or `milter:unix:/run/rspamd/milter.sock`; it is shown in the same form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MilterAddress(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Tcp(HostPort),
    Unix(PathBuf),
}

/// The text is no address of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MilterAddressError {
    /// It does not begin with `milter:`.
    #[error(
        "`{0}` is no filter; write `milter:127.0.0.1:11332` or `milter:unix:/run/rspamd/milter.sock`"
    )]
    Scheme(String),
    /// The path of the socket is not absolute, or too long for the system (107 octets).
    #[error(
        "`{0}` is no path of a socket; write an absolute one of at most 107 octets, such as \
         `milter:unix:/run/rspamd/milter.sock`"
    )]
    Path(String),
    /// There is no port.
    #[error("`{0}` has no port; write it behind the host, as in `milter:127.0.0.1:11332`")]
    Port(String),
    /// The host or the port is none.
    #[error("`{text}`: {source}")]
    Host {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        source: HostError,
    },
}

/// The longest path of a socket, in octets: what `sun_path` takes on Linux, without its NUL.
const MAX_PATH: usize = 107;

impl MilterAddress {
    /// A TCP port.
    #[must_use]
    pub fn tcp(at: HostPort) -> Self {
        Self(Place::Tcp(at))
    }

    /// A Unix socket. A path that the system does not take fails when it is connected to.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Place::Unix(path.into()))
    }

    /// The socket's path, if the filter listens on one: a file that the server needs.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Tcp(_) => None,
            Place::Unix(path) => Some(path),
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.0
    }
}

impl FromStr for MilterAddress {
    type Err = MilterAddressError;

    fn from_str(text: &str) -> Result<Self, MilterAddressError> {
        let scheme = || MilterAddressError::Scheme(text.to_owned());
        let at = text.strip_prefix("milter:").ok_or_else(scheme)?;
        if let Some(path) = at.strip_prefix("unix:") {
            if !path.starts_with('/') || path.len() > MAX_PATH || path.contains('\0') {
                return Err(MilterAddressError::Path(text.to_owned()));
            }
            return Ok(Self(Place::Unix(path.into())));
        }
        let host = |source| MilterAddressError::Host { text: text.to_owned(), source };
        let found = HostPort::parse_or(at, 0).map_err(host)?;
        if found.port == 0 {
            return Err(MilterAddressError::Port(text.to_owned()));
        }
        Ok(Self(Place::Tcp(found)))
    }
}

impl fmt::Display for MilterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Tcp(at) => write!(f, "milter:{at}"),
            Place::Unix(path) => write!(f, "milter:unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_d17() {
        for (text, ok) in [
            ("milter:127.0.0.1:11332", true),
            ("milter:[::1]:11332", true),
            ("milter:rspamd.example:11332", true),
            ("milter:unix:/run/rspamd/milter.sock", true),
            ("milter:unix:run/milter.sock", false),
            ("milter:127.0.0.1", false),
            ("milter:127.0.0.1:0", false),
            ("milter:127.0.0.1:70000", false),
            ("milter:::1", false),
            ("milter:", false),
            ("127.0.0.1:11332", false),
            ("inet:11332@localhost", false),
        ] {
            let read = text.parse::<MilterAddress>();
            assert_eq!(read.is_ok(), ok, "{text}: {read:?}");
            if let Ok(read) = read {
                assert_eq!(read.to_string(), text);
            }
        }
        let long = format!("milter:unix:/{}", "x".repeat(107));
        assert!(matches!(long.parse::<MilterAddress>(), Err(MilterAddressError::Path(_))));
    }
}
