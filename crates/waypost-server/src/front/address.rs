//! Where Postfix finds a front end.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A TCP address, or a Unix socket: `127.0.0.1:10030`, `[::1]:10030`, `unix:/run/waypost/policy`. The
/// prefix `inet:`, which Postfix writes, may stand before the former.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontAddress {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket, with the rights of [`SocketRights`](super::SocketRights).
    Unix(PathBuf),
}

/// The text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address; write 127.0.0.1:10030 or unix:/run/waypost/policy")]
pub struct FrontAddressError(String);

impl FrontAddress {
    /// Whether the system is to choose the port.
    pub(super) fn is_any_port(&self) -> bool {
        matches!(self, Self::Tcp(at) if at.port() == 0)
    }
}

impl FromStr for FrontAddress {
    type Err = FrontAddressError;

    fn from_str(text: &str) -> Result<Self, FrontAddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(FrontAddress::Unix(path.into()));
        }
        let address = text.strip_prefix("inet:").unwrap_or(text).parse();
        address
            .map(FrontAddress::Tcp)
            .map_err(|_| FrontAddressError(text.chars().take(200).collect()))
    }
}

impl fmt::Display for FrontAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrontAddress::Tcp(at) => at.fmt(f),
            FrontAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("127.0.0.1:10030", "127.0.0.1:10030"),
            ("inet:127.0.0.1:10030", "127.0.0.1:10030"),
            ("[::1]:0", "[::1]:0"),
            ("unix:/run/waypost/policy", "unix:/run/waypost/policy"),
        ] {
            assert_eq!(text.parse::<FrontAddress>().unwrap().to_string(), shown);
        }
        for wrong in ["", "127.0.0.1", "localhost:1", "unix:policy", "unix:", "/run/policy"] {
            assert!(wrong.parse::<FrontAddress>().is_err(), "{wrong}");
        }
    }
}
