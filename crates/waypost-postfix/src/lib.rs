//! What Postfix asks its helpers, and what they answer: policy delegation, socketmap and tcp tables.
//!
//! **For:** policy services and tables behind a Postfix, and tests of them. **Begin with:**
//! [`PolicyReader`]; [`NetstringReader`] and [`SocketmapRequest::decode`]; [`TableReader`].
//!
//! **In:** octets as they come from a connection, in any pieces. **Out:** requests as typed values
//! ([`PolicyRequest`], [`SocketmapRequest`], [`TableRequest`]); answers ([`Action`], [`SocketmapReply`],
//! [`TableReply`]) as octets to send; and values that Postfix understands in its tables ([`NextHop`],
//! [`TlsLevel`]). Both sides of each protocol are here, so that a server can be tested by a client.
//!
//! **Units:** sizes in octets. **Bounds:** a policy request has at most [`MAX_REQUEST`] octets and
//! [`MAX_ATTRIBUTES`] attributes, a netstring [`MAX_NETSTRING`], a line of a tcp table [`MAX_LINE`]; a
//! reader holds no more than that and what it was last fed, and nothing between requests; each octet is looked at a bounded number of
//! times. **Errors:** [`RequestError`], which names what is wrong; after one the connection cannot be
//! read on and is to be closed, and Postfix then answers its client with a 4yz and asks again.
//! **Source:** Postfix's `SMTPD_POLICY_README`, `socketmap_table(5)`, `tcp_table(5)`, `access(5)`,
//! `transport(5)`;
//! requirements D2 to D13 for what is asked.
//!
//! **Not here:** sockets, time-outs, and what is answered: that is the caller's policy.
//!
//! # Example
//!
//! ```
//! use waypost_postfix::{Action, PolicyReader, ProtocolState};
//! use waypost_types::Reply;
//!
//! let mut reader = PolicyReader::default();
//! reader.feed(b"request=smtpd_access_policy\nprotocol_state=RCPT\ninstance=1.2.3\n");
//! assert!(reader.next_request()?.is_none(), "its empty line is still to come");
//! reader.feed(b"client_address=192.0.2.7\nsender=a@b.example\nrecipient=c@d.example\n\n");
//! let request = reader.next_request()?.ok_or("a request")?;
//! assert_eq!(request.state, ProtocolState::Rcpt);
//!
//! let action = Action::from(Reply::new(550, (5, 4, 5), "Daily limit reached"));
//! assert_eq!(action.to_string(), "action=550 5.4.5 Daily limit reached\n\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod address;
mod attributes;
mod buffer;
mod error;
mod netstring;
mod next_hop;
mod policy_request;
mod socketmap;
mod tcp_table;
mod text;

pub use action::Action;
pub use address::{from_internal, from_key, to_internal};
pub use attributes::{MAX_ATTRIBUTES, MAX_REQUEST, PolicyReader};
pub use error::RequestError;
pub use netstring::{MAX_NETSTRING, NetstringReader, netstring};
pub use next_hop::{NextHop, TlsLevel, TlsNames, Transport};
pub use policy_request::{PolicyRequest, ProtocolState};
pub use socketmap::{SocketmapReply, SocketmapRequest};
pub use tcp_table::{MAX_LINE, TableReader, TableReply, TableRequest};
