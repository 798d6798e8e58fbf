//! An SMTP and LMTP client as a state machine: it gets one message at a time to one peer.
//!
//! **In:** a [`ClientConfig`], bytes from the peer, the time, news of TLS and of the connection,
//! and [`Transaction`]s. **Out:** bytes to be written (as slices, the message is never copied),
//! [`Event`]s, and the moment at which to call again.
//!
//! ```text
//!            220          2yz                220           handshake       2yz
//! Greeting ───────► EHLO ─────► STARTTLS? ───────► (TLS) ───────────► EHLO ───► AUTH? ──► idle
//!                    │ 5yz, TLS not required                                             ▲  │
//!                    └──────► HELO ──────────────────────────────────────────────► idle  │  ▼ send
//!                        RSET? MAIL RCPT… DATA (one write with PIPELINING), message    transaction
//!                        RSET? MAIL RCPT…      (one write with PIPELINING), BDAT and message (CHUNKING)
//! ```
//!
//! How to drive one: call [`Client::transmit`] and write what it gives, tell what was taken with
//! [`Client::transmitted`], hand in what was read with [`Client::receive`], call
//! [`Client::elapsed`] at [`Client::poll_timeout`], and [`Client::lost`] at the end of the stream;
//! after each, empty [`Client::poll_event`].
//!
//! **Units:** time is [`Timestamp`](waypost_types::Timestamp). **Bounds:** of the peer's bytes one
//! reply is kept (100 lines of 2,048 octets), of a transaction the commands; each phase has a
//! time-out. **Errors:** a peer's misbehaviour ends the connection ([`Closed`], with its
//! [`Cause`]), and each recipient gets an outcome all the same: before the final dot a lost
//! connection is the host's failure, after it the message's, so that no other host gets the message
//! as well (A9). **Source:** RFC 5321, 2033, 2920, 3207, 4954, 1870, 3030, 3461, 6152, 6531; A5, A9, A10,
//! B3.
//!
//! **Not here:** sockets, TLS itself, DNS, the choice of hosts, retries.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use waypost_smtp::client::{Client, ClientConfig, Event, Message, SharedBytes, Transaction};
//! use waypost_types::{MailParameters, Outcome, ReversePath, Timestamp};
//!
//! let now = Timestamp::default();
//! let config = ClientConfig::new("mx.example:25".parse()?, "us.example".parse()?);
//! let mut client = Client::new(Arc::new(config), now);
//! client.receive(now, b"220 mx.example\r\n");
//! assert_eq!(written(&mut client, now), "EHLO us.example\r\n");
//! client.receive(now, b"250-mx.example\r\n250 PIPELINING\r\n");
//! assert_eq!(client.poll_event(), Some(Event::Ready));
//!
//! client.send(now, Transaction {
//!     sender: ReversePath::Null,
//!     parameters: MailParameters::default(),
//!     recipients: vec!["a@mx.example".parse::<waypost_types::Mailbox>()?.into()],
//!     message: Message::new([SharedBytes::new("Subject: x\r\n\r\n..\r\n")])?,
//! })?;
//! assert_eq!(written(&mut client, now), "MAIL FROM:<>\r\nRCPT TO:<a@mx.example>\r\nDATA\r\n");
//! client.receive(now, b"250 ok\r\n250 ok\r\n354 go on\r\n");
//! assert_eq!(written(&mut client, now), "Subject: x\r\n\r\n..\r\n.\r\n");
//! client.receive(now, b"250 2.0.0 queued\r\n");
//! let Some(Event::Done(report)) = client.poll_event() else { panic!() };
//! assert!(matches!(report.outcomes[0], Outcome::Delivered { .. }));
//!
//! fn written(client: &mut Client, now: Timestamp) -> String {
//!     let bytes: Vec<u8> = client.transmit().flatten().copied().collect();
//!     client.transmitted(now, bytes.len());
//!     String::from_utf8(bytes).unwrap()
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod closed;
mod config;
mod extensions;
mod machine;
mod message;
mod outbox;
mod reply_reader;
mod run;
mod transaction;

pub use closed::{Cause, Closed};
pub use config::{Chunking, ClientConfig, Credentials, EightBitPolicy, Protocol, Timeouts, TlsUse};
pub use extensions::{Extensions, Size};
pub use machine::{Client, Event, NotReady};
pub use message::{Message, MessageError, SharedBytes};
pub use reply_reader::ReplyError;
pub use transaction::{Report, Transaction};
