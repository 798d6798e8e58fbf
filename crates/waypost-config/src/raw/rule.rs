//! `[[organization.rule]]`.

use waypost_types::{Domain, Mailbox, OrgUnit, RouteName};

use super::checked::Pattern;
use super::keys::table;
use super::text::{Name, OneLine};
use super::words::{AccountKind, Affects, Mode};

table! {
    /// A routing rule: whom it is for, and what it does. All matching rules apply: reject beats
    /// quarantine beats deliver; header lines, copies and subject prefixes add up; of routes, new
    /// recipients and TLS demands the first rule's holds.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "Split delivery to Exchange"
    /// affects = ["inbound", "internal-receiving"]
    /// accounts = ["unrecognized"]
    /// then = { modify = { route = "exchange" } }
    ///
    /// [[organization.rule]]
    /// description = "Partner mail to the edge, with a copy"
    /// org_unit = "/sales"
    /// affects = ["inbound"]
    /// accounts = ["users", "groups"]
    /// [organization.rule.envelope]
    /// senders = [{ pattern = '@partner\.example$' }]
    /// [organization.rule.then.modify]
    /// route = "edge"
    /// subject_prefix = "[EXT] "
    /// also_deliver_to = [{ address = "archive@vault.example" }]
    /// ```
    RawRule {
        /// What it is for; unique in its unit. It stands in every explanation.
        ///
        /// Example: `description = "Partner mail to the edge"`
        required description: Name, "C1";
        /// The unit that it holds for, with those below: the recipient's unit for incoming
        /// directions, the sender's for outgoing ones. An address that nobody has is in the root
        /// unit.
        ///
        /// Example: `org_unit = "/sales"`
        default org_unit: OrgUnit = OrgUnit::root(), "C8";
        /// The directions of mail that it affects, at least one: `"inbound"` from outside to us,
        /// `"outbound"` from us to outside, `"internal-sending"` and `"internal-receiving"` between
        /// internal addresses, seen from the sender and from the recipient.
        ///
        /// Example: `affects = ["inbound", "internal-receiving"]`
        list affects: Affects, "C2";
        /// Kinds of accounts affected: of the recipient for incoming directions, of the envelope
        /// sender for outgoing ones. `"unrecognized"` is an address that nobody has, an inactive
        /// user, or the empty sender. Absent: users; all three if every direction is outgoing. An
        /// empty list is an error.
        ///
        /// Example: `accounts = ["users", "groups"]`
        list accounts: AccountKind, "C4";
        /// `"enforce"` acts. `"observe"` changes nothing and never stops, and tells what it would
        /// have done. `"off"` is as if the rule were not there.
        ///
        /// Example: `mode = "observe"`
        default mode: Mode = Mode::Enforce, "O6";
        /// When it matches, no rule after it is looked at. An observed rule never stops.
        ///
        /// Example: `stop = true`
        default stop: bool = false, "C8";
        /// Only these envelopes. Absent: all.
        ///
        /// Example: `envelope = { senders = [{ pattern = '@partner\.example$' }] }`
        optional envelope: RawEnvelopeFilter, "C5";
        /// What it does: exactly one of `reject`, `quarantine` and `modify`.
        ///
        /// Example: `then = { modify = { route = "edge" } }`
        required then: RawThen, "C6";
    }
}

table! {
    /// Which envelopes a rule is for: senders and recipients are and-ed, entries of one list or-ed;
    /// an empty list asks for nothing.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "Partners to the team"
    /// affects = ["inbound"]
    /// [organization.rule.envelope]
    /// senders = [{ pattern = '@partner\.example$' }, { address = "jean@elsewhere.example" }]
    /// recipients = [{ group = "team@solarmora.com" }]
    /// [organization.rule.then]
    /// modify = { route = "edge" }
    /// ```
    RawEnvelopeFilter {
        /// Envelope senders, as MAIL gave them. The empty one matches a pattern that matches the
        /// empty text, such as `^$`, and nothing else.
        ///
        /// Example: `senders = [{ address = "jean@elsewhere.example" }]`
        list senders: RawMatcher, "C5";
        /// Recipients as RCPT gave them, never as a rule changed them.
        ///
        /// Example: `recipients = [{ group = "team@solarmora.com" }]`
        list recipients: RawMatcher, "C5";
    }
}

table! {
    /// One entry of an envelope filter: exactly one of the three keys.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "No newsletters"
    /// affects = ["inbound"]
    /// envelope = { senders = [{ address = "news@shop.example" }, { pattern = '^bounce-' }] }
    /// then = { reject = "We do not read newsletters" }
    /// ```
    RawMatcher {
        /// A whole address, compared without case. A domain alone is a pattern.
        ///
        /// Example: `address = "jean@elsewhere.example"`
        optional address: Mailbox, "C5";
        /// A regular expression, without case, and not anchored unless `^` and `$` are written. In
        /// single quotes a backslash needs no second one. It compiles to 1 MiB at most.
        ///
        /// Example: `pattern = '@partner\.example$'`
        optional pattern: Pattern, "C5";
        /// Members of this group of the organization, by alias and through other groups too.
        ///
        /// Example: `group = "team@solarmora.com"`
        optional group: Mailbox, "C5";
    }
}

table! {
    /// What a rule does: exactly one of the three keys.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "No strangers"
    /// affects = ["inbound"]
    /// then = { reject = "This address is for colleagues; ask postmaster@solarmora.com" }
    /// ```
    RawThen {
        /// Refuse with `550 5.7.1` and this text: at RCPT if every direction that the message could
        /// still have refuses it in the same way, else after DATA. Not empty. A client that does not
        /// ask for SMTPUTF8 gets it in ASCII, without accents.
        ///
        /// Example: `reject = "This address is for colleagues"`
        optional reject: OneLine, "C6";
        /// Keep back in the quarantine of this name; the client is told 250. `waypost queue CONFIG
        /// release ID` delivers it as the other matching rules say, `remove` does away with it.
        ///
        /// Example: `quarantine = "odd"`
        optional quarantine: Name, "C6";
        /// Deliver, changed.
        ///
        /// Example: `modify = { route = "edge" }`
        optional modify: RawModify, "C6";
    }
}

table! {
    /// How a rule changes message and delivery. A rule that changes nothing is warned of.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "Old names"
    /// affects = ["inbound", "internal-receiving"]
    /// [organization.rule.then.modify]
    /// replace_recipient = { domain = "solarmora.fr" }
    /// add_headers = [{ name = "X-Moved", value = "yes" }]
    /// original_to_header = true
    /// ```
    RawModify {
        /// Deliver over this route, of the rule's unit or one above. An unknown recipient who is
        /// routed is accepted.
        ///
        /// Example: `route = "edge"`
        optional route: RouteName, "C6";
        /// Demand TLS of the next hop, beside the route's own demand; without TLS the message
        /// bounces or waits.
        ///
        /// Example: `require_tls = true`
        default require_tls: bool = false, "C6";
        /// Change the envelope recipient. Rules are not evaluated again for the new one; the
        /// message's `To:` stays as it is.
        ///
        /// Example: `replace_recipient = { domain = "solarmora.fr" }`
        optional replace_recipient: RawReplaceRecipient, "C6";
        /// Header lines to add, on top of the message.
        ///
        /// Example: `add_headers = [{ name = "X-Legacy", value = "yes" }]`
        list add_headers: RawHeader, "C6";
        /// Add a header line `X-Gm-Original-To` with the recipient as RCPT gave it.
        ///
        /// Example: `original_to_header = true`
        default original_to_header: bool = false, "C6";
        /// Add a header line `X-Gm-Spam` with the verdict on spam, 0 or 1.
        ///
        /// Example: `spam_headers = true`
        default spam_headers: bool = false, "C6";
        /// Put this before the subject, as written: end it with a blank. Of several rules all are
        /// put, in their order. It breaks a DKIM signature.
        ///
        /// Example: `subject_prefix = "[EXT] "`
        optional subject_prefix: OneLine, "C6";
        /// The filter's verdict on spam does not count; that of a gateway's tag does.
        ///
        /// Example: `bypass_spam = true`
        default bypass_spam: bool = false, "C6";
        /// Attachments are replaced by a notice. It breaks a DKIM signature.
        ///
        /// Example: `remove_attachments = true`
        default remove_attachments: bool = false, "C6";
        /// Nobody is told when the delivery fails.
        ///
        /// Example: `suppress_bounces = true`
        default suppress_bounces: bool = false, "C6";
        /// The changed route holds for spam too; `false` leaves spam to the mailbox system. It
        /// means nothing without `route`.
        ///
        /// Example: `also_reroute_spam = false`
        default also_reroute_spam: bool = true, "C6";
        /// Further recipients (dual delivery), each with its own outcome. They are made from the
        /// recipient that RCPT gave, and no rule is evaluated for them. The same copy is sent once.
        /// In an outgoing direction this is warned of.
        ///
        /// Example: `also_deliver_to = [{ address = "archive@vault.example" }]`
        list also_deliver_to: RawAlsoDeliverTo, "C6";
    }
}

table! {
    /// A new envelope recipient: `address`, or `local_part` and/or `domain`; both kinds together
    /// are an error, and so is neither.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "Catch-all"
    /// affects = ["inbound", "internal-receiving"]
    /// accounts = ["unrecognized"]
    /// then = { modify = { replace_recipient = { address = "marie@solarmora.com" } } }
    /// ```
    RawReplaceRecipient {
        /// The whole address.
        ///
        /// Example: `address = "marie@solarmora.com"`
        optional address: Mailbox, "C6";
        /// What stands before the `@`; the domain stays.
        ///
        /// Example: `local_part = "office"`
        optional local_part: OneLine, "C6";
        /// What stands behind the `@`; the local part stays.
        ///
        /// Example: `domain = "legacy.solarmora.com"`
        optional domain: Domain, "C6";
    }
}

table! {
    /// A further recipient (dual delivery): `address`, or the same recipient with another
    /// `local_part` and/or `domain`; with none of the three, the same recipient, over another
    /// route.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "Dual delivery"
    /// affects = ["inbound", "internal-receiving"]
    /// [[organization.rule.then.modify.also_deliver_to]]
    /// route = "exchange"
    /// suppress_bounces = true
    /// [[organization.rule.then.modify.also_deliver_to]]
    /// address = "archive@vault.example"
    /// no_spam = true
    /// ```
    RawAlsoDeliverTo {
        /// The whole address. Not beside `local_part` or `domain`.
        ///
        /// Example: `address = "archive@vault.example"`
        optional address: Mailbox, "C6";
        /// The same recipient with this local part.
        ///
        /// Example: `local_part = "archive"`
        optional local_part: OneLine, "C6";
        /// The same recipient with this domain.
        ///
        /// Example: `domain = "legacy.solarmora.com"`
        optional domain: Domain, "C6";
        /// Deliver the copy over this route. Absent: the copy goes where mail for its recipient
        /// goes without rules, never over the route of the original.
        ///
        /// Example: `route = "exchange"`
        optional route: RouteName, "C6";
        /// Demand TLS of the copy's next hop.
        ///
        /// Example: `require_tls = true`
        default require_tls: bool = false, "C6";
        /// The copy is not sent when the message is spam.
        ///
        /// Example: `no_spam = true`
        default no_spam: bool = false, "C6";
        /// Nobody is told when the delivery of the copy fails.
        ///
        /// Example: `suppress_bounces = true`
        default suppress_bounces: bool = false, "C6";
        /// Header lines to add to the copy; those of the original do not go along.
        ///
        /// Example: `add_headers = [{ name = "X-Copy", value = "1" }]`
        list add_headers: RawHeader, "C6";
        /// Put this before the copy's subject; that of the original does not go along.
        ///
        /// Example: `subject_prefix = "[copy] "`
        optional subject_prefix: OneLine, "C6";
        /// Add a header line `X-Gm-Original-To` with the recipient as RCPT gave it.
        ///
        /// Example: `original_to_header = true`
        default original_to_header: bool = false, "C6";
        /// Add a header line `X-Gm-Spam` with the verdict on spam, 0 or 1.
        ///
        /// Example: `spam_headers = true`
        default spam_headers: bool = false, "C6";
        /// Attachments of the copy are replaced by a notice.
        ///
        /// Example: `remove_attachments = true`
        default remove_attachments: bool = false, "C6";
    }
}

table! {
    /// A header line to add. A name or value that would break the line is refused.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "Mark"
    /// affects = ["inbound"]
    /// then = { modify = { add_headers = [{ name = "X-Legacy", value = "yes" }] } }
    /// ```
    RawHeader {
        /// The field's name, without the colon: visible ASCII characters.
        ///
        /// Example: `name = "X-Legacy"`
        required name: OneLine, "C6";
        /// The field's value, one line.
        ///
        /// Example: `value = "yes"`
        required value: OneLine, "C6";
    }
}
