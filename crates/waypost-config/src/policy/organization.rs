//! One organization, compiled.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use waypost_auth::Mode;
use waypost_inbound::InboundGateway;
use waypost_relay::{OverLimit, PasswordHash};
use waypost_route::Route;
use waypost_rules::{
    Direction, InternalDomains, Question, RuleSet, Spam, Subject, Verdict, combine,
};
use waypost_types::{Destination, Directory, Domain, HostPort, Mailbox, ReversePath, RouteName};

/// What is done with spam (D17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpamAction {
    /// Delivered to the mailbox system with a header line; the built-in Maildir files it under Junk.
    #[default]
    Mark,
    /// Kept under the quarantine name `spam`.
    Quarantine,
    /// Refused with `550 5.7.1`.
    Reject,
}

/// How a sender is found to be internal (C3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InternalSenders {
    /// The `From:` field alone decides.
    #[default]
    FromHeader,
    /// The field, and a proof: AUTH as a user of the organization, admission by a relay entry of it, one
    /// of its relay addresses, or a pass of SPF or DKIM for a domain aligned with each one in the field. A
    /// claim without proof is inbound; one that cannot be judged now is deferred.
    Authenticated,
}

/// A user and password for AUTH at a next hop. Neither printed nor serialized: `Debug` shows the user
/// alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name at the next hop.
    pub user: Box<str>,
    /// The password, as its file has it but for the end of the line.
    pub password: Box<str>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// An organization's settings, compiled.
pub struct Organization {
    /// Its name, unique on the server.
    pub name: Box<str>,
    /// Its verified domains; the first is the primary one.
    pub domains: Vec<Domain>,
    /// Which sender domains are internal.
    pub internal: InternalDomains,
    /// How a sender is found to be internal.
    pub internal_senders: InternalSenders,
    /// Its rules.
    pub rules: RuleSet,
    /// Its routes by name.
    pub routes: BTreeMap<RouteName, Arc<Route>>,
    /// Who we are to the next hops of those routes that ask for AUTH.
    pub logins: BTreeMap<RouteName, Login>,
    /// The route of its mailbox system; `None`: the built-in Maildir.
    pub mailbox_route: Option<RouteName>,
    /// The smart host for all outbound mail (B1).
    pub outbound_gateway: Option<HostPort>,
    /// The inbound gateway (E1-E12).
    pub inbound_gateway: Option<InboundGateway>,
    /// What is done with SPF and DMARC (E2).
    pub authenticate: Mode,
    /// What is done with spam.
    pub spam_action: SpamAction,
    /// From so many spam messages of one user in 24 hours on the administrators are told (D17); 0: never.
    pub abuse_threshold: u64,
    /// What happens over a limit of relayed mail (D10, D11).
    pub over_limit: OverLimit,
    /// Who is told of abuse and of limits that run out (D13, D17).
    pub administrators: Vec<Mailbox>,
    /// Who is who.
    pub directory: Arc<dyn Directory>,
    /// The password hashes of users, by primary address.
    pub passwords: HashMap<Mailbox, PasswordHash>,
}

impl Organization {
    /// Where mail for a recipient goes when no rule says otherwise: its mailbox system for a verified
    /// domain, else the outbound gateway or the recipient's MX hosts.
    #[must_use]
    pub fn default_destination(&self, recipient: &Mailbox) -> Destination {
        if recipient.domain().is_some_and(|domain| self.internal.is_verified(domain)) {
            return Destination::Mailbox { organization: self.name.clone() };
        }
        match &self.outbound_gateway {
            Some(host) => Destination::Gateway(host.clone()),
            None => Destination::Mx,
        }
    }

    /// Where a notice to somebody goes: as [`Organization::default_destination`], unless a rule for
    /// outbound mail changes the route of mail without an envelope sender (B2). Only routes are taken from
    /// rules; where the directory does not answer, none.
    #[must_use]
    pub fn notice_destination(&self, recipient: &Mailbox) -> Destination {
        let default = self.default_destination(recipient);
        if matches!(default, Destination::Mailbox { .. }) {
            return default;
        }
        let (sender, direction) = (ReversePath::Null, Direction::Outbound);
        let Ok(subject) = Subject::of_sender(&sender, &*self.directory) else { return default };
        let question = Question { direction, subject, sender: &sender, recipient };
        let Ok(walk) = self.rules.walk(&question, &*self.directory) else { return default };
        let route = match combine(recipient, &[&walk], Spam::No) {
            Verdict::Deliver(plan) => plan.route,
            _ => None,
        };
        route.map_or(default, |chosen| Destination::Route {
            organization: self.name.clone(),
            route: chosen.route,
        })
    }

    /// Whether mail for users ends in the built-in Maildir.
    #[must_use]
    pub fn has_maildir(&self) -> bool {
        self.mailbox_route.is_none()
    }
}
