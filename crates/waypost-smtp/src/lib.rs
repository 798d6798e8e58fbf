//! SMTP and LMTP as state machines without I/O: octets and time in, octets and events out.
//!
//! **For:** servers, clients, proxies and tests that speak SMTP or LMTP over sockets of their own.
//! **Begin with:** [`blocking::Wire`] with a thread a connection; [`server::Server`] and
//! [`client::Client`] in an event loop.
//!
//! **In:** a peer's octets in chunks of any size, moments, answers of the application. **Out:**
//! octets for the peer, events, deadlines: a [`server`], a [`client`], a driver of both for streams that
//! [block](mod@blocking), and what they are made of, the scanner for the [`end_of_data`], the reader of
//! [`chunked`] messages and the splitter of [lines](mod@line); beside them the reader of a proxy's header
//! ([`proxy_header`]).
//!
//! **Units:** octets, [`Timestamp`](waypost_types::Timestamp). **Bounds:** named at each module;
//! memory is bounded for any octets, and the same octets in other chunks give the same events.
//! **Errors:** what a peer does wrong is a reply, an outcome or a cause of closing; error types are
//! for a caller's mistakes and for the parts. **Source:** RFC 5321 and the extensions named at each
//! module; RFC 2033 (LMTP); A5, A9, B3, D6, D14, D15.
//!
//! **Not here:** sockets, TLS, DNS and clocks (`waypost-net` has them); what to accept, where to
//! route.
//!
//! # Example
//!
//! ```
//! use waypost_smtp::server::{Event, Server, Settings};
//! use waypost_types::{Reply, Timestamp};
//!
//! let now = Timestamp::from_millis(0);
//! let settings = Settings::new("mx.solarmora.com".parse()?);
//! let mut server = Server::new(settings.into(), now);
//! assert_eq!(server.poll_event(now), Some(Event::Connect));
//! server.accept(now);
//! server.handle_bytes(now, b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n");
//! while let Some(event) = server.poll_event(now) {
//!     match event {
//!         Event::Mail { .. } => server.answer(now, Reply::new(550, (5, 7, 1), "Not today")),
//!         _ => server.accept(now),
//!     }
//! }
//! let replies = server.take_output();
//! assert!(replies.starts_with(b"220 mx.solarmora.com ESMTP\r\n250-mx.solarmora.com"));
//! assert!(replies.ends_with(b"550 5.7.1 Not today\r\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod blocking;
pub mod chunked;
pub mod client;
pub mod end_of_data;
pub mod line;
pub mod proxy_header;
pub mod server;
