//! `[[organization]]` and what is below it but routes and rules.

use waypost_relay::PasswordHash;
use waypost_types::{Domain, HostPort, Mailbox, OrgUnit, RouteName};

use super::inbound::RawInboundGateway;
use super::keys::table;
use super::relay::RawRelay;
use super::route::RawRoute;
use super::rule::RawRule;
use super::text::{DirectoryFiles, Name};
use super::words::{Authenticate, InternalSenders, Mode, OverLimit, SpamAction};

table! {
    /// A customer: domains, users, and everything that is set for them. No organization sees
    /// another's rules, routes or users.
    ///
    /// ```toml
    /// [[organization]]
    /// name = "Solarmora"
    /// domains = ["solarmora.com", "solarmora.fr"]
    /// licences = 250
    /// mailbox_route = "mailboxes"
    ///
    /// [[organization.route]]
    /// name = "mailboxes"
    /// host = "127.0.0.1"
    /// port = 24
    /// protocol = "lmtp"
    /// require_tls = false
    ///
    /// [[organization.user]]
    /// address = "marie@solarmora.com"
    /// ```
    RawOrganization {
        /// The name, unique without case; it stands in decisions, logs and metrics, and quotas are
        /// counted under it.
        ///
        /// Example: `name = "Solarmora"`
        required name: Name, "A1";
        /// The verified domains, the primary one first; at least one. Mail is received for exactly
        /// these; a sender below one, or in a parent of one, counts as internal all the same. A
        /// domain belongs to one organization. Whether the domains are yours nobody proves here.
        ///
        /// Example: `domains = ["solarmora.com", "solarmora.fr"]`
        list domains: Domain, "C3";
        /// The number of licences, from which the relay quotas follow: 130 times as many recipients
        /// in 24 hours, 9 times as many in 10 minutes. Absent: 0, so nothing is relayed unless
        /// `limits` says otherwise.
        ///
        /// Example: `licences = 250`
        optional licences: u32, "D11";
        /// Payment is overdue: at most 100 relayed recipients a day and 50 in 10 minutes.
        ///
        /// Example: `payment_overdue = true`
        default payment_overdue: bool = false, "D12";
        /// The route to the mailbox system, where mail of users and groups goes that no rule sends
        /// elsewhere. It must be set for the root unit. Absent: built-in Maildir, in `maildir` in
        /// the spool, where groups are expanded.
        ///
        /// Example: `mailbox_route = "mailboxes"`
        optional mailbox_route: RouteName, "C7";
        /// The host that all mail to recipients outside goes through, unless a rule gives it a
        /// route: a name or IP address, with or without a port (25, 587, 1024 to 65535; absent:
        /// 25). No MX lookup, TLS where it is offered. A rule with a route is the better way, since
        /// it can demand TLS; `check` warns where both hold.
        ///
        /// Example: `outbound_gateway = "smarthost.corp.example:587"`
        optional outbound_gateway: HostPort, "B1";
        /// What proves that a sender is internal. `"from-header"`: that every address in `From:` is
        /// in a verified domain, below one, or in a parent of one. `"authenticated"`: that, and
        /// AUTH, a relay address, or an aligned DKIM or SPF pass; a claim without proof is then
        /// inbound, and marked as spoofed.
        ///
        /// Example: `internal_senders = "from-header"`
        default internal_senders: InternalSenders = InternalSenders::FromHeader, "C3";
        /// Who is told by mail of abuse, and of quotas of which 80 % are used: once in 24 hours of each
        /// user, quota and organization. Absent: nobody; the log and the metrics tell all the same.
        ///
        /// Example: `administrators = ["admin@solarmora.com"]`
        list administrators: Mailbox, "D17";
        /// A file of users and groups, or a list of such files, which add to those written here; an
        /// address given twice is an error. TOML with `[[user]]` and `[[group]]` tables, which have the
        /// keys of `[[organization.user]]` and `[[organization.group]]`; or, with a name that ends in
        /// `.csv`, a table whose first row names its columns: `kind` (`user` or `group`), `address`,
        /// `aliases`, `org_unit`, `active`, `password`, `members`, `messages_per_user_per_day`,
        /// `unique_recipients_per_user_per_day`. A change to a file is a change of the configuration.
        ///
        /// Example: `directory = "solarmora-directory.toml"`
        optional directory: DirectoryFiles, "C4";
        /// What SPF, DKIM and DMARC do to inbound mail: `"off"`, nothing is looked up; `"report"`,
        /// the results are stamped and told; `"enforce"`, they may refuse. Mail from a listed
        /// gateway is never refused for them.
        ///
        /// Example: `authenticate = "report"`
        default authenticate: Authenticate = Authenticate::Off, "E2";
        /// What happens to spam: `"mark"` adds `X-Spam-Flag: YES` on the way to the mailbox system
        /// (built-in Maildir puts it into Junk), `"quarantine"` keeps it under the name `spam`,
        /// `"reject"` refuses it with 550. Malware is never only marked: it is kept under the name
        /// `malware`, or refused.
        ///
        /// Example: `spam_action = "quarantine"`
        default spam_action: SpamAction = SpamAction::Mark, "D17";
        /// From so many relayed messages of one user in 24 hours on that the filter holds for spam or
        /// malware, refused ones included, the administrators are told, once a user and day. 0: never.
        ///
        /// Example: `abuse_threshold = 100`
        default abuse_threshold: u64 = 100, "D17";
        /// What happens to a relayed recipient over a quota: `"reject"` refuses it with the code of
        /// the quota, `"defer"` with `450` and the same subject and detail, so that the client tries
        /// again, `"hold"` accepts it and keeps its deliveries in the queue until there is room in the
        /// quota again or an administrator releases them. What is held counts when it is let go. Not
        /// held but refused is what a quota of 0 never lets through, and what comes while as many
        /// recipients are held as the organization may relay in 24 hours.
        ///
        /// Example: `over_limit = "reject"`
        default over_limit: OverLimit = OverLimit::Reject, "D10";
        /// Users; one table for each.
        list user: RawUser, "C4";
        /// Groups; one table for each.
        list group: RawGroup, "C4";
        /// Next hop systems; one table for each.
        list route: RawRoute, "A1";
        /// Routing rules; one table for each. Those of the unit itself come first, in the order of
        /// the file, then those of the unit above, up to the root.
        list rule: RawRule, "C1";
        /// The gateway that inbound mail comes from. Absent: the client is the source of its mail.
        optional inbound_gateway: RawInboundGateway, "E1";
        /// Groups of clients that may relay; one table for each. Without one nothing is relayed.
        list relay: RawRelay, "D1";
        /// Settings of organizational units; one table for each. Units need no declaration.
        list org_unit: RawOrgUnit, "C8";
        /// Relay quotas other than those computed from `licences`.
        ///
        /// Example: `limits = { recipients_per_day = 5000, mode = "observe" }`
        optional limits: RawLimits, "D12";
    }
}

table! {
    /// A user. Addresses are compared without case; a plus tag is ordinary characters.
    ///
    /// ```toml
    /// [[organization.user]]
    /// address = "marie@solarmora.com"
    /// aliases = ["m.paul@solarmora.com"]
    /// org_unit = "/sales/emea"
    /// ```
    RawUser {
        /// The primary address, in a domain of the organization. Built-in Maildir keeps the mailbox
        /// under it.
        ///
        /// Example: `address = "marie@solarmora.com"`
        required address: Mailbox, "C4";
        /// Other addresses of the same user: in rules, groups, quotas and AUTH they are this user.
        ///
        /// Example: `aliases = ["m.paul@solarmora.com"]`
        list aliases: Mailbox, "D10";
        /// The organizational unit: its rules and those above it hold for mail to and from the
        /// user.
        ///
        /// Example: `org_unit = "/sales/emea"`
        default org_unit: OrgUnit = OrgUnit::root(), "C8";
        /// The password's hash, a PHC string, for SMTP AUTH; `waypost hash-password` makes one
        /// of argon2id; argon2i, argon2d, scrypt, pbkdf2-sha256 and pbkdf2-sha512 are read too.
        /// Absent: the user cannot authenticate. Clear text is refused, and never shown.
        ///
        /// Example: `password = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$RdescudvJCsgt3ub+b3dWRWJTmaaJObG0kLb9X4V1Y0"`
        optional password: PasswordHash, "D6";
        /// An inactive user counts as unrecognized, and can neither authenticate nor relay.
        ///
        /// Example: `active = false`
        default active: bool = true, "C8";
        /// Relay quotas of this user: `messages_per_user_per_day` and
        /// `unique_recipients_per_user_per_day`.
        ///
        /// Example: `limits = { messages_per_user_per_day = 500 }`
        optional limits: RawLimits, "D12";
    }
}

table! {
    /// A group. It is an address of its own kind in rules; the mailbox system expands it, or
    /// built-in Maildir does.
    ///
    /// ```toml
    /// [[organization.group]]
    /// address = "team@solarmora.com"
    /// members = ["marie@solarmora.com", "friend@elsewhere.example"]
    /// ```
    RawGroup {
        /// The address, in a domain of the organization.
        ///
        /// Example: `address = "team@solarmora.com"`
        required address: Mailbox, "C5";
        /// Addresses of users, by alias too, of other groups, or elsewhere. Groups within groups
        /// count; a circle is an error. With built-in Maildir, mail to a group that nobody is in is
        /// refused.
        ///
        /// Example: `members = ["marie@solarmora.com"]`
        list members: Mailbox, "C5";
    }
}

table! {
    /// A file of users and groups.
    RawDirectory {
        /// Users, as `[[organization.user]]`.
        list user: RawUser, "C4";
        /// Groups, as `[[organization.group]]`.
        list group: RawGroup, "C4";
    }
}

table! {
    /// Relay quotas that override the computed ones; the lower one holds when payment is overdue.
    /// Windows slide. Only mail that a relay entry admitted counts, once it is accepted.
    ///
    /// ```toml
    /// [organization.limits]
    /// recipients_per_day = 5000
    /// recipients_per_10_minutes = 500
    /// mode = "observe"
    /// ```
    RawLimits {
        /// Recipients of the organization in 24 hours, beyond which RCPT gets `550 5.7.1`. Absent:
        /// 130 for each licence, at most 4,600,000.
        ///
        /// Example: `recipients_per_day = 5000`
        optional recipients_per_day: u32, "D11";
        /// Recipients of the organization in 10 minutes, beyond which RCPT gets `450 4.2.1`.
        /// Absent: 9 for each licence, at most 319,444.
        ///
        /// Example: `recipients_per_10_minutes = 500`
        optional recipients_per_10_minutes: u32, "D11";
        /// Messages of one user in 24 hours, beyond which RCPT gets `550 5.4.5`. Absent: 10,000.
        ///
        /// Example: `messages_per_user_per_day = 500`
        optional messages_per_user_per_day: u32, "D10";
        /// Different recipients of one user in 24 hours, beyond which RCPT gets `550 5.4.5`.
        /// Absent: 130 for each licence.
        ///
        /// Example: `unique_recipients_per_user_per_day = 2000`
        optional unique_recipients_per_user_per_day: u32, "D10";
        /// Recipients of one login (the user that AUTH proved, whoever the envelope sender is) in 24
        /// hours, beyond which RCPT gets `550 5.7.1`. Holds beside the other quotas, for whatever the
        /// organization relays after AUTH. Absent: not limited, not counted.
        ///
        /// Example: `recipients_per_login_per_day = 1000`
        optional recipients_per_login_per_day: u32, "D11";
        /// Recipients of one client in 24 hours, beyond which RCPT gets `550 5.7.1`: of one IPv4
        /// address, or one IPv6 network of 64 bits. Holds beside the other quotas. Absent: not
        /// limited, not counted.
        ///
        /// Example: `recipients_per_client_per_day = 2000`
        optional recipients_per_client_per_day: u32, "D11";
        /// `"enforce"` refuses beyond the quotas, `"observe"` only counts and tells what it would
        /// have refused, `"off"` does not even count. Absent: `"enforce"`.
        ///
        /// Example: `mode = "observe"`
        optional mode: Mode, "O6";
    }
}

table! {
    /// Settings of an organizational unit.
    ///
    /// ```toml
    /// [[organization.rule]]
    /// description = "Archive"
    /// affects = ["inbound"]
    /// then = { modify = { also_deliver_to = [{ address = "archive@vault.example" }] } }
    ///
    /// [[organization.org_unit]]
    /// path = "/sales"
    /// disabled_rules = ["Archive"]
    /// ```
    RawOrgUnit {
        /// The unit.
        ///
        /// Example: `path = "/sales"`
        required path: OrgUnit, "C8";
        /// Descriptions of rules of units above that are off for this unit and those below. A rule
        /// of the unit itself is switched off by its `mode`.
        ///
        /// Example: `disabled_rules = ["Archive"]`
        list disabled_rules: Name, "C8";
    }
}
