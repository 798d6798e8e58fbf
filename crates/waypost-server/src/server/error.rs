//! Why a server does not start, or does not take a new policy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use waypost_net::dns::ResolverError;
use waypost_net::tls::PemError;
use waypost_store::CommitError;

use crate::front::FrontAddress;
use crate::inherited::InheritedError;

use crate::spool::SpoolError;

/// Why a server does not start, or does not take a new policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A listener cannot be bound.
    #[error(
        "listener \"{name}\" cannot listen on {address}: {source}; free that address or configure another"
    )]
    Bind {
        /// The listener, or `admin`.
        name: String,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A socket that was handed over is of no use.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// An address where Postfix is answered cannot be bound.
    #[error("{address} cannot be listened on: {source}; free that address or give another one")]
    Front {
        /// The address.
        address: FrontAddress,
        /// What the system said.
        source: io::Error,
    },
    /// There is no address where a mail server is answered.
    #[error(
        "there is nowhere to answer; give --policy, --socketmap, --tcp-table or --milter, such as \
         --policy 127.0.0.1:10030, or hand a socket over"
    )]
    Nowhere,
    /// A certificate or key is of no use.
    #[error("the TLS files of listener \"{name}\" are of no use: {source}")]
    Tls {
        /// The listener.
        name: String,
        /// Which file, and why.
        source: PemError,
    },
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The key of the draw cannot be read or made.
    #[error("{path} cannot be read or made: {source}")]
    DrawKey {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The command socket cannot be made.
    #[error("the command socket cannot be made in {spool}: {source}; check the folder's rights")]
    Control {
        /// The spool.
        spool: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No resolver can be made.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// A policy asks for SPF and DMARC, and nobody can find out what they say.
    #[error(
        "organization \"{0}\" has an `authenticate` that asks for SPF and DMARC (E2), which this \
         server cannot evaluate; build it with the feature `authenticate`, or set `authenticate = \
         \"off\"` and `internal_senders = \"from-header\"`"
    )]
    Authenticator(Box<str>),
    /// Quotas cannot be shared as the configuration says.
    #[error("`redis` in [server] cannot be used: {0}")]
    Sharing(#[from] waypost_redis::SettingsError),
    /// A new policy asks for what only a restart can give.
    #[error("{0} cannot change while the server runs; restart it")]
    NeedsRestart(&'static str),
    /// The change could not be written into the audit log, so it did not take effect.
    #[error("the audit log cannot be written: {0}")]
    Audit(#[from] CommitError),
}
