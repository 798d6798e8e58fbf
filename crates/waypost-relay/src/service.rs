//! All relay entries of a server, and the one question asked of them: is this sender relayed?

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::sync::Arc;

use siphasher::sip::SipHasher13;
use waypost_types::{
    Account, Directory, Domain, ListenerRole, Mailbox, Reply, ReversePath, Session, Unavailable,
};

use crate::admission::{Admission, Because, Identity, ObservedRefusal};
use crate::caller_ledger::network;
use crate::limits::{LimitOverrides, Limits, Payment, UserLimitOverrides};
use crate::quota::QuotaSubject;
use crate::refusal::{Refusal, RefusalReason};
use crate::relay_entry::{AllowedSenders, Encryption, RelayEntry, RelayMode, UnlistedAddress};
use crate::relay_error::ServiceError;

/// What the relay service needs to know of one organization.
#[derive(Clone, Debug)]
pub struct OrganizationRelay {
    /// Its name; quotas are counted under it.
    pub name: String,
    /// Its verified domains, the primary one first.
    pub domains: Vec<Domain>,
    /// Its relay entries, in file order.
    pub entries: Vec<RelayEntry>,
    /// How many licences it has (D10, D11).
    pub licences: u32,
    /// Whether it has paid (D12).
    pub payment: Payment,
    /// Its own limits (D12).
    pub limits: LimitOverrides,
    /// Limits of single users, by primary address (D12).
    pub user_limits: HashMap<Mailbox, UserLimitOverrides>,
}

impl OrganizationRelay {
    /// An organization without relay entries that has paid and keeps to the computed limits.
    #[must_use]
    pub fn new(name: &str, domains: Vec<Domain>, licences: u32) -> Self {
        Self {
            name: name.to_owned(),
            domains,
            entries: Vec::new(),
            licences,
            payment: Payment::Settled,
            limits: LimitOverrides::default(),
            user_limits: HashMap::new(),
        }
    }
}

/// The relay entries of all organizations of a server; immutable, to be shared.
#[derive(Clone, Debug, Default)]
pub struct RelayService {
    organizations: Vec<Organization>,
    /// The organization of each verified domain, by index.
    owners: HashMap<Domain, usize, BuildHasherDefault<SipHasher13>>,
}

#[derive(Clone, Debug)]
struct Organization {
    name: Arc<str>,
    settings: OrganizationRelay,
}

impl RelayService {
    /// A service for organizations, in file order.
    ///
    /// # Errors
    /// Every rule that they break together: names, domains, descriptions that are not unique, and
    /// organizations without a domain.
    pub fn new(organizations: Vec<OrganizationRelay>) -> Result<Self, Vec<ServiceError>> {
        let mut errors = Vec::new();
        let mut names = HashSet::new();
        let mut owners: HashMap<Domain, usize, _> = HashMap::default();
        for (index, organization) in organizations.iter().enumerate() {
            let name = || organization.name.clone();
            if !names.insert(organization.name.to_lowercase()) {
                errors.push(ServiceError::DuplicateOrganization(name()));
            }
            if organization.domains.is_empty() {
                errors.push(ServiceError::NoDomain(name()));
            }
            for domain in &organization.domains {
                match owners.entry(domain.clone()) {
                    Entry::Vacant(entry) => {
                        entry.insert(index);
                    }
                    Entry::Occupied(entry) if *entry.get() == index => {}
                    Entry::Occupied(entry) => errors.push(ServiceError::SharedDomain {
                        domain: domain.to_string(),
                        first: organizations
                            .get(*entry.get())
                            .map_or_else(String::new, |first| first.name.clone()),
                        second: name(),
                    }),
                }
            }
            let mut descriptions = HashSet::new();
            for entry in &organization.entries {
                if !descriptions.insert(entry.description().to_lowercase()) {
                    errors.push(ServiceError::DuplicateDescription {
                        organization: name(),
                        description: entry.description().to_owned(),
                    });
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let organizations = organizations
            .into_iter()
            .map(|settings| Organization { name: settings.name.as_str().into(), settings })
            .collect();
        Ok(Self { organizations, owners })
    }

    /// Whether `sender` is relayed for this client, for which organization and as whom (D2 to D8).
    ///
    /// Each entry that is not off is judged alone: TLS, AUTH, the client's address, the sender, and
    /// last, for a foreign or empty sender, who AUTH or HELO says the client is. Among those that
    /// admit, an entry of the sender's own organization is taken, else one of the organization of
    /// the AUTH identity, else the first in file order. `session.auth` is believed, but not in
    /// clear text (D6).
    ///
    /// # Errors
    /// The [`Refusal`] of the entry that got furthest, the first in file order among several. Those
    /// in force go before those that are observed.
    pub fn admit(
        &self,
        session: &Session,
        sender: &ReversePath,
        directory: &dyn Directory,
    ) -> Result<Admission, Refusal> {
        if session.role == ListenerRole::Mx {
            return Err(Refusal::without_entry(RefusalReason::NotARelayListener));
        }
        let mut client = Client::new(self, session, sender, directory);
        let mut observed = Vec::new();
        let mut best: Option<Admitted<'_>> = None;
        let mut furthest: Option<Refused<'_>> = None;
        let mut auth_would_help = false;
        for (index, organization) in self.organizations.iter().enumerate() {
            for entry in &organization.settings.entries {
                if entry.mode == RelayMode::Off {
                    continue;
                }
                match client.judge(index, entry) {
                    Ok(because) => {
                        let rank = client.rank(index);
                        if best.as_ref().is_none_or(|best| rank > best.rank) {
                            best = Some(Admitted { rank, organization, entry, because });
                        }
                    }
                    Err(because) => {
                        auth_would_help |=
                            entry.mode == RelayMode::Enforce && client.lacks_auth(entry, because);
                        if entry.mode == RelayMode::Observe {
                            observed.push(ObservedRefusal {
                                organization: Arc::clone(&organization.name),
                                entry: Arc::clone(&entry.description),
                                because,
                            });
                        }
                        let refused = Refused { organization, entry, because };
                        if furthest.as_ref().is_none_or(|other| refused.rank() > other.rank()) {
                            furthest = Some(refused);
                        }
                    }
                }
            }
        }
        match (best, furthest) {
            (Some(admitted), _) => Ok(admitted.into_admission(&client, observed)),
            (None, Some(refused)) => Err(refused.into_refusal(auth_would_help, observed)),
            (None, None) => Err(Refusal::without_entry(RefusalReason::NoRelayEntry)),
        }
    }

    /// Whether a client sits at an enabled address of a relay entry of that organization that asks for
    /// no AUTH beside it: a *relay IP*, whatever the listener (C3, E7).
    #[must_use]
    pub fn lists_client(&self, organization: &str, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let found = self.organizations.iter().find(|found| &*found.name == organization);
        found.is_some_and(|found| {
            found.settings.entries.iter().any(|entry| {
                let proof = &entry.proof;
                entry.mode != RelayMode::Off
                    && !proof.asks_for_auth()
                    && proof.addresses().is_some_and(|list| list.find(client).is_some())
            })
        })
    }

    /// The relay entries of an organization, in file order; none when no organization has the name.
    pub fn entries(&self, organization: &str) -> impl Iterator<Item = &RelayEntry> {
        let found = self.organizations.iter().find(|found| &*found.name == organization);
        found.into_iter().flat_map(|found| &found.settings.entries)
    }

    /// The limits of an organization, or of one of its users by primary address; `None` when no
    /// organization has the name. For showing quotas.
    #[must_use]
    pub fn limits(&self, organization: &str, user: Option<&Mailbox>) -> Option<Limits> {
        let found = self.organizations.iter().find(|found| &*found.name == organization)?;
        Some(found.limits(user))
    }

    /// The organization that owns a name, by its most specific verified domain.
    fn owner(&self, domain: &Domain) -> Option<(usize, &Domain)> {
        domain.suffixes().find_map(|suffix| {
            self.owners.get_key_value(suffix).map(|(domain, index)| (*index, domain))
        })
    }
}

impl Organization {
    fn limits(&self, user: Option<&Mailbox>) -> Limits {
        let OrganizationRelay { licences, payment, limits, user_limits, .. } = &self.settings;
        Limits::new(*licences, *payment, limits, user.and_then(|user| user_limits.get(user)))
    }
}

/// The client of one MAIL command, with what the organizations' domains say about it.
struct Client<'a> {
    session: &'a Session,
    auth: Option<&'a Mailbox>,
    /// The organization and domain that the sender, AUTH and HELO are in.
    sender_in: Option<(usize, &'a Domain)>,
    auth_in: Option<(usize, &'a Domain)>,
    helo_in: Option<(usize, &'a Domain)>,
    sender: &'a ReversePath,
    directory: &'a dyn Directory,
    /// The sender's account, once it was asked for.
    account: Option<Result<Option<Mailbox>, Unavailable>>,
}

impl<'a> Client<'a> {
    fn new(
        service: &'a RelayService,
        session: &'a Session,
        sender: &'a ReversePath,
        directory: &'a dyn Directory,
    ) -> Self {
        let auth = session.auth.as_ref().filter(|_| session.is_encrypted());
        let helo = session.helo.as_deref().and_then(|helo| helo.parse::<Domain>().ok());
        Self {
            session,
            auth,
            sender_in: sender.domain().and_then(|domain| service.owner(domain)),
            auth_in: auth.and_then(Mailbox::domain).and_then(|domain| service.owner(domain)),
            helo_in: helo.and_then(|helo| service.owner(&helo)),
            sender,
            directory,
            account: None,
        }
    }

    /// D3 first, then D2, then D7.
    fn judge(&mut self, index: usize, entry: &RelayEntry) -> Result<Because, RefusalReason> {
        if entry.encryption == Encryption::Required && !self.session.is_encrypted() {
            return Err(RefusalReason::TlsRequired);
        }
        let mut auth = None;
        if entry.proof.asks_for_auth() {
            let user = self.auth.ok_or(RefusalReason::AuthenticationRequired)?;
            if self.auth_in.is_none_or(|(owner, _)| owner != index) {
                return Err(RefusalReason::AuthenticatedElsewhere);
            }
            auth = Some(user.clone());
        }
        let mut address = None;
        if let Some(list) = entry.proof.addresses() {
            let found = list.find(self.session.client_ip);
            let (range, description) = found.ok_or(match entry.unlisted_address {
                UnlistedAddress::Reject => RefusalReason::AddressNotListed,
                UnlistedAddress::Defer => RefusalReason::AddressDeferred,
            })?;
            address = Some((*range, Box::from(description)));
        }
        let identity = self.identify(index, entry.allowed_senders)?;
        Ok(Because { auth, address, identity })
    }

    /// Whether AUTH may be what keeps the client from an entry that refuses: the entry asks for it, and the
    /// client sits where the entry wants it; or AUTH would say who the client is (D7).
    fn lacks_auth(&self, entry: &RelayEntry, because: RefusalReason) -> bool {
        let sits_right = || {
            let addresses = entry.proof.addresses();
            addresses.is_none_or(|list| list.find(self.session.client_ip).is_some())
        };
        let is_asked = entry.proof.asks_for_auth() && sits_right();
        self.auth.is_none() && (is_asked || because == RefusalReason::Unidentified)
    }

    fn identify(
        &mut self,
        index: usize,
        allowed: AllowedSenders,
    ) -> Result<Identity, RefusalReason> {
        let own_domain = self.sender_in.filter(|(owner, _)| *owner == index);
        if let Some((_, domain)) = own_domain {
            return match self.user()? {
                Some(user) => Ok(Identity::User(user)),
                None if allowed == AllowedSenders::RegisteredUsers => {
                    Err(RefusalReason::SenderNotRegistered)
                }
                None => Ok(Identity::Domain(domain.clone())),
            };
        }
        if !self.sender.is_null() {
            match allowed {
                AllowedSenders::RegisteredUsers => return Err(RefusalReason::SenderNotRegistered),
                AllowedSenders::MyDomains => return Err(RefusalReason::SenderNotInDomains),
                AllowedSenders::Any => {}
            }
        }
        match (self.auth_in, self.helo_in) {
            (Some((owner, domain)), _) if owner == index => Ok(Identity::Auth(domain.clone())),
            (_, Some((owner, domain))) if owner == index => Ok(Identity::Helo(domain.clone())),
            _ => Err(RefusalReason::Unidentified),
        }
    }

    /// The registered, active user behind the sender; the directory is asked once.
    fn user(&mut self) -> Result<Option<Mailbox>, RefusalReason> {
        let Some(sender) = self.sender.mailbox() else { return Ok(None) };
        let account = self.account.get_or_insert_with(|| {
            self.directory.account(sender).map(|account| match account {
                Account::User(user) => Some(user.address),
                Account::Group { .. } | Account::Unrecognized => None,
            })
        });
        account.clone().map_err(|_| RefusalReason::DirectoryUnavailable)
    }

    /// Which admission is taken when organizations compete for one sender.
    fn rank(&self, index: usize) -> u8 {
        let is = |place: Option<(usize, &Domain)>| place.is_some_and(|(owner, _)| owner == index);
        if is(self.sender_in) { 2 } else { u8::from(is(self.auth_in)) }
    }
}

struct Admitted<'a> {
    rank: u8,
    organization: &'a Organization,
    entry: &'a RelayEntry,
    because: Because,
}

impl Admitted<'_> {
    fn into_admission(self, client: &Client<'_>, observed: Vec<ObservedRefusal>) -> Admission {
        let Admitted { organization, entry, because, .. } = self;
        let sender = client.sender;
        let (user, rewritten) = match &because.identity {
            Identity::User(user) => (Some(user.clone()), None),
            Identity::Domain(_) => (None, None),
            Identity::Auth(domain) | Identity::Helo(domain) => {
                (None, (!sender.is_null()).then(|| Mailbox::postmaster(domain.clone())))
            }
        };
        let limits = organization.limits(user.as_ref());
        Admission {
            entry: Arc::clone(&entry.description),
            sender: rewritten.map_or_else(|| sender.clone(), ReversePath::Mailbox),
            original_sender: sender.clone(),
            quota: QuotaSubject {
                organization: Arc::clone(&organization.name),
                login: limits.recipients_per_login_per_day.and_then(|_| client.auth.cloned()),
                client: limits
                    .recipients_per_client_per_day
                    .map(|_| network(client.session.client_ip)),
                limits,
                user,
            },
            copy_to: entry.copy_to.clone(),
            because,
            observed,
        }
    }
}

struct Refused<'a> {
    organization: &'a Organization,
    entry: &'a RelayEntry,
    because: RefusalReason,
}

impl Refused<'_> {
    /// Entries in force go before observed ones; then the one that got furthest.
    fn rank(&self) -> (bool, u8) {
        (self.entry.mode == RelayMode::Enforce, self.because.stage())
    }

    fn into_refusal(self, auth_would_help: bool, observed: Vec<ObservedRefusal>) -> Refusal {
        let reply = match (self.because, auth_would_help) {
            (RefusalReason::AddressNotListed, true) => address_or_auth(),
            (because, _) => because.reply(),
        };
        Refusal {
            reply,
            auth_would_help,
            because: self.because,
            organization: Some(Arc::clone(&self.organization.name)),
            entry: Some(Arc::clone(&self.entry.description)),
            observed,
        }
    }
}

/// The reply for an unlisted address where AUTH would do as well.
fn address_or_auth() -> Reply {
    let text = "This client's IP address may not relay; authenticate with AUTH, or ask the administrator to list it (D3)";
    Reply::new(550, (5, 7, 1), text)
}

#[cfg(test)]
mod tests;
