//! `[organization.inbound_gateway]`.

use super::checked::{Pattern, Range};
use super::keys::table;
use super::words::{RejectCode, Switch};

table! {
    /// The gateway that inbound mail comes from.
    RawInboundGateway {
        /// Its addresses and ranges; public ones only.
        list addresses: Range, "E1";
        /// The source is the first public address in the trace that is not the gateway's.
        default detect_external_ip: bool = false, "E4";
        /// Other clients are refused.
        default reject_other_clients: Switch = Switch::Off, "E7";
        /// How they are refused: 550 or 421.
        default reject_code: RejectCode = RejectCode::Permanent, "E7";
        /// A trace line that is not understood ends the search.
        default strict: bool = false, "E4";
        /// Documentation ranges count as public.
        default documentation_ranges_public: bool = true, "E6";
        /// The gateway must use TLS.
        default require_tls: Switch = Switch::Off, "E8";
        /// The gateway's mark of spam.
        optional spam_tag: RawSpamTag, "E9";
        /// Only the gateway's mark says what is spam.
        default only_spam_tag: bool = false, "E10";
        /// Private addresses may be gateways.
        default allow_private: bool = false, "E1";
        /// Sources whose mail is never spam by the filter's verdict.
        list allow_list: Range, "E11";
    }
}

table! {
    /// The gateway's mark of spam.
    RawSpamTag {
        /// Held against each header line, with case; with a score, exactly one capture group.
        required regex: Pattern, "E9";
        /// Spam from this number on; absent: a match is spam.
        optional score_at_least: f64, "E9";
    }
}
