//! The milter protocol of mail filters, both sides, as state machines without I/O.
//!
//! **For:** servers that ask filters such as rspamd, and filters. **Begin with:**
//! [`client::Client::ask`] on the server's side, [`server::Server`] on the filter's.
//!
//! **In:** a [`FilterQuestion`] about one message, and what a filter sends, in chunks of any size; for
//! the filter's side, what a server sends. **Out:** octets for the peer, and a [`FilterVerdict`] with its
//! because ([`client`]); for the filter's side, [`Command`]s ([`server`]).
//!
//! **Units:** octets. **Bounds:** one frame of 1 MiB at most, and [`client::Limits`] on what a filter may
//! change; nothing of a message is copied but the piece that is being sent. Time is linear. **Errors:**
//! [`Fault`]: what a peer did against the protocol; after it the connection is of no use. Whatever text
//! of a filter goes on is checked: a [`FieldName`] and a [`FieldValue`] inject nothing. **Source:** D17,
//! E2; the protocol of Sendmail 8.14's libmilter, versions 2 to 6, as its servers and filters speak it.
//!
//! **Not here:** sockets and time limits (`waypost-net` has them); what to do about a verdict.
//!
//! # Features
//!
//! - `serde`: `Serialize` and `Deserialize` for verdicts.
//!
//! # Example
//!
//! ```
//! use waypost_milter::client::{Client, Limits};
//! use waypost_milter::server::Server;
//! use waypost_milter::{
//!     Actions, Command, FieldName, FieldValue, FilterAction, FilterQuestion, HeaderEdit,
//!     Modification, Response, Steps,
//! };
//! use waypost_types::{Domain, Mailbox, ReversePath};
//!
//! let (own, to): (Domain, Mailbox) = ("mx.example".parse()?, "marie@solarmora.com".parse()?);
//! let text = b"Subject: x\r\n\r\nGTUBE\r\n";
//! let mut question =
//!     FilterQuestion::new(&own, "192.0.2.1".parse()?, &ReversePath::Null, [&to], text);
//! question.source_ip = Some("198.51.100.7".parse()?);
//!
//! // Both sides, with two buffers for a network.
//! let (mut to_filter, mut to_server) = (Vec::new(), Vec::new());
//! let mut filter = Server::new(Actions::ADD_HEADERS, Steps::default());
//! let mut client = Client::new(Limits::default());
//! let mut dialogue = client.ask(&question);
//! let verdict = loop {
//!     dialogue.write(&mut to_filter);
//!     filter.handle_bytes(&std::mem::take(&mut to_filter));
//!     while let Some(command) = filter.next(&mut to_server)? {
//!         let is_last = matches!(command, Command::EndOfMessage(_));
//!         if is_last {
//!             assert_eq!(filter.fact("client_addr"), Some(&b"198.51.100.7"[..]));
//!             let (name, value) = (FieldName::new("X-Spam")?, FieldValue::new("Yes")?);
//!             let edit = Modification::Header(HeaderEdit::Add { name, value });
//!             filter.answer(&Response::Modify(edit), &mut to_server)?;
//!         }
//!         filter.answer(&Response::Continue, &mut to_server)?;
//!     }
//!     dialogue.handle_bytes(&std::mem::take(&mut to_server))?;
//!     if let Some(verdict) = dialogue.take_verdict() {
//!         break verdict;
//!     }
//! };
//! assert_eq!(verdict.action, FilterAction::Accept);
//! assert_eq!(&*verdict.reason, "the filter answered `continue` to end of message; X-Spam: Yes");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod client;
mod command;
mod fault;
mod field;
mod frame;
mod intake;
mod options;
mod question;
mod response;
mod rewrite;
pub mod server;
mod verdict;

pub use command::{Command, MAX_PIECE, Macro, Peer};
pub use fault::Fault;
pub use field::{FieldError, FieldName, FieldValue, HeaderEdit};
pub use frame::{Frame, Frames};
pub use intake::{Event, Gathered, Intake, IntakeLimits, MailClient, TooLarge};
pub use options::{Actions, LOWEST_VERSION, Options, Step, Steps, VERSION};
pub use question::{FilterQuestion, TlsFacts};
pub use response::{Modification, Response};
pub use rewrite::Rewrite;
pub use verdict::{FilterAction, FilterVerdict, Ignored};
