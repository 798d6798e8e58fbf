//! A policy as tables for a Postfix that delivers the mail: what is known of one address alone.
//!
//! **In:** a [`Policy`], a [`Table`], a key as Postfix looks it up. **Out:** [`Looked`]: the value in
//! Postfix's words, none, or that it cannot be told now. [`limits`] lists every setting that tables and
//! policy delegation cannot express, each with the reason.
//!
//! **Bounds:** a look-up evaluates the policy for one address, once for each organization at most.
//! **Errors:** none. **Source:** transport(5), virtual(5), postconf(5); requirements A2 to A9, B1, B2, C2
//! to C8, and `docs/POSTFIX.md`, which says what each table can and cannot express.
//!
//! **Not here:** sockets; what policy delegation answers (`waypost-server`), which sees sender and client
//! too.

mod limits;
mod next_hops;

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use waypost_postfix::from_key;
use waypost_relay::{Admission, Because, Identity, QuotaSubject};
use waypost_types::{
    Destination, Domain, HeaderBlock, ListenerRole, Mailbox, Recipient, ReversePath, Session,
    TlsState,
};

use crate::policy::{
    DecidedDelivery, Decision, Organization, Policy, RcptVerdict, RefusalCause, Refused,
    Transaction,
};
pub use limits::{Limit, limits};
use next_hops::{next_hop, tls_level};
use waypost_postfix::NextHop;

/// A table that Postfix looks one key up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Table {
    /// `transport_maps`: recipient to next hop.
    Transport,
    /// `sender_dependent_default_transport_maps`: sender to the next hop of mail for the outside.
    Senders,
    /// `relay_recipient_maps` and others that ask whether a recipient exists.
    Recipients,
    /// `relay_domains`: the verified domains.
    Domains,
    /// `virtual_alias_maps`: recipient to other recipients.
    Aliases,
    /// `smtp_tls_policy_maps`: next hop to what is asked of TLS.
    Tls,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 6] = [
        Table::Transport,
        Table::Senders,
        Table::Recipients,
        Table::Domains,
        Table::Aliases,
        Table::Tls,
    ];

    /// The name by which Postfix asks for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Transport => "transport",
            Table::Senders => "senders",
            Table::Recipients => "recipients",
            Table::Domains => "domains",
            Table::Aliases => "aliases",
            Table::Tls => "tls",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no table `{0}`; there are transport, senders, recipients, domains, aliases and tls"
)]
pub struct UnknownTable(String);

impl FromStr for Table {
    type Err = UnknownTable;

    fn from_str(text: &str) -> Result<Self, UnknownTable> {
        let found = Table::ALL.into_iter().find(|table| table.as_str() == text);
        let shown = || text.chars().take(40).filter(|c| !c.is_control()).collect();
        found.ok_or_else(|| UnknownTable(shown()))
    }
}

/// What a table says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The value.
    Found(String),
    /// There is none: Postfix goes on as its other settings say.
    NotFound,
    /// It cannot be told now, and why: the directory does not answer (C8).
    Unavailable(String),
}

/// A policy, asked as tables.
#[derive(Clone, Copy)]
pub struct Tables<'p> {
    policy: &'p Policy,
    /// The key under which the hosts of a route are drawn (A9).
    key: [u8; 16],
}

impl<'p> Tables<'p> {
    /// The tables of a policy. The order of a route's hosts is drawn for each address under `key`, so
    /// that loads hold over many addresses and an address keeps its order.
    #[must_use]
    pub fn new(policy: &'p Policy, key: [u8; 16]) -> Self {
        Self { policy, key }
    }

    /// Looks a key up. Keys that are no whole addresses, as Postfix tries them (`@domain`, the parent
    /// of a domain), are not found.
    #[must_use]
    pub fn look_up(&self, table: Table, key: &str) -> Looked {
        let address = |of: &dyn Fn(&Mailbox) -> Looked| match from_key(key) {
            Ok(address) => of(&address),
            Err(_) => Looked::NotFound,
        };
        match table {
            Table::Transport => address(&|recipient| self.transport(recipient)),
            Table::Senders if matches!(key, "" | "<>") => self.of_sender(&ReversePath::Null),
            Table::Senders => address(&|sender| self.of_sender(&sender.clone().into())),
            Table::Recipients => address(&|recipient| self.recipient(recipient)),
            Table::Domains => self.domain(key),
            Table::Aliases => address(&|recipient| self.aliases(recipient)),
            Table::Tls => tls_level(self.policy, key)
                .map_or(Looked::NotFound, |level| Looked::Found(level.to_string())),
        }
    }

    fn transport(&self, recipient: &Mailbox) -> Looked {
        if self.policy.receiving(recipient).is_some() {
            return self.own_transport(recipient);
        }
        // Who sends is not seen, so only what holds for all who may send is said.
        let mut ways = self.policy.organizations().iter();
        let mut way = |one: &Organization| self.outbound(one, &ReversePath::Null, recipient);
        let Some(first) = ways.next().map(&mut way) else { return Looked::NotFound };
        if ways.any(|one| way(one) != first) { Looked::NotFound } else { first }
    }

    /// Mail from outside for a recipient of ours.
    fn own_transport(&self, recipient: &Mailbox) -> Looked {
        let decision = self.of_mail_from_outside(recipient);
        if let Some(refused) = decision.refusals.first() {
            return refusal(refused);
        }
        match own(&decision).as_slice() {
            [only] => self.way(&only.delivery.destination, recipient),
            _ => Looked::NotFound,
        }
    }

    fn way(&self, destination: &Destination, address: &Mailbox) -> Looked {
        match next_hop(self.policy, destination, address, self.key) {
            Some(hop) => Looked::Found(hop.to_string()),
            None => Looked::NotFound,
        }
    }

    /// The way of mail for the outside by its sender.
    fn of_sender(&self, sender: &ReversePath) -> Looked {
        // An address that no rule for outbound mail can name: `invalid` is nobody's (RFC 6761).
        let Ok(anybody) = "anybody@invalid".parse::<Mailbox>() else { return Looked::NotFound };
        let organizations = self.policy.organizations();
        let owner = match (sender.domain(), organizations) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(domain), _) => domain.suffixes().find_map(|suffix| {
                let owns =
                    |one: &&Organization| one.domains.iter().any(|own| own.as_str() == suffix);
                organizations.iter().find(owns)
            }),
        };
        owner.map_or(Looked::NotFound, |owner| self.outbound(owner, sender, &anybody))
    }

    /// The way of mail that is relayed for an organization.
    fn outbound(&self, by: &Organization, sender: &ReversePath, to: &Mailbox) -> Looked {
        let Some(limits) = self.policy.relay().limits(&by.name, None) else {
            return Looked::NotFound;
        };
        let Some(domain) = by.domains.first() else { return Looked::NotFound };
        let admission = Admission {
            entry: "".into(),
            sender: sender.clone(),
            original_sender: sender.clone(),
            quota: QuotaSubject {
                organization: (*by.name).into(),
                user: None,
                login: None,
                client: None,
                limits,
            },
            copy_to: None,
            because: Because {
                auth: None,
                address: None,
                identity: Identity::Domain(domain.clone()),
            },
            observed: Vec::new(),
        };
        let transaction = Transaction {
            session: session(ListenerRole::Relay),
            sender: sender.clone(),
            admission: Some(admission),
            relay_refusal: None,
        };
        let decision = self.decide(&transaction, to);
        if let Some(refused) = decision.refusals.first() {
            return match refused.cause {
                RefusalCause::DirectoryUnavailable => refusal(refused),
                // Policy delegation refuses; who sends is known there.
                _ => Looked::NotFound,
            };
        }
        match own(&decision).as_slice() {
            [only] => self.way(&only.delivery.destination, to),
            _ => Looked::NotFound,
        }
    }

    /// Whether a recipient of ours is somebody, in any direction that mail may have.
    fn recipient(&self, recipient: &Mailbox) -> Looked {
        let Some(domain) = recipient.domain() else { return Looked::NotFound };
        if self.policy.receiving(recipient).is_none() {
            return Looked::NotFound;
        }
        // A client that no inbound gateway keeps out, and whose mail may be internal.
        let transaction = Transaction {
            session: Session {
                auth: Some(Mailbox::postmaster(domain.clone())),
                tls: TlsState::Encrypted,
                ..session(ListenerRole::Mx)
            },
            ..nobody()
        };
        match self.policy.at_rcpt(&transaction, &Recipient::from(recipient.clone()), 0) {
            RcptVerdict::Refuse(refused) => match refused.cause {
                RefusalCause::UnknownRecipient => Looked::NotFound,
                RefusalCause::DirectoryUnavailable => refusal(&refused),
                // Somebody, whom policy delegation refuses in other words.
                _ => Looked::Found("OK".to_owned()),
            },
            RcptVerdict::Accept { .. } => Looked::Found("OK".to_owned()),
        }
    }

    fn domain(&self, key: &str) -> Looked {
        let domain = key.parse::<Domain>().ok();
        let known = domain.filter(|domain| {
            self.policy.organizations().iter().any(|one| one.domains.contains(domain))
        });
        known.map_or(Looked::NotFound, |_| Looked::Found("OK".to_owned()))
    }

    /// Other recipients in the place of one of ours, as far as Postfix then sends each the way that the
    /// rules say.
    fn aliases(&self, recipient: &Mailbox) -> Looked {
        if self.policy.receiving(recipient).is_none() {
            return Looked::NotFound;
        }
        let decision = self.of_mail_from_outside(recipient);
        if let Some(refused) = decision.refusals.first() {
            return match refused.cause {
                RefusalCause::DirectoryUnavailable => refusal(refused),
                _ => Looked::NotFound,
            };
        }
        let fits = |one: &DecidedDelivery| {
            let to = &one.delivery.recipient;
            to == recipient || self.transport(to) == self.way(&one.delivery.destination, to)
        };
        let mut others: Vec<String> = Vec::new();
        let own = own(&decision);
        let all = own.iter().all(|one| fits(one));
        if !all {
            others.push(recipient.to_string());
        }
        let own = own.into_iter().filter(|_| all);
        let copies = deliveries(&decision)
            .filter(|one| one.is_copy && one.delivery.recipient != *recipient && fits(one));
        for one in own.chain(copies) {
            let to = one.delivery.recipient.to_string();
            if !others.contains(&to) {
                others.push(to);
            }
        }
        match others.as_slice() {
            [only] if *only == recipient.to_string() => Looked::NotFound,
            [] => Looked::NotFound,
            others => Looked::Found(others.join(", ")),
        }
    }

    /// What becomes of mail from an unknown sender outside: an address alone tells no more.
    fn of_mail_from_outside(&self, recipient: &Mailbox) -> Decision {
        self.decide(&nobody(), recipient)
    }

    fn decide(&self, transaction: &Transaction, recipient: &Mailbox) -> Decision {
        let recipient = Recipient::from(recipient.clone());
        self.policy.at_data(transaction, &[recipient], &HeaderBlock::of(b""))
    }
}

fn deliveries(decision: &Decision) -> impl Iterator<Item = &DecidedDelivery> {
    let kept = decision.quarantined.iter().flat_map(|kept| &kept.deliveries);
    decision.deliveries.iter().chain(kept)
}

/// The recipient's own deliveries: one, or one for each member of a group.
fn own(decision: &Decision) -> Vec<&DecidedDelivery> {
    deliveries(decision).filter(|one| !one.is_copy).collect()
}

fn refusal(refused: &Refused) -> Looked {
    match refused.cause {
        RefusalCause::UnknownRecipient => Looked::NotFound,
        RefusalCause::DirectoryUnavailable => Looked::Unavailable(refused.because.clone()),
        _ => Looked::Found(NextHop::Refused(refused.reply.clone()).to_string()),
    }
}

fn session(role: ListenerRole) -> Session {
    Session {
        client_ip: Ipv4Addr::UNSPECIFIED.into(),
        role,
        helo: None,
        auth: None,
        tls: TlsState::Clear,
    }
}

fn nobody() -> Transaction {
    Transaction {
        session: session(ListenerRole::Mx),
        sender: ReversePath::Null,
        admission: None,
        relay_refusal: None,
    }
}

#[cfg(test)]
mod tests;
