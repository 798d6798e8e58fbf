//! `[[organization.relay]]`.

use super::checked::{CopyTo, Range};
use super::keys::table;
use super::text::{Name, OneLine};
use super::words::{AllowedSenders, Mode};

table! {
    /// A group of clients that may relay.
    RawRelay {
        /// What it is for; unique in the organization.
        required description: Name, "D1";
        /// Whom it lets send.
        required allowed_senders: AllowedSenders, "D2";
        /// Addresses that the client must have; without an enabled one, `require_auth` must be true.
        list addresses: RawRelayAddress, "D4";
        /// The client must authenticate.
        default require_auth: bool = false, "D3";
        /// The client must use TLS.
        default require_tls: bool = false, "D5";
        /// Where a copy of each message goes.
        optional copy_to: CopyTo, "D16";
        /// Whether it admits and refuses, is only logged, or is off.
        default mode: Mode = Mode::Enforce, "O6";
    }
}

table! {
    /// Addresses of clients.
    RawRelayAddress {
        /// An address, or a range of at most 65,536.
        required range: Range, "D4";
        /// What it is for.
        optional description: OneLine, "D4";
        /// Counts at all.
        default enabled: bool = true, "D4";
    }
}
