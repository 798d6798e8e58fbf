//! `[organization.inbound_gateway]`.

use super::checked::{Pattern, Range};
use super::keys::table;
use super::words::{RejectCode, Switch};

table! {
    /// The gateway that inbound mail comes from, so that SPF, DMARC and the filter see the source
    /// behind it. In `reject_other_clients` and `require_tls`, `"observe"` refuses nobody and tells
    /// whom `true` would refuse.
    ///
    /// ```toml
    /// [organization.inbound_gateway]
    /// addresses = ["198.51.100.0/24", "2001:db8::25"]
    /// detect_external_ip = true
    /// reject_other_clients = "observe"
    /// require_tls = true
    /// spam_tag = { regex = '^X-(?:spam|phishy): (0\.\d*|1\.0*)$', score_at_least = 0.5 }
    /// allow_list = ["203.0.113.7"]
    /// ```
    RawInboundGateway {
        /// The gateway's addresses and ranges. Public ones only: a private, loopback or other
        /// special one, or a range that holds one, is refused by name unless `allow_private` says
        /// otherwise.
        ///
        /// Example: `addresses = ["198.51.100.0/24", "2001:db8::25"]`
        list addresses: Range, "E1";
        /// The source is the first public address in the `Received:` lines, from the newest on,
        /// that is not the gateway's. Off: the address in the first such line, one hop back.
        ///
        /// Example: `detect_external_ip = true`
        default detect_external_ip: bool = false, "E4";
        /// Clients that are not the gateway are refused at RCPT, but for authenticated ones and
        /// relay addresses.
        ///
        /// Example: `reject_other_clients = "observe"`
        default reject_other_clients: Switch = Switch::Off, "E7";
        /// How they are refused: 550 (`550 5.7.1`, for good) or 421 (`421 4.7.0`, for now).
        ///
        /// Example: `reject_code = 421`
        default reject_code: RejectCode = RejectCode::Permanent, "E7";
        /// A `Received:` line that is not understood ends the search; off, it is passed over. It
        /// means nothing without `detect_external_ip`.
        ///
        /// Example: `strict = true`
        default strict: bool = false, "E4";
        /// Documentation ranges, such as 192.0.2.0/24, count as public, as in the examples.
        ///
        /// Example: `documentation_ranges_public = false`
        default documentation_ranges_public: bool = true, "E6";
        /// The gateway must use TLS: in clear text RCPT gets `530 5.7.0`. Other clients are not
        /// asked.
        ///
        /// Example: `require_tls = true`
        default require_tls: Switch = Switch::Off, "E8";
        /// The gateway's mark of spam: which header line says so. Absent: none. What others than
        /// the gateway send is never looked at.
        ///
        /// Example: `spam_tag = { regex = '^X-spam-gw: spam$' }`
        optional spam_tag: RawSpamTag, "E9";
        /// For mail from the gateway only its mark says what is spam: without a matching line it is
        /// none. It takes a `spam_tag`.
        ///
        /// Example: `only_spam_tag = false`
        default only_spam_tag: bool = false, "E10";
        /// Private addresses may be gateways, for those inside one's own network.
        ///
        /// Example: `allow_private = true`
        default allow_private: bool = false, "E1";
        /// Sources whose mail is never spam by the filter's verdict; the gateway's mark counts all
        /// the same. An address that is a gateway's too has no effect here, and is warned of.
        ///
        /// Example: `allow_list = ["203.0.113.7"]`
        list allow_list: Range, "E11";
    }
}

table! {
    /// The gateway's mark of spam. `waypost test-tag` shows what an expression matches.
    ///
    /// ```toml
    /// [organization.inbound_gateway]
    /// addresses = ["198.51.100.25"]
    /// [organization.inbound_gateway.spam_tag]
    /// regex = '^X-spam-score: (\d+\.\d)$'
    /// score_at_least = 5
    /// ```
    RawSpamTag {
        /// Held against each header field, unfolded into one line `Name: value`, with case. With a
        /// score it has exactly one capture group; `(?:…)` captures nothing.
        ///
        /// Example: `regex = '^X-spam-gw: spam$'`
        required regex: Pattern, "E9";
        /// Spam from this number on; the largest of several matches decides, and what is no number
        /// is no match. Absent: a match is spam.
        ///
        /// Example: `score_at_least = 0.5`
        optional score_at_least: f64, "E9";
    }
}
