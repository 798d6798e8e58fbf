//! Where mail behind an inbound gateway really came from.
//!
//! **For:** servers, spam filters and log tools that get mail through a gateway, and must know who
//! sent it to that. **Begin with:** [`InboundGateway::new`] once, then [`InboundGateway::source`]
//! for each message.
//!
//! **In:** an organization's gateway settings; a client's address; the header of its message.
//! **Out:** [`Source`]: the source IP that SPF and the spam filter use, and why it is that one;
//! [`TagVerdict`]: what a gateway's spam tag says; [`Admission`]: whether the client may hand mail over
//! at all; and, beneath them, [`Reading`]: the client's address in one `Received` line, and
//! [`TraceLine`]: what else such a line says, for people.
//!
//! ```text
//! Received: from mail.example (mx.example [192.0.2.7]) by gw; date      Reading::of -> 192.0.2.7
//! Received: by 192.0.2.205 with SMTP id x; date                         no hop
//!   newest line first -> our own? -> in the list? -> public?           InboundGateway::source -> Source
//! ```
//!
//! **Units:** addresses are [`std::net::IpAddr`], an IPv4-mapped one is IPv4 throughout.
//! **Bounds:** reading a line takes time linear in its bytes and allocates nothing, whatever they are;
//! a header is read once from the top, no further than needed; a hop table lists 1,001 lines at most; a
//! compiled expression takes at most 1 MiB. Nothing panics. **Errors:** [`GatewayErrors`] for settings, all of them at once, and
//! [`TagError`]; a line that cannot be read is a value. **Source:** E1 to E12; RFC 5321 section 4.4
//! for trace lines.
//!
//! The rule above all others: an address that a forger could have written (HELO, ident, id, for, by,
//! envelope-from, any other comment) is never read as the client's. A line that leaves doubt is
//! unreadable, which only falls back.
//!
//! **Not here:** no SPF or DMARC check, no DNS, no clock, no spam evaluation but the tag's; exemptions
//! of authenticated clients (E7) are the caller's.
//!
//! # Features
//!
//! - `serde`: `Serialize` for results, both ways for [`GatewaySettings`].
//!
//! # Example
//!
//! ```
//! use waypost_inbound::{GatewaySettings, HeaderBlock, InboundGateway, OwnLine, Reading, Source};
//!
//! let line = b"from [10.0.0.7] (host.example [192.0.2.7]) by gw.example; date";
//! assert_eq!(Reading::of(line).ip(), Some([192, 0, 2, 7].into()));
//!
//! let settings = GatewaySettings {
//!     addresses: vec!["198.51.100.0/24".to_owned()],
//!     detect_external_ip: true,
//!     ..GatewaySettings::default()
//! };
//! let gateway = InboundGateway::new(&settings)?;
//! let header = HeaderBlock::of(
//!     b"Received: from gw2 (gw2.example [198.51.100.9]) by gw1.example; date\r\n\
//!       Received: from a (host.example [192.0.2.7]) by gw2.example; date\r\n\r\n",
//! );
//! let (source, hops) =
//!     gateway.source_with_hops([198, 51, 100, 8].into(), OwnLine::Absent, &header);
//! assert_eq!(source.ip, Some([192, 0, 2, 7].into()));
//! assert_eq!(source.because.as_str(), "first-external");
//! assert_eq!(hops.listed.len(), 2);
//!
//! // Without a gateway, or from another client, the source is the client.
//! let client = [203, 0, 113, 5].into();
//! assert_eq!(gateway.source(client, OwnLine::Absent, &header), Source::of_client(client));
//! # Ok::<(), waypost_inbound::GatewayErrors>(())
//! ```

mod admission;
mod class;
mod clause;
mod client;
mod comment;
mod format;
mod gateway;
mod literal;
mod public;
mod ranges;
mod reading;
mod settings;
mod shape;
mod source;
mod tag;
mod trace;
mod words;

pub use admission::{Admission, Refusal, RefusedBecause, RejectCode, RejectCodeError, Switch};
pub use format::Format;
pub use gateway::{InboundGateway, SpamEvaluation};
pub use public::PublicAddresses;
pub use reading::{Hop, Place, Reading, Unreadable};
pub use settings::{
    GatewayError, GatewayErrorKind, GatewayErrors, GatewaySettings, Setting, SpamTagSettings,
};
pub use source::{Because, HopReport, Hops, OwnLine, Skipped, Source};
pub use tag::{SpamTag, TagError, TagMatch, TagNote, TagVerdict};
pub use trace::TraceLine;
/// Words of `waypost-types` that the functions here take and give, so that this crate can be used alone.
pub use waypost_types::{Fields, HeaderBlock, Reply, TlsState};

/// The page's program is compiled and run with the examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/INBOUND.md")]
mod page {}
