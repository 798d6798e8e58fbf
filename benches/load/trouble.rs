//! What can go wrong before there is a figure.

use std::io;
use std::path::PathBuf;

/// Why nothing was measured; each text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(
        "there is no program {0}; build it with `cargo build --release --bin waypost`, or name it with --waypost"
    )]
    NoWaypost(PathBuf),
    #[error(
        "there is no Postfix at {0}; install it, or unpack it with `scripts/bench --peers` \
         (`apt-get download postfix && dpkg -x postfix_*.deb ROOT`) and name it with --postfix ROOT"
    )]
    NoPostfix(PathBuf),
    #[error("Postfix is started by root alone; run this as root, or without --postfix")]
    NotRoot,
    #[error("Postfix needs the user {0}; `useradd --system --no-create-home {0}`")]
    NoUser(&'static str),
    #[error("Postfix needs the group {0}; `groupadd --system {0}`")]
    NoGroup(&'static str),
    #[error(
        "{0} may not be entered by Postfix's user; `chmod o+x {0}`, or name another place with --dir"
    )]
    Closed(PathBuf),
    #[error(
        "{dir} is on {kind}, which is no disk: nothing is synced there; name a place on a disk with --dir"
    )]
    NoDisk { dir: PathBuf, kind: String },
    #[error("{name} ended with {status} before it accepted mail; the last of {log}:\n{tail}")]
    Ended { name: &'static str, status: String, log: PathBuf, tail: String },
    #[error("{name} did not greet on {address} within {seconds} s; the last of {log}:\n{tail}")]
    Silent {
        name: &'static str,
        address: std::net::SocketAddr,
        seconds: u64,
        log: PathBuf,
        tail: String,
    },
    #[error(
        "{sessions} sessions need {needed} open files, and {allowed} are allowed; `ulimit -Hn {needed}`, or fewer --sessions"
    )]
    Files { sessions: usize, needed: u64, allowed: u64 },
    #[error(
        "{file} has no block between `<!-- {name} -->` and `<!-- /{name} -->`; put both lines where the table belongs"
    )]
    NoBlock { file: PathBuf, name: String },
    #[error("no results of benches in {0}; run `cargo bench -p waypost-benches` first")]
    NoResults(PathBuf),
    #[error("{0}")]
    Certificate(String),
}

/// An [`io::Error`] with what was being done.
pub(crate) trait Doing<T> {
    /// Names it.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Trouble>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Trouble> {
        self.map_err(|source| Trouble::Io { what: what(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Trouble> {
        self.map_err(|error| Trouble::Io { what: what(), source: error.into() })
    }
}
