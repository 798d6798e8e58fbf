//! An SMTP and LMTP peer on loopback that fails as it is told: for tests of whatever sends mail.
//!
//! **In:** a [`Script`]: what the peer offers, its certificate, and a table of faults, one line a
//! fault. **Out:** a running [`Peer`], and what it saw, as values: [`Session`]s with their commands
//! and each transaction as a [`Received`]. Certificates, good ones and bad ones, come from an
//! [`Authority`].
//!
//! | fault | line of the script |
//! | --- | --- |
//! | 421 at the banner | `.at(Phase::Banner, Act::reply("421 4.3.2 Full"))` |
//! | dropped behind the final dot | `.at(Phase::End, Act::Drop)` |
//! | dropped in mid-message | `.at(Phase::Content, Act::Drop)` |
//! | greylisted once | `.first(1, Phase::Rcpt, Act::reply("450 4.2.0 Later"))` |
//! | one recipient refused | `.when(Phase::Rcpt, "<full@", Act::reply("452 4.2.2 Full"))` |
//! | silent until told | `.at(Phase::Mail, Act::Stall)`, then [`Peer::release`] |
//! | half a reply | `.at(Phase::Data, Act::Cut(2))`, or [`Act::CutAndStall`] |
//! | a reply that does not end | `.at(Phase::Hello, Act::Flood { lines: 10_000, octets: 512 })` |
//! | STARTTLS refused | `.at(Phase::StartTls, Act::reply("454 4.7.0 Not now"))` |
//! | broken handshake | `.at(Phase::Handshake, Act::Bytes(b"no TLS\r\n".to_vec()))` |
//! | wrong certificate | `.starttls(&authority.flawed(Flaw::Expired, "mx.example")?)` |
//!
//! A [`FakeMilter`] is a filter that answers by what stands in a message, and fails as it is told.
//!
//! The peer runs on threads of its own, so it serves blocking and asynchronous tests alike. Where the
//! code under test runs on the test's own thread, ask [`Peer::received`], which does not wait.
//!
//! **Units:** octets, [`Duration`](std::time::Duration). **Bounds:** it is for tests: one thread a
//! connection, and all that comes is kept in memory. It listens on loopback alone; it ends when it is
//! dropped. **Errors:** [`std::io::Error`] when there is no port or no certificate.
//! **Source:** RFC 5321, 2033 (LMTP), 3030 (CHUNKING), 3207 (STARTTLS).
//!
//! **Not here:** a full server: it judges nothing that a script does not judge, and checks no syntax.
//!
//! # Example
//!
//! ```
//! use waypost_net::client::{ConnectSettings, Hop, Pool, PoolLimits};
//! use waypost_net::test_kit::{Act, Phase, Script};
//! use waypost_net::tls::TlsPolicy;
//! use waypost_smtp::client::{Message, SharedBytes, Transaction};
//! use waypost_types::{HostPort, MailParameters, Mailbox, Outcome, ReversePath};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let peer = Script::new()
//!     .lacks("8BITMIME")
//!     .when(Phase::Rcpt, "<slow@", Act::reply("450 4.2.0 Greylisted"))
//!     .start()?;
//!
//! let pool = Pool::new(ConnectSettings::new("us.example".parse()?), PoolLimits::default());
//! let at = HostPort::parse_or("mx.example", peer.address().port())?;
//! let transaction = Transaction {
//!     sender: ReversePath::Null,
//!     parameters: MailParameters::default(),
//!     recipients: vec![
//!         "fast@mx.example".parse::<Mailbox>()?.into(),
//!         "slow@mx.example".parse::<Mailbox>()?.into(),
//!     ],
//!     message: Message::new([SharedBytes::new("Subject: x\r\n\r\n..\r\n")])?,
//! };
//! let hop = Hop::new(at, TlsPolicy::opportunistic());
//! let outcomes = pool.deliver(&hop, &[peer.address().ip()], transaction).await;
//! assert!(matches!(outcomes[..], [Outcome::Delivered { .. }, Outcome::Deferred(_)]));
//!
//! let received = peer.received();
//! assert_eq!(received[0].recipients, ["fast@mx.example"]);
//! assert_eq!(received[0].content, b"Subject: x\r\n\r\n.\r\n", "without the stuffed dot");
//! # Ok(())
//! # })
//! # }
//! ```

mod certificate;
mod milter;
mod peer;
mod record;
mod script;
mod talk;
mod wire;

pub use certificate::{Authority, Flaw, Identity};
pub use milter::{Asked, FakeMilter, MilterAnswer, MilterFault, MilterPhase, MilterScript};
pub use peer::Peer;
pub use record::{Framing, Received, Session};
pub use script::{Act, Phase, Script};
