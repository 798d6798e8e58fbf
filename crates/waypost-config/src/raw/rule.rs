//! `[[organization.rule]]`.

use waypost_types::{Domain, Mailbox, OrgUnit, RouteName};

use super::checked::Pattern;
use super::keys::table;
use super::text::{Name, OneLine};
use super::words::{AccountKind, Affects, Mode};

table! {
    /// A routing rule.
    RawRule {
        /// What it is for; unique in its unit.
        required description: Name, "C1";
        /// The unit that it holds for, with those below.
        default org_unit: OrgUnit = OrgUnit::root(), "C8";
        /// The directions of mail that it affects.
        list affects: Affects, "C2";
        /// Accounts affected; absent: users, or all three if all directions are outgoing.
        list accounts: AccountKind, "C4";
        /// Whether it acts, is only logged, or is off.
        default mode: Mode = Mode::Enforce, "O6";
        /// No rule after it is looked at when it matches.
        default stop: bool = false, "C8";
        /// Only these envelopes.
        optional envelope: RawEnvelopeFilter, "C5";
        /// What it does: one of `reject`, `quarantine` and `modify`.
        required then: RawThen, "C6";
    }
}

table! {
    /// Which envelopes a rule is for: senders and recipients are and-ed, entries of one list or-ed.
    RawEnvelopeFilter {
        /// Envelope senders.
        list senders: RawMatcher, "C5";
        /// Recipients as RCPT gave them.
        list recipients: RawMatcher, "C5";
    }
}

table! {
    /// One entry of an envelope filter: exactly one of the three keys.
    RawMatcher {
        /// A whole address, without case.
        optional address: Mailbox, "C5";
        /// A regular expression, without case, not anchored.
        optional pattern: Pattern, "C5";
        /// Members of this group, nested ones too.
        optional group: Mailbox, "C5";
    }
}

table! {
    /// What a rule does.
    RawThen {
        /// Refuse with 550 and this text.
        optional reject: OneLine, "C6";
        /// Keep back in the quarantine of this name.
        optional quarantine: Name, "C6";
        /// Deliver changed.
        optional modify: RawModify, "C6";
    }
}

table! {
    /// How a rule changes message and delivery.
    RawModify {
        /// Deliver over this route.
        optional route: RouteName, "C6";
        /// Demand TLS of the next hop, beside the route's own demand.
        default require_tls: bool = false, "C6";
        /// Change the envelope recipient.
        optional replace_recipient: RawReplaceRecipient, "C6";
        /// Header lines to add.
        list add_headers: RawHeader, "C6";
        /// Add a header line with the recipient as RCPT gave it.
        default original_to_header: bool = false, "C6";
        /// Add header lines with the spam verdict.
        default spam_headers: bool = false, "C6";
        /// Put before the subject.
        optional subject_prefix: OneLine, "C6";
        /// The filter's spam verdict does not count.
        default bypass_spam: bool = false, "C6";
        /// Attachments are replaced by a notice.
        default remove_attachments: bool = false, "C6";
        /// No bounce is sent when the delivery fails.
        default suppress_bounces: bool = false, "C6";
        /// The changed route holds for spam too; `false` leaves spam to the mailbox system.
        default also_reroute_spam: bool = true, "C6";
        /// Further recipients.
        list also_deliver_to: RawAlsoDeliverTo, "C6";
    }
}

table! {
    /// A new envelope recipient: `address`, or `local_part` and/or `domain`.
    RawReplaceRecipient {
        /// The whole address.
        optional address: Mailbox, "C6";
        /// The local part.
        optional local_part: OneLine, "C6";
        /// The domain.
        optional domain: Domain, "C6";
    }
}

table! {
    /// A further recipient (dual delivery); without an address, the same one.
    RawAlsoDeliverTo {
        /// The whole address.
        optional address: Mailbox, "C6";
        /// The same recipient with this local part.
        optional local_part: OneLine, "C6";
        /// The same recipient with this domain.
        optional domain: Domain, "C6";
        /// Deliver over this route.
        optional route: RouteName, "C6";
        /// Demand TLS of the next hop.
        default require_tls: bool = false, "C6";
        /// Spam is not sent.
        default no_spam: bool = false, "C6";
        /// No bounce is sent when the delivery fails.
        default suppress_bounces: bool = false, "C6";
        /// Header lines to add.
        list add_headers: RawHeader, "C6";
        /// Put before the subject.
        optional subject_prefix: OneLine, "C6";
        /// Add a header line with the recipient as RCPT gave it.
        default original_to_header: bool = false, "C6";
        /// Add header lines with the spam verdict.
        default spam_headers: bool = false, "C6";
        /// Attachments are replaced by a notice.
        default remove_attachments: bool = false, "C6";
    }
}

table! {
    /// A header line to add.
    RawHeader {
        /// The field's name.
        required name: OneLine, "C6";
        /// The field's value.
        required value: OneLine, "C6";
    }
}
