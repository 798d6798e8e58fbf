//! `[[expect]]`.

use std::net::IpAddr;

use waypost_types::{Mailbox, ReversePath, RouteName};

use super::filter::FilterSays;
use super::keys::table;
use super::text::{Name, OneLine};
use super::words::Via;

table! {
    /// A test of the configuration: this envelope goes there, or gets this reply. It is played as
    /// one transaction with one recipient; exactly one of `route`, `reply`, `via` and `quarantine`
    /// says what must come.
    ///
    /// ```toml
    /// [[expect]]
    /// description = "users' mail stays with us"
    /// from = "someone@elsewhere.example"
    /// to = "marie@solarmora.com"
    /// via = "mailbox"
    ///
    /// [[expect]]
    /// description = "nobody is nobody"
    /// from = "someone@elsewhere.example"
    /// to = "not-a-user@solarmora.com"
    /// reply = "550 5.1.1"
    /// ```
    RawExpect {
        /// What it proves.
        ///
        /// Example: `description = "unknown addresses go to Exchange"`
        required description: Name, "O7";
        /// The envelope sender, and `From:` unless `header` says otherwise; `""` is the empty one.
        ///
        /// Example: `from = "someone@elsewhere.example"`
        required from: ReversePath, "O7";
        /// The recipient.
        ///
        /// Example: `to = "not-a-user@solarmora.com"`
        required to: Mailbox, "O7";
        /// One of the deliveries, copies included, goes over this route.
        ///
        /// Example: `route = "exchange"`
        optional route: RouteName, "O7";
        /// What the client is told in the end begins so: the first refusal, else the answer to the
        /// message.
        ///
        /// Example: `reply = "550 5.1.1"`
        optional reply: OneLine, "O7";
        /// One of the deliveries goes this way: to the mailbox system, to the MX hosts of the
        /// recipient's domain, or through `outbound_gateway`.
        ///
        /// Example: `via = "mailbox"`
        optional via: Via, "O7";
        /// It is kept back in the quarantine of this name.
        ///
        /// Example: `quarantine = "odd"`
        optional quarantine: Name, "O7";
        /// The client's address. Absent: 203.0.113.1.
        ///
        /// Example: `client_ip = "198.51.100.25"`
        optional client_ip: IpAddr, "O7";
        /// The listener that it comes in by. Absent: the first `mx` one, or with `auth` the first
        /// `relay` one.
        ///
        /// Example: `listener = "mx"`
        optional listener: Name, "O7";
        /// What the client says in EHLO. Absent: nothing that is known.
        ///
        /// Example: `helo = "mail.solarmora.com"`
        optional helo: OneLine, "O7";
        /// The user that the client has authenticated as; whether the user has a password is not
        /// looked at. The session is then inside TLS unless `tls` is written.
        ///
        /// Example: `auth = "marie@solarmora.com"`
        optional auth: Mailbox, "O7";
        /// The session is protected by TLS.
        ///
        /// Example: `tls = true`
        default tls: bool = false, "O7";
        /// What the filter says of the message. Absent: nothing, as if there were none.
        ///
        /// Example: `filter = "spam"`
        optional filter: FilterSays, "D17";
        /// Header lines of the message. `From:` is added where it is missing.
        ///
        /// Example: `header = "From: marie@solarmora.com"`
        optional header: String, "O7";
    }
}
