//! The SMTP server as a state machine: octets and time in, octets and events out.
//!
//! **In:** octets from the client ([`Server::handle_bytes`]), its end ([`Server::handle_eof`]), a
//! finished TLS handshake ([`Server::handle_tls`]), time ([`Server::handle_timeout`]), a stop
//! ([`Server::handle_shutdown`]), and answers to events. **Out:** events ([`Server::poll_event`]),
//! octets for the client ([`Server::take_output`]), the next deadline ([`Server::poll_timeout`]).
//!
//! **Units:** octets, [`Timestamp`](waypost_types::Timestamp), [`Duration`](std::time::Duration).
//! **Bounds:** a message up to its limit (4/3 of it, when every line begins with a dot), one line up
//! to 12,288 octets, 16 KiB of replies and one more reply, and what is given to `handle_bytes` beyond
//! a question that waits for its answer: when [`Server::wants_read`] says no, give nothing. An idle
//! connection holds no buffer. **Errors:** none; what a client does wrong becomes a reply, and too much
//! of it a 421.
//!
//! **Source:** RFC 5321, with PIPELINING (2920), SIZE (1870), 8BITMIME (6152),
//! ENHANCEDSTATUSCODES (2034), SMTPUTF8 (6531), DSN (3461), CHUNKING (3030), STARTTLS (3207), AUTH
//! (4954), XCLIENT (Postfix's `XCLIENT_README`); D6, D14, D15.
//!
//! The order of calls, for one connection:
//!
//! 1. [`Server::poll_event`] until `None`, answering each question;
//! 2. [`Server::take_output`], and send it (if it was empty and the server
//!    [is closed](Server::is_closed), the connection is done);
//! 3. where something was sent, begin again: it may have been in the way of what is already here; else
//!    wait for octets (if [`Server::wants_read`]), for [`Server::poll_timeout`], or for a stop; tell
//!    the server; again.
//!
//! What can never happen here: AUTH outside TLS, even with an initial response; anything heard before
//! a TLS handshake having an effect behind it; a message ended by anything but CR LF `.` CR LF (in
//! chunks: by anything but the length of the last one), or handed over in part or twice; a command that gets no reply, or two.
//!
//! **Not here:** I/O, limits across connections, what to accept. BINARYMIME: the content of chunks is lines, as that of
//! DATA.
//!
//! ```
//! use std::sync::Arc;
//! use waypost_smtp::server::{Event, Server, Settings};
//! use waypost_types::Timestamp;
//!
//! let now = Timestamp::from_millis(0);
//! let settings = Settings::new("mx.solarmora.com".parse()?);
//! let mut server = Server::new(Arc::new(settings), now);
//! assert_eq!(server.poll_event(now), Some(Event::Connect));
//! server.accept(now);
//! assert_eq!(server.take_output(), b"220 mx.solarmora.com ESMTP\r\n");
//! server.handle_bytes(now, b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n");
//! assert!(matches!(server.poll_event(now), Some(Event::Hello { .. })));
//! server.accept(now);
//! assert!(matches!(server.poll_event(now), Some(Event::Mail { .. })));
//! server.accept(now);
//! assert!(server.take_output().ends_with(b"250 2.1.0 Sender ok\r\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod command;
mod event;
mod machine;
mod parameters;
mod sasl;
mod settings;
mod xclient;

pub use command::HelloKind;
pub use event::{CloseCause, Event, OwnRefusal, ResetCause};
pub use machine::Server;
pub use sasl::{Credentials, Mechanism, Password};
pub use settings::{AuthOffer, Limits, Settings, Timeouts, TlsOffer};
pub use xclient::{Told, Xclient};
