//! `[[organization.relay]]`.

use super::checked::{CopyTo, Range};
use super::keys::table;
use super::text::{Name, OneLine};
use super::words::{AllowedSenders, Mode, UnlistedAddress};

table! {
    /// A group of clients that may relay, to any recipient. Admitted is whom any entry admits.
    ///
    /// ```toml
    /// [[organization.relay]]
    /// description = "Servers in Lyon"
    /// allowed_senders = "my-domains"
    /// addresses = [{ range = "203.0.113.0/28", description = "DC1" }]
    ///
    /// [[organization.relay]]
    /// description = "Staff"
    /// allowed_senders = "registered-users"
    /// require_auth = true
    /// require_tls = true
    /// ```
    RawRelay {
        /// What it is for; unique in the organization without case.
        ///
        /// Example: `description = "Servers in Lyon"`
        required description: Name, "D1";
        /// Whom it lets send: `"registered-users"`, an address or alias of an active user;
        /// `"my-domains"`, any address in a verified domain or below one; `"any"`, anybody, which
        /// is warned of: a foreign sender is rewritten to `postmaster` of the domain that AUTH or
        /// HELO names, and refused where neither names one.
        ///
        /// Example: `allowed_senders = "registered-users"`
        required allowed_senders: AllowedSenders, "D2";
        /// Addresses that the client must have. Without an enabled one, `require_auth` must be
        /// true.
        ///
        /// Example: `addresses = [{ range = "203.0.113.0/28" }]`
        list addresses: RawRelayAddress, "D4";
        /// The client must authenticate, inside TLS. Beside `addresses`: both.
        ///
        /// Example: `require_auth = true`
        default require_auth: bool = false, "D3";
        /// The client must use TLS: in clear text MAIL gets `530 5.7.0`.
        ///
        /// Example: `require_tls = true`
        default require_tls: bool = false, "D5";
        /// What a client hears whose address is not among `addresses`: `"reject"`, `550 5.7.1`, so
        /// that its mail bounces; `"defer"`, `450 4.7.1`, so that it waits there until the list is
        /// right. Of several entries that refuse for the address, one that defers goes first.
        ///
        /// Example: `unlisted_address = "defer"`
        default unlisted_address: UnlistedAddress = UnlistedAddress::Reject, "D3";
        /// Where one copy of each relayed message goes: `"sender-mailbox"`, the mailbox of the
        /// registered user who sent it (none for a sender who is no user); or an address. It goes
        /// there as it was sent, whatever the rules say. Copies count for no quota, and nobody is
        /// told when one fails. Absent: nowhere.
        ///
        /// Example: `copy_to = "archive@solarmora.com"`
        optional copy_to: CopyTo, "D16";
        /// `"enforce"` admits and refuses. `"observe"` admits what it would admit in force; what it
        /// would refuse is told, and the other entries decide. `"off"` is as if the entry were not
        /// there.
        ///
        /// Example: `mode = "observe"`
        default mode: Mode = Mode::Enforce, "O6";
    }
}

table! {
    /// Addresses of clients that may relay.
    ///
    /// ```toml
    /// [[organization.relay]]
    /// description = "Servers in Lyon"
    /// allowed_senders = "my-domains"
    /// [[organization.relay.addresses]]
    /// range = "203.0.113.0/28"
    /// description = "DC1"
    /// [[organization.relay.addresses]]
    /// range = "2001:db8::25"
    /// enabled = false
    /// ```
    RawRelayAddress {
        /// An address, or a range of at most 65,536. A private one is warned of, `0.0.0.0/0` is
        /// refused.
        ///
        /// Example: `range = "203.0.113.0/28"`
        required range: Range, "D4";
        /// What it is for. Absent: nothing is said.
        ///
        /// Example: `description = "DC1"`
        optional description: OneLine, "D4";
        /// It counts at all. An entry without an enabled range is none.
        ///
        /// Example: `enabled = false`
        default enabled: bool = true, "D4";
    }
}
