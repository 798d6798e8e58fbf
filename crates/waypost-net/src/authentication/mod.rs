//! Finding out what SPF, DKIM and DMARC say about a message (E2).
//!
//! **In:** a message as it is stored, and a [`Question`] for each source that it may have come from.
//! **Out:** an [`Authentication`] for each question, in their order; what follows from it is
//! `waypost-auth`'s.
//!
#![cfg_attr(feature = "authenticate", doc = "[`MailAuthenticator`]")]
#![cfg_attr(not(feature = "authenticate"), doc = "`MailAuthenticator` (feature `authenticate`)")]
//! asks the name servers of a [`SystemResolver`](crate::dns::SystemResolver), and shares its cache.
//!
//! **Units:** [`Duration`](std::time::Duration). **Bounds:** time for a message as a whole, messages at
//! a time, signatures, names that a signature covers, header fields; the ten lookups of RFC 7208 section
//! 4.6.4 for SPF, of which two may find nothing ([`crate::spf`]), and the eight names of RFC 9989 section 4.10 for each author. No message is copied.
//! **Errors:** none: what cannot be found out is a `temperror`. **Source:** E2; RFC 7208, RFC 6376, RFC
//! 9989.
//!
//! **Not here:** DNSSEC, ARC, reports to domains.

#[cfg(feature = "authenticate")]
mod body;
#[cfg(feature = "authenticate")]
mod mail_auth;
#[cfg(feature = "authenticate")]
mod signatures;

use std::future::Future;
use std::pin::Pin;

use waypost_auth::{Authentication, Question};
use waypost_smtp::client::SharedBytes;

#[cfg(feature = "authenticate")]
pub use mail_auth::{AuthenticationLimits, MailAuthenticator};

/// What an [`Authenticator`] hands back: boxed, so that it can stand behind `dyn`.
pub type AuthenticationFuture<'a> = Pin<Box<dyn Future<Output = Vec<Authentication>> + Send + 'a>>;

/// Finds out what SPF, DKIM and DMARC say.
pub trait Authenticator: Send + Sync {
    /// An answer for each question, in their order. `message` is dot-stuffed, as it is stored. Time is
    /// bounded: what is not known by then is a `temperror`.
    fn authenticate(
        &self,
        message: SharedBytes,
        questions: Vec<Question>,
    ) -> AuthenticationFuture<'_>;
}
