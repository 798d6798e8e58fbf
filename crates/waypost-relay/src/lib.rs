//! Who may relay mail through this server and as whom, and how much of it.
//!
//! **For:** relays, submission servers and policy services. **Begin with:** [`RelayService::admit`]
//! at MAIL, [`Ledger::reserve`] at RCPT, [`Ledger::commit`] with the 250.
//!
//! **In:** the relay entries and limits of each organization ([`RelaySettings`], [`LimitOverrides`]),
//! an SMTP client's facts ([`Session`](waypost_types::Session)), envelope senders and recipients, a
//! [`Directory`](waypost_types::Directory), the time, passwords.
//! **Out:** an [`Admission`] or a [`Refusal`] for a sender, a [`Reservation`] or a [`QuotaRefusal`]
//! for a recipient, a [`QuotaCommit`] to be journaled with the accepted message, a yes or no for a
//! password. Each verdict says why.
//!
//! **Units:** time is [`Timestamp`](waypost_types::Timestamp); quotas count messages and recipients
//! in sliding windows of 24 hours and 10 minutes. **Bounds:** admission looks at each relay entry at
//! most once and at each of an entry's prefix lengths (at most 34) once; the ledger holds 75 to 86
//! octets a user, 12 to 15 more for each five minutes where a user sent in more than eleven of them, 20 to
//! 27 for each unique recipient of the last 24 hours, 8 to 10 for each five minutes of a day and two
//! seconds of ten minutes in which an organization sent, and 48 KB for itself; a password has at most [`MAX_PASSWORD`] octets. **Errors:**
//! [`RelayError`], [`ServiceError`] and [`PasswordHashError`], for settings alone, all of an entry's
//! at once; what is refused is a value.
//! **Source:** requirements D1 to D14 and O6; RFC 5321 (SMTP), RFC 3463 (enhanced codes), RFC 4954
//! (AUTH), RFC 9106 (Argon2), RFC 7914 (scrypt), RFC 8018 (PBKDF2).
//!
//! **Not here:** no clock, network, disk or randomness; the SMTP dialogue of AUTH; the delay after a
//! failed AUTH; rates of connections (D15); copies of relayed mail (D16: an admission only says that
//! one is wanted); holding what is over a limit; quotas shared by several nodes.
//!
//! # Features
//!
//! - `serde`: `Serialize` and `Deserialize` for quota commits, limits and what is printed.
//!
//! # Example
//!
//! ```
//! use waypost_relay::{
//!     AddressSettings, AllowedSenders, Ledger, OrganizationRelay, RelayEntry, RelayService,
//!     RelaySettings,
//! };
//! use waypost_types::{ListenerRole, ReversePath, Session, Timestamp, TlsState};
//! # use waypost_types::{Account, Directory, Mailbox, Unavailable};
//! # struct Nobody;
//! # impl Directory for Nobody {
//! #     fn account(&self, _: &Mailbox) -> Result<Account, Unavailable> { Ok(Account::Unrecognized) }
//! #     fn is_member(&self, _: &Mailbox, _: &Mailbox) -> Result<bool, Unavailable> { Ok(false) }
//! #     fn for_each_group(&self, _: &Mailbox, _: &mut dyn FnMut(&Mailbox)) -> Result<(), Unavailable> { Ok(()) }
//! #     fn members(&self, _: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> { Ok(Vec::new()) }
//! # }
//! # let directory = Nobody;
//!
//! let mut settings = RelaySettings::new("Servers in Lyon", AllowedSenders::MyDomains);
//! settings.addresses = vec![AddressSettings::enabled("203.0.113.0/28", "DC1")];
//! let entry = RelayEntry::new(settings).map_err(|errors| format!("{errors:?}"))?;
//! let mut solarmora = OrganizationRelay::new("Solarmora", vec!["solarmora.com".parse()?], 250);
//! solarmora.entries = vec![entry];
//! let service = RelayService::new(vec![solarmora]).map_err(|errors| format!("{errors:?}"))?;
//!
//! let session = Session {
//!     client_ip: "203.0.113.5".parse()?,
//!     role: ListenerRole::Relay,
//!     helo: Some("printer.solarmora.com".into()),
//!     auth: None,
//!     tls: TlsState::Clear,
//! };
//! let sender: ReversePath = "printer@solarmora.com".parse()?;
//! let admission = service.admit(&session, &sender, &directory)?;
//! assert_eq!(&*admission.quota.organization, "Solarmora");
//!
//! let now = Timestamp::from_millis(1_600_000_000_000);
//! let mut ledger = Ledger::new([7; 16]);
//! let mut transaction = ledger.begin(admission.quota);
//! ledger.reserve(now, &mut transaction, &"client@elsewhere.example".parse()?)?;
//! let commit = ledger.commit(now, transaction); // with the 250 to the message; to the journal
//! assert_eq!(commit.map(|commit| commit.recipients.len()), Some(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address_list;
mod admission;
mod caller_ledger;
mod counts_table;
mod digest;
mod ledger;
mod limits;
mod password;
mod quota;
mod recipient_table;
mod refusal;
mod relay_entry;
mod relay_error;
mod sent_by_user;
mod service;
mod transaction;
mod user_ledger;
mod user_table;
mod window;

pub use admission::{Admission, Because, Identity, ObservedRefusal, at_recipient};
pub use caller_ledger::network;
pub use ledger::{Ledger, LedgerSize};
pub use limits::{LimitMode, LimitOverrides, Limits, OverLimit, Payment, UserLimitOverrides};
pub use password::{MAX_PASSWORD, PasswordHash, PasswordHashError, Verifier, hash_password};
pub use quota::{QuotaCommit, QuotaLimit, QuotaRefusal, QuotaSubject, QuotaUse, Reservation};
pub use refusal::{Refusal, RefusalReason};
pub use relay_entry::{
    AddressSettings, AllowedSenders, CopyTo, RelayEntry, RelayMode, RelaySettings, UnlistedAddress,
};
pub use relay_error::{
    RelayError, RelayErrorKind, RelayPlace, RelayWarning, RelayWarningKind, ServiceError,
};
pub use service::{OrganizationRelay, RelayService};
pub use transaction::Transaction;
