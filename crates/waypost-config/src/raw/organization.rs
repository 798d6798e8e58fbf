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
    /// A customer: domains, users, and everything that is set for them.
    RawOrganization {
        /// The name, unique.
        required name: Name, "A1";
        /// Verified domains, the first is the primary one.
        list domains: Domain, "C3";
        /// The number of licences, from which the relay quotas follow; absent: 0.
        optional licences: u32, "D11";
        /// Payment is overdue: relay quotas are small.
        default payment_overdue: bool = false, "D12";
        /// The route to the mailbox system; absent: Maildir in the spool.
        optional mailbox_route: RouteName, "C7";
        /// The host that all outbound mail goes through.
        optional outbound_gateway: HostPort, "B1";
        /// What proves that a sender is internal.
        default internal_senders: InternalSenders = InternalSenders::FromHeader, "C3";
        /// Who is told of abuse and quota warnings.
        list administrators: Mailbox, "D17";
        /// A file of users and groups, or a list of such files: TOML with `[[user]]` and `[[group]]`
        /// tables, as those below; or, with a name that ends in `.csv`, a table whose first row names
        /// its columns: `kind` (`user` or `group`), `address`, `aliases`, `org_unit`, `active`,
        /// `password`, `members`, `messages_per_user_per_day`, `unique_recipients_per_user_per_day`.
        optional directory: DirectoryFiles, "C4";
        /// What SPF and DMARC do.
        default authenticate: Authenticate = Authenticate::Off, "E2";
        /// What happens to spam.
        default spam_action: SpamAction = SpamAction::Mark, "D17";
        /// Spam messages of one user in a day, above which the administrators are told.
        default abuse_threshold: u64 = 100, "D17";
        /// What happens to mail over a quota.
        default over_limit: OverLimit = OverLimit::Reject, "D10";
        /// Users.
        list user: RawUser, "C4";
        /// Groups.
        list group: RawGroup, "C4";
        /// Next hop systems.
        list route: RawRoute, "A1";
        /// Routing rules.
        list rule: RawRule, "C1";
        /// The gateway that inbound mail comes from.
        optional inbound_gateway: RawInboundGateway, "E1";
        /// Who may relay.
        list relay: RawRelay, "D1";
        /// Settings of organizational units; units need no declaration.
        list org_unit: RawOrgUnit, "C8";
        /// Relay quotas other than the computed ones.
        optional limits: RawLimits, "D12";
    }
}

table! {
    /// A user.
    RawUser {
        /// The primary address.
        required address: Mailbox, "C4";
        /// Other addresses of the same user.
        list aliases: Mailbox, "D10";
        /// The organizational unit.
        default org_unit: OrgUnit = OrgUnit::root(), "C8";
        /// The password's hash, for SMTP AUTH; `waypost hash-password` makes one.
        optional password: PasswordHash, "D6";
        /// An inactive user counts as unrecognized and cannot authenticate.
        default active: bool = true, "C8";
        /// Relay quotas of this user.
        optional limits: RawLimits, "D12";
    }
}

table! {
    /// A group.
    RawGroup {
        /// The address.
        required address: Mailbox, "C5";
        /// Addresses of users, of other groups, or elsewhere.
        list members: Mailbox, "C5";
    }
}

table! {
    /// A file of users and groups.
    RawDirectory {
        /// Users.
        list user: RawUser, "C4";
        /// Groups.
        list group: RawGroup, "C4";
    }
}

table! {
    /// Relay quotas that override the computed ones; the lower one holds when payment is overdue.
    RawLimits {
        /// Recipients of the organization in 24 hours.
        optional recipients_per_day: u32, "D11";
        /// Recipients of the organization in 10 minutes.
        optional recipients_per_10_minutes: u32, "D11";
        /// Messages of one user in 24 hours.
        optional messages_per_user_per_day: u32, "D10";
        /// Different recipients of one user in 24 hours.
        optional unique_recipients_per_user_per_day: u32, "D10";
        /// Whether quotas refuse, are only counted, or are off.
        optional mode: Mode, "O6";
    }
}

table! {
    /// Settings of an organizational unit.
    RawOrgUnit {
        /// The unit.
        required path: OrgUnit, "C8";
        /// Descriptions of inherited rules that are off for this unit and those below.
        list disabled_rules: Name, "C8";
    }
}
