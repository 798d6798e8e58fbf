//! A relay listener, whatever a client says: the SMTP server with the policy behind it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use waypost_config::compile;
use waypost_config::diagnostics::SourceFile;
use waypost_config::policy::{DataReply, Policy, RcptVerdict, Transaction};
use waypost_config::raw;
use waypost_smtp::server::{AuthOffer, Event, Server, Settings, TlsOffer};
use waypost_types::{
    Destination, Domain, HeaderBlock, ListenerRole, Recipient, Reply, ReversePath, Session,
    Timestamp, TlsState,
};

use crate::steer::{Steer, chunks};

const NOW: Timestamp = Timestamp::from_millis(0);
const RECIPIENTS: usize = 4;
const PASSWORD: &[u8] = b"secret";

/// Two organizations, one with a domain below the other's, and entries of every kind.
const CONFIGURATION: &str = r#"
[server]
hostname = "mx.solarmora.com"
spool = "spool"
limits = { recipients = 4 }

[[listener]]
name = "relay"
role = "relay"
bind = "127.0.0.1:2587"
tls = { certificate = "mx.pem", key = "mx.key" }

[[organization]]
name = "Solarmora"
domains = ["solarmora.com", "solarmora.fr"]
licences = 250
outbound_gateway = "smart.example"

[[organization.user]]
address = "marie@solarmora.com"
aliases = ["m.paul@solarmora.fr"]

[[organization.user]]
address = "gone@solarmora.com"
active = false

[[organization.relay]]
description = "Servers"
allowed_senders = "my-domains"
addresses = [{ range = "203.0.113.0/28" }, { range = "203.0.113.64", enabled = false }]

[[organization.relay]]
description = "Staff"
allowed_senders = "registered-users"
require_auth = true
copy_to = "sender-mailbox"

[[organization.relay]]
description = "Lists"
allowed_senders = "any"
addresses = [{ range = "198.51.100.7" }, { range = "2001:db8:7::/112" }]
require_tls = true
copy_to = "archive@store.example"

[[organization.relay]]
description = "Both"
allowed_senders = "any"
addresses = [{ range = "192.0.2.0/30" }]
require_auth = true

[[organization.relay]]
description = "Not in force"
allowed_senders = "any"
addresses = [{ range = "198.51.100.200" }]
mode = "off"

[[organization.relay]]
description = "Tried"
allowed_senders = "registered-users"
addresses = [{ range = "203.0.113.128" }]
mode = "observe"

[[organization.rule]]
description = "Tagged"
affects = ["outbound"]
then = { modify = { subject_prefix = "[out] " } }

[[organization]]
name = "Nordlys"
domains = ["nordlys.example", "north.solarmora.com"]
licences = 10

[[organization.user]]
address = "ole@nordlys.example"

[[organization.relay]]
description = "Anybody of ours"
allowed_senders = "any"
require_auth = true

[[organization.relay]]
description = "Servers of ours"
allowed_senders = "registered-users"
addresses = [{ range = "203.0.113.15" }]
"#;

/// The same once more, as the reader of this file understands it: nothing of it comes from the crates
/// that are tested.
struct Entry {
    owner: &'static str,
    senders: Senders,
    /// First and last address.
    ranges: &'static [(&'static str, &'static str)],
    auth: bool,
    tls: bool,
    copy: Copy,
}

#[derive(Clone, Copy, PartialEq)]
enum Senders {
    Users,
    Domains,
    Any,
}

#[derive(Clone, Copy, PartialEq)]
enum Copy {
    No,
    Sender,
    Archive,
}

const DOMAINS: [(&str, &str); 4] = [
    ("solarmora.com", "Solarmora"),
    ("solarmora.fr", "Solarmora"),
    ("nordlys.example", "Nordlys"),
    ("north.solarmora.com", "Nordlys"),
];

/// Addresses and aliases of active users, and their primary addresses.
const USERS: [(&str, &str); 3] = [
    ("marie@solarmora.com", "marie@solarmora.com"),
    ("m.paul@solarmora.fr", "marie@solarmora.com"),
    ("ole@nordlys.example", "ole@nordlys.example"),
];

#[rustfmt::skip]
const ENTRIES: [Entry; 7] = [
    Entry { owner: "Solarmora", senders: Senders::Domains, ranges: &[("203.0.113.0", "203.0.113.15")], auth: false, tls: false, copy: Copy::No },
    Entry { owner: "Solarmora", senders: Senders::Users, ranges: &[], auth: true, tls: true, copy: Copy::Sender },
    Entry { owner: "Solarmora", senders: Senders::Any, ranges: &[("198.51.100.7", "198.51.100.7"), ("2001:db8:7::", "2001:db8:7::ffff")], auth: false, tls: true, copy: Copy::Archive },
    Entry { owner: "Solarmora", senders: Senders::Any, ranges: &[("192.0.2.0", "192.0.2.3")], auth: true, tls: true, copy: Copy::No },
    Entry { owner: "Solarmora", senders: Senders::Users, ranges: &[("203.0.113.128", "203.0.113.128")], auth: false, tls: false, copy: Copy::No },
    Entry { owner: "Nordlys", senders: Senders::Any, ranges: &[], auth: true, tls: true, copy: Copy::No },
    Entry { owner: "Nordlys", senders: Senders::Users, ranges: &[("203.0.113.15", "203.0.113.15")], auth: false, tls: false, copy: Copy::No },
];

/// Where clients come from: the edges of every range, and strangers.
const CLIENTS: [&str; 16] = [
    "198.51.100.9",
    "203.0.113.0",
    "203.0.113.15",
    "203.0.113.16",
    "203.0.113.64",
    "203.0.113.128",
    "198.51.100.7",
    "198.51.100.200",
    "192.0.2.3",
    "192.0.2.4",
    "2001:db8:7::ffff",
    "2001:db8:7::1:0",
    "127.0.0.1",
    "::1",
    "2001:db8::1",
    "0.0.0.0",
];

/// A client's octets; the first three bytes are where it comes from, how TLS is offered and what the
/// listener is for, and the cuts. Octets behind each `0xFF` are sent after what went before was answered, in
/// TLS if that ended with STARTTLS.
///
/// What is admitted is what a naive reading of the entries admits, as whom and for whom (D2-D8): from
/// a client that no entry knows nothing is taken for anybody outside, neither at MAIL, RCPT nor after
/// DATA. AUTH and HELO count only if they were said since TLS began. A null sender has one recipient
/// (D9), any other at most as many as configured (D14). What leaves bears the sender that was admitted,
/// never a foreign one; the copy of the entry that admitted, at most one, bears none (D16).
pub fn relay_session(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let (from, kind, seed) = (steer.byte(), steer.byte(), steer.byte());
    let client: IpAddr = CLIENTS[usize::from(from) % CLIENTS.len()].parse().unwrap();
    let tls = if kind & 1 == 0 { TlsOffer::StartTls } else { TlsOffer::Implicit };
    let role = if kind & 2 == 0 { ListenerRole::Relay } else { ListenerRole::Both };
    let mut driver = Driver::new(client, role, tls);
    for part in steer.rest().split(|octet| *octet == 0xff) {
        for chunk in chunks(part, seed) {
            driver.give(chunk);
        }
        if driver.handshake {
            driver.handshake = false;
            driver.known = Known { encrypted: true, ..Known::default() };
            driver.server.handle_tls(NOW);
            driver.settle();
        }
    }
    driver.server.handle_eof();
    driver.settle();
}

fn policy() -> &'static Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    POLICY.get_or_init(|| {
        let main = SourceFile::new("waypost.toml", CONFIGURATION);
        let (config, mut report) = raw::read(main, Vec::new()).unwrap();
        let files: HashMap<String, Vec<u8>> = HashMap::new();
        let compiled = compile(&config, &files, &mut report);
        compiled.unwrap_or_else(|| panic!("{}", report.render(false))).into_policy("1")
    })
}

/// What a client has shown since TLS began, kept apart from the server.
#[derive(Debug, Default)]
struct Known {
    encrypted: bool,
    helo: Option<String>,
    auth: Option<String>,
}

struct Open {
    transaction: Transaction,
    recipients: Vec<Recipient>,
}

struct Driver {
    server: Server,
    client: IpAddr,
    role: ListenerRole,
    known: Known,
    handshake: bool,
    open: Option<Open>,
}

impl Driver {
    fn new(client: IpAddr, role: ListenerRole, tls: TlsOffer) -> Self {
        let mut settings = Settings::new(policy().server.hostname.clone());
        settings.tls = tls;
        settings.auth = AuthOffer::InsideTls;
        settings.limits.message_size = 4096;
        settings.timeouts.auth_failure_pause = Duration::ZERO;
        let known = Known { encrypted: tls == TlsOffer::Implicit, ..Known::default() };
        let server = Server::new(Arc::new(settings), NOW);
        let mut driver = Self { server, client, role, known, handshake: false, open: None };
        driver.settle();
        driver
    }

    fn give(&mut self, octets: &[u8]) {
        if self.server.wants_read() && !self.handshake {
            self.server.handle_bytes(NOW, octets);
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            while let Some(event) = self.server.poll_event(NOW) {
                if event == Event::StartTls {
                    self.handshake = true;
                    drop(self.server.take_output());
                    return;
                }
                self.answer(event);
            }
            if self.server.take_output().is_empty() {
                return;
            }
        }
    }

    fn answer(&mut self, event: Event) {
        match event {
            Event::Reset(_) | Event::Closed(_) => self.open = None,
            Event::Connect | Event::Data => self.server.accept(NOW),
            Event::StartTls | Event::Xclient(_) => unreachable!("handled, and not offered"),
            Event::Hello { name, .. } => {
                self.open = None;
                self.known.helo = Some(name.to_string());
                self.server.accept(NOW);
            }
            Event::Auth(credentials) => {
                assert!(self.known.encrypted, "a password in clear text (D6)");
                let name = credentials.user.to_ascii_lowercase();
                let user = USERS.iter().find(|(address, _)| *address == name);
                match user.filter(|_| credentials.password.as_bytes() == PASSWORD) {
                    Some((_, primary)) => {
                        self.known.auth = Some((*primary).to_owned());
                        self.server.accept_auth(NOW, primary.parse().unwrap());
                    }
                    None => self.server.answer(NOW, Reply::new(535, (5, 7, 8), "No")),
                }
            }
            Event::Mail { sender, .. } => self.mail(&sender),
            Event::Rcpt(recipient) => self.rcpt(recipient),
            Event::Message(data) => {
                let open = self.open.take().unwrap();
                let header = HeaderBlock::of(&data.stuffed);
                let reply = self.decided(&open, &header);
                self.server.answer(NOW, reply);
            }
        }
    }

    fn session(&self) -> Session {
        let session = Session {
            client_ip: self.client,
            role: self.role,
            helo: self.server.hello().map(|(_, name)| name.into()),
            auth: self.server.user().cloned(),
            tls: self.server.tls(),
        };
        assert_eq!(session.helo.as_deref(), self.known.helo.as_deref());
        assert_eq!(session.auth.as_ref().map(ToString::to_string), self.known.auth);
        assert_eq!(session.tls == TlsState::Encrypted, self.known.encrypted);
        session
    }

    fn mail(&mut self, sender: &ReversePath) {
        let tried = policy().at_mail(&self.session(), sender);
        let admitting = admitting(self.client, &self.known, sender);
        match tried {
            Err(refusal) => {
                assert!(self.role == ListenerRole::Relay && admitting.is_empty(), "{refusal:?}");
                assert!(refusal.reply.code() >= 400);
                self.server.answer(NOW, refusal.reply);
            }
            Ok(transaction) => {
                let Some(admission) = &transaction.admission else {
                    assert!(self.role == ListenerRole::Both && admitting.is_empty());
                    self.open = Some(Open { transaction, recipients: Vec::new() });
                    return self.server.accept(NOW);
                };
                let owner = &*admission.quota.organization;
                let by = admitting.iter().filter(|entry| entry.owner == owner);
                assert!(by.count() > 0, "{owner} admits {sender} of {:?}", self.known);
                let (own, foreign) = (owner_of_sender(sender), admission.sender.to_string());
                match sender.is_null() || own == Some(owner) {
                    true => assert_eq!(&admission.sender, sender, "rewritten without need (D8)"),
                    false => {
                        let domain = foreign.strip_prefix("postmaster@").unwrap_or_default();
                        let known = DOMAINS.iter().find(|(name, _)| *name == domain);
                        assert_eq!(known.map(|(_, owner)| *owner), Some(owner), "{foreign} (D8)");
                    }
                }
                let user = registered(sender).filter(|_| own == Some(owner));
                let counted = admission.quota.user.as_ref().map(ToString::to_string);
                assert_eq!(counted.as_deref(), user, "{sender} (D10)");
                self.open = Some(Open { transaction, recipients: Vec::new() });
                self.server.accept(NOW);
            }
        }
    }

    fn rcpt(&mut self, recipient: Recipient) {
        let Some(open) = &mut self.open else { panic!("RCPT without MAIL") };
        let standing = open.recipients.len();
        let verdict = policy().at_rcpt(&open.transaction, &recipient, standing);
        match verdict {
            RcptVerdict::Refuse(refused) => {
                assert!(refused.reply.code() >= 400);
                self.server.answer(NOW, refused.reply);
            }
            RcptVerdict::Accept { .. } => {
                let is_admitted = open.transaction.admission.is_some();
                let is_ours = recipient
                    .address
                    .domain()
                    .is_some_and(|domain| DOMAINS.iter().any(|(ours, _)| *ours == domain.as_str()));
                assert!(is_admitted || is_ours, "relayed to {} unknown", recipient.address);
                let is_null = open.transaction.sender.is_null() && is_admitted;
                assert!(standing < if is_null { 1 } else { RECIPIENTS }, "D9, D14");
                open.recipients.push(recipient);
                self.server.accept(NOW);
            }
        }
    }

    /// The decision after DATA, looked at; the reply.
    fn decided(&self, open: &Open, header: &HeaderBlock<'_>) -> Reply {
        let Open { transaction, recipients } = open;
        let decision = policy().at_data(transaction, recipients, header);
        let admission = transaction.admission.as_ref();
        let sender = admission.map_or(&transaction.sender, |admission| &admission.sender);
        let mut copies = Vec::new();
        for one in &decision.deliveries {
            let leaves = !matches!(one.delivery.destination, Destination::Mailbox { .. });
            assert!(admission.is_some() || !leaves, "an unknown client's mail leaves");
            if one.is_copy {
                assert!(one.delivery.sender.is_null() && one.delivery.suppress_bounces, "D16");
                copies.push(one.delivery.recipient.to_string());
                continue;
            }
            let among = recipients.iter().any(|to| to.address == one.delivery.original_recipient);
            assert!(among, "{} was never given", one.delivery.original_recipient);
            assert_eq!(&one.delivery.sender, sender, "another sender than the admitted one");
        }
        let taken = decision.reply == DataReply::Accept;
        let entry = admission.map(|admission| (&*admission.quota.organization, &*admission.entry));
        let wanted = match entry {
            Some(("Solarmora", "Staff")) => Copy::Sender,
            Some(("Solarmora", "Lists")) => Copy::Archive,
            _ => Copy::No,
        };
        assert!(ENTRIES.iter().any(|entry| entry.copy == wanted));
        let user = registered(&transaction.sender);
        let wanted = match wanted {
            Copy::Sender => user.filter(|user| {
                // Who writes to himself has it anyhow.
                !recipients.iter().any(|to| registered(&to.address.clone().into()) == Some(user))
            }),
            Copy::Archive => Some("archive@store.example"),
            Copy::No => None,
        };
        match wanted.filter(|_| taken) {
            Some(wanted) => assert!(copies == [wanted] || anyhow(recipients), "{copies:?}"),
            None => assert!(copies.len() <= usize::from(taken && anyhow(recipients)), "{copies:?}"),
        }
        match decision.reply {
            DataReply::Accept => Reply::new(250, (2, 0, 0), "Accepted"),
            DataReply::Refuse(reply) => {
                assert!(decision.deliveries.is_empty() && reply.code() >= 400);
                reply
            }
        }
    }
}

/// Whether a recipient may be where a copy goes by the same way, so that there is none, or by
/// another way, so that there is one nevertheless.
fn anyhow(recipients: &[Recipient]) -> bool {
    recipients.iter().any(|to| {
        let to = to.address.to_string().to_ascii_lowercase();
        to == "archive@store.example" || USERS.iter().any(|(address, _)| *address == to)
    })
}

/// The entries that admit, by the rules read one by one.
fn admitting(client: IpAddr, known: &Known, sender: &ReversePath) -> Vec<&'static Entry> {
    let auth = known.auth.as_deref().filter(|_| known.encrypted);
    let auth_owner = auth.and_then(|user| user.rsplit('@').next()).and_then(owner);
    let helo = known.helo.as_deref().and_then(|helo| helo.parse::<Domain>().ok());
    let helo_owner = helo.as_ref().and_then(|helo| owner(helo.as_str()));
    let sender_owner = owner_of_sender(sender);
    let admits = |entry: &&Entry| {
        if entry.tls && !known.encrypted {
            return false;
        }
        if entry.auth && auth_owner != Some(entry.owner) {
            return false;
        }
        if !entry.ranges.is_empty() && !entry.ranges.iter().any(|range| lies_in(client, *range)) {
            return false;
        }
        let is_own = sender_owner == Some(entry.owner);
        let is_known = auth_owner == Some(entry.owner) || helo_owner == Some(entry.owner);
        match entry.senders {
            _ if sender.is_null() => is_known,
            Senders::Users => is_own && registered(sender).is_some(),
            Senders::Domains => is_own,
            Senders::Any => is_own || is_known,
        }
    };
    ENTRIES.iter().filter(admits).collect()
}

fn lies_in(client: IpAddr, (first, last): (&str, &str)) -> bool {
    let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
    match (client, first, last) {
        (IpAddr::V4(client), IpAddr::V4(first), IpAddr::V4(last)) => {
            (first..=last).contains(&client)
        }
        (IpAddr::V6(client), IpAddr::V6(first), IpAddr::V6(last)) => {
            (first..=last).contains(&client)
        }
        _ => false,
    }
}

/// The organization with the longest domain at or above a name.
fn owner(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let at_or_above = |domain: &str| name == domain || name.ends_with(&format!(".{domain}"));
    let found = DOMAINS.iter().filter(|(domain, _)| at_or_above(domain));
    found.max_by_key(|(domain, _)| domain.len()).map(|(_, owner)| *owner)
}

fn owner_of_sender(sender: &ReversePath) -> Option<&'static str> {
    sender.domain().and_then(|domain| owner(domain.as_str()))
}

/// The primary address of the active user whom an address means.
fn registered(address: &ReversePath) -> Option<&'static str> {
    let mailbox = address.mailbox()?;
    let (local, domain) = (mailbox.local_part(), mailbox.domain()?.as_str());
    let address = format!("{}@{domain}", local.to_lowercase());
    USERS.iter().find(|(user, _)| *user == address).map(|(_, primary)| *primary)
}
