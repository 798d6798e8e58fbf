//! `[[expect]]`.

use std::net::IpAddr;

use waypost_types::{Mailbox, ReversePath, RouteName};

use super::keys::table;
use super::text::{Name, OneLine};
use super::words::Via;

table! {
    /// A test of the configuration: this envelope goes there, or gets this reply.
    RawExpect {
        /// What it proves.
        required description: Name, "O7";
        /// The envelope sender, and `From:` unless `header` says otherwise.
        required from: ReversePath, "O7";
        /// The recipient.
        required to: Mailbox, "O7";
        /// It goes over this route.
        optional route: RouteName, "O7";
        /// The reply that refuses it begins so.
        optional reply: OneLine, "O7";
        /// It goes this way.
        optional via: Via, "O7";
        /// It is kept back in this quarantine.
        optional quarantine: Name, "O7";
        /// The client's address; absent: 203.0.113.1.
        optional client_ip: IpAddr, "O7";
        /// The listener; absent: the first for mail from the world, or with `auth` for relaying.
        optional listener: Name, "O7";
        /// What the client says in EHLO.
        optional helo: OneLine, "O7";
        /// The user that the client has authenticated as.
        optional auth: Mailbox, "O7";
        /// The session is protected by TLS.
        default tls: bool = false, "O7";
        /// Header lines of the message.
        optional header: String, "O7";
    }
}
