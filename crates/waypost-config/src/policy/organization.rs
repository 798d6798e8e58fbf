//! One organization, compiled.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use waypost_auth::Mode;
use waypost_inbound::InboundGateway;
use waypost_relay::PasswordHash;
use waypost_route::Route;
use waypost_rules::{InternalDomains, RuleSet};
use waypost_types::{Destination, Directory, Domain, HostPort, Mailbox, RouteName};

/// What is done with spam (D17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// The field, and a proof: AUTH or admission by a relay entry. A claim without proof is inbound.
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

    /// Whether mail for users ends in the built-in Maildir.
    #[must_use]
    pub fn has_maildir(&self) -> bool {
        self.mailbox_route.is_none()
    }
}
