//! A compiled policy, and the one evaluator with its two entry points.
//!
//! `serve`, `explain` and `[[expect]]` are small callers of [`Policy::at_mail`], [`Policy::at_rcpt`]
//! and [`Policy::at_data`]; whoever asks "why did this go there" reads `evaluate.rs` beside this
//! file. A policy is immutable: a reload builds another one.

mod at_data;
mod attachments;
mod authentication;
mod decision;
mod dry_run;
mod edited;
mod evaluate;
mod explanation;
mod filter;
mod filtered;
mod internal_sender;
mod known;
mod making;
mod mark;
mod observed;
mod organization;
mod relay_copy;
mod signatures;

use std::collections::HashMap;

use waypost_inbound::{Admission as GatewayAdmission, RefusedBecause};
use waypost_relay::{Admission, Refusal, RelayService, Verifier};
use waypost_rules::Spam;
use waypost_types::{
    Account, Directory, Domain, ListenerRole, Mailbox, Recipient, Reply, ReversePath, Session,
    TlsDemand, Unavailable,
};

pub use at_data::RULES_TOLD;
pub use decision::{
    AuthenticationView, DataReply, DecidedDelivery, Decision, FilterCleared, FilterView,
    GatewayView, OrganizationView, Quarantined, RecipientView, RefusalCause, Refused, RuleLookedAt,
    SideView, SpamBy, SpamVerdict,
};
pub use dry_run::{DryRun, DryRunError};
pub use edited::with_edits;
use evaluate::{Evaluation, Facts, Fate, FateOutcome, ObservedRules, Told};
pub use explanation::{
    Drawing, ExplainedAdmission, ExplainedAttachment, ExplainedAuthentication, ExplainedDelivery,
    ExplainedFilter, ExplainedGateway, ExplainedHost, ExplainedHosts, ExplainedRecipient,
    ExplainedSide, ExplainedSpam, ExplainedTls, Explanation, Layout, RulesShown,
};
pub use filter::{Abuse, FilterAnswer, FilterFinding, FilterKind, FilterSaid};
pub use known::{Answers, Known};
pub use mark::{MAX_MARKS, Mark, Marked};
pub use observed::{Observation, ObservedKind, observed_at_mail};
pub use organization::{InternalSenders, Login, Organization, SpamAction};
pub use relay_copy::Copied;

use crate::settings::ServerSettings;

/// A configuration, compiled: everything that decides about mail (A12).
pub struct Policy {
    /// The server's own settings.
    pub server: ServerSettings,
    organizations: Vec<Organization>,
    by_name: HashMap<Box<str>, usize>,
    by_domain: HashMap<Domain, usize>,
    relay: RelayService,
    verifier: Verifier,
    version: Box<str>,
}

/// One transaction: what MAIL settled.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The client.
    pub session: Session,
    /// The sender as MAIL gave it.
    pub sender: ReversePath,
    /// The relay entry's admission, if one admits.
    pub admission: Option<Admission>,
    /// Why no relay entry admits, where one was asked.
    pub relay_refusal: Option<Refusal>,
}

/// The answer to RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RcptVerdict {
    /// The recipient stands; the rest is decided after DATA.
    Accept {
        /// What a switch that is only observed would have refused (O6).
        observed: Option<Box<str>>,
    },
    /// The recipient is refused, whatever the message will say.
    Refuse(Refused),
}

impl Policy {
    /// Joins the compiled parts. Names and domains of the organizations are unique: the
    /// configuration's builder has seen to it.
    #[must_use]
    pub fn new(
        server: ServerSettings,
        organizations: Vec<Organization>,
        relay: RelayService,
        version: &str,
    ) -> Self {
        let mut by_name = HashMap::new();
        let mut by_domain = HashMap::new();
        for (place, organization) in organizations.iter().enumerate() {
            by_name.insert(organization.name.clone(), place);
            for domain in &organization.domains {
                by_domain.insert(domain.clone(), place);
            }
        }
        let verifier = Verifier::new(organizations.iter().flat_map(|one| one.passwords.values()));
        Self { server, organizations, by_name, by_domain, relay, verifier, version: version.into() }
    }

    /// The organizations, in file order.
    #[must_use]
    pub fn organizations(&self) -> &[Organization] {
        &self.organizations
    }

    /// An organization by name.
    #[must_use]
    pub fn organization(&self, name: &str) -> Option<&Organization> {
        self.by_name.get(name).and_then(|place| self.organizations.get(*place))
    }

    /// The organization that receives for a recipient: the one that has verified exactly its domain.
    #[must_use]
    pub fn receiving(&self, recipient: &Mailbox) -> Option<&Organization> {
        let place = self.by_domain.get(recipient.domain()?)?;
        self.organizations.get(*place)
    }

    /// Who may relay.
    #[must_use]
    pub fn relay(&self) -> &RelayService {
        &self.relay
    }

    /// The configuration's version: the same text gives the same id.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The primary address of an active user of any organization, by address or alias.
    ///
    /// # Errors
    /// [`Unavailable`] when the directory cannot answer.
    pub fn active_user(&self, mailbox: &Mailbox) -> Result<Option<Mailbox>, Unavailable> {
        Ok(match self.account(mailbox)? {
            Account::User(user) => Some(user.address),
            Account::Group { .. } | Account::Unrecognized => None,
        })
    }

    /// Whether a password is that of the user with this primary address. `None`, and a user without
    /// a password: false, in the same time. Takes tens of milliseconds: call it off an event loop.
    #[must_use]
    pub fn check_password(&self, user: Option<&Mailbox>, password: &[u8]) -> bool {
        let hash = user.and_then(|user| self.receiving(user)?.passwords.get(user));
        self.verifier.verify(hash, password)
    }

    /// MAIL: on a relay listener a relay entry must admit client and sender (D2-D8); on a listener
    /// for both, one may.
    ///
    /// # Errors
    /// The refusal, where the listener only relays and no entry admits.
    pub fn at_mail(&self, session: &Session, sender: &ReversePath) -> Result<Transaction, Refusal> {
        let unadmitted = Transaction {
            session: session.clone(),
            sender: sender.clone(),
            admission: None,
            relay_refusal: None,
        };
        if session.role == ListenerRole::Mx {
            return Ok(unadmitted);
        }
        match (self.relay.admit(session, sender, self), session.role) {
            (Ok(admission), _) => Ok(Transaction { admission: Some(admission), ..unadmitted }),
            (Err(refusal), ListenerRole::Both) => {
                Ok(Transaction { relay_refusal: Some(refusal), ..unadmitted })
            }
            (Err(refusal), _) => Err(refusal),
        }
    }

    /// RCPT: refuses what every direction that the message could still have refuses in the same way.
    /// The inbound gateway's switches (E7, E8) are judged here, by the recipient's organization, and
    /// the number of recipients (D9, D14): `standing` of this transaction were accepted before.
    #[must_use]
    pub fn at_rcpt(
        &self,
        transaction: &Transaction,
        recipient: &Recipient,
        standing: usize,
    ) -> RcptVerdict {
        self.at_rcpt_observing(transaction, recipient, standing, &mut Vec::new())
    }

    /// The same, and adds to `observations` what settings in mode observe would have done (O6): the
    /// gateway's switches, and for a recipient who is refused also rules; since the `From:` is not known
    /// yet, with the condition that it be internal, or external, where only one of them matters. For
    /// a recipient who stands, rules are told after DATA.
    #[must_use]
    pub fn at_rcpt_observing(
        &self,
        transaction: &Transaction,
        recipient: &Recipient,
        standing: usize,
        observations: &mut Vec<Observation>,
    ) -> RcptVerdict {
        let mut observed = None;
        if let Err(reply) = self.recipient_limit(transaction, standing) {
            return RcptVerdict::Refuse(Refused {
                recipient: recipient.address.clone(),
                cause: RefusalCause::RecipientLimit,
                because: reply.text().to_owned(),
                reply,
            });
        }
        if transaction.admission.is_none()
            && let Some(organization) = self.receiving(&recipient.address)
            && let Some(gateway) = &organization.inbound_gateway
        {
            let session = &transaction.session;
            let is_exempt =
                || session.auth.is_some() || self.relays_by_address(transaction, organization);
            match gateway.admits(session.client_ip, session.tls) {
                GatewayAdmission::Admitted => {}
                GatewayAdmission::Observed(refusal) | GatewayAdmission::Refused(refusal)
                    if refusal.because == RefusedBecause::NotAGateway && is_exempt() => {}
                GatewayAdmission::Observed(refusal) => {
                    let would = Observation::of_gateway(organization, recipient, &refusal);
                    observed = Some(would.name.clone());
                    observations.push(would);
                }
                GatewayAdmission::Refused(refusal) => {
                    return RcptVerdict::Refuse(Refused {
                        recipient: recipient.address.clone(),
                        cause: match refusal.because {
                            RefusedBecause::NotAGateway => RefusalCause::NotAGateway,
                            _ => RefusalCause::GatewayInClearText,
                        },
                        because: format!("inbound_gateway: {}", refusal.because.as_str()),
                        reply: refusal.reply,
                    });
                }
            }
        }
        let mut refused: Option<Refused> = None;
        for internal_sender in [false, true] {
            match self.fate_at_rcpt(transaction, recipient, internal_sender).outcome {
                FateOutcome::Refused(this) => match &refused {
                    Some(other) if other.reply != this.reply => {
                        return RcptVerdict::Accept { observed };
                    }
                    _ => refused = Some(this),
                },
                FateOutcome::Quarantined(_) | FateOutcome::Delivered { .. } => {
                    return RcptVerdict::Accept { observed };
                }
            }
        }
        let Some(refused) = refused else { return RcptVerdict::Accept { observed } };
        let observed = |internal_sender| {
            let facts = |one: &Organization| self.facts_at_rcpt(transaction, one, internal_sender);
            let evaluation = Evaluation { policy: self, transaction, told: Told::Nothing };
            evaluation.recipient(recipient, &facts).observations
        };
        observations.extend(observed::either(observed(false), observed(true)));
        RcptVerdict::Refuse(refused)
    }

    /// The quarantine that keeps a recipient's mail whatever the message will say; for a server that
    /// cannot ask again after DATA. `None` also where only one kind of author would have it kept.
    #[must_use]
    pub fn quarantine_at_rcpt(
        &self,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Option<Box<str>> {
        let kept = |internal_sender| match self
            .fate_at_rcpt(transaction, recipient, internal_sender)
            .outcome
        {
            FateOutcome::Quarantined(kept) => Some(kept.quarantine),
            FateOutcome::Refused(_) | FateOutcome::Delivered { .. } => None,
        };
        kept(false).filter(|_| kept(true).is_some())
    }

    /// Whether the client sits at a relay address of the organization, whatever the listener.
    fn relays_by_address(&self, transaction: &Transaction, organization: &Organization) -> bool {
        self.relay.lists_client(&organization.name, transaction.session.client_ip)
    }

    fn recipient_limit(&self, transaction: &Transaction, standing: usize) -> Result<(), Reply> {
        let most = self.server.limits.recipients;
        if transaction.admission.is_some() {
            return waypost_relay::at_recipient(&transaction.sender, standing, most);
        }
        // Only a relayed null sender is limited to one recipient (D9); another counts as anybody.
        if standing < most {
            return Ok(());
        }
        let anybody = Mailbox::postmaster(self.server.hostname.clone()).into();
        waypost_relay::at_recipient(&anybody, standing, most)
    }

    /// The fate as RCPT can know it: without the message, for one kind of sender.
    fn fate_at_rcpt(
        &self,
        transaction: &Transaction,
        recipient: &Recipient,
        internal_sender: bool,
    ) -> Fate {
        let facts = |one: &Organization| self.facts_at_rcpt(transaction, one, internal_sender);
        let evaluation = Evaluation { policy: self, transaction, told: Told::Nothing };
        evaluation.decide(recipient, &facts, ObservedRules::Told)
    }

    fn facts_at_rcpt(
        &self,
        transaction: &Transaction,
        organization: &Organization,
        internal_sender: bool,
    ) -> Facts {
        Facts {
            internal_sender: internal_sender && self.may_be_internal(transaction, organization),
            spam: Spam::No,
            source_ip: None,
            signed: false,
            harm: None,
        }
    }

    /// The TLS that a delivery gets: what rules demand, and what the route demands that it takes.
    #[must_use]
    pub fn effective_tls(&self, delivery: &waypost_types::Delivery) -> TlsDemand {
        evaluate::effective_tls(self, delivery)
    }
}

/// All organizations' directories as one: each address is asked of the organization that has verified
/// its domain.
impl Directory for Policy {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        match self.receiving(address) {
            Some(organization) => organization.directory.account(address),
            None => Ok(Account::Unrecognized),
        }
    }

    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable> {
        match self.receiving(group) {
            Some(organization) => organization.directory.is_member(address, group),
            None => Ok(false),
        }
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        for organization in &self.organizations {
            let ours = |group: &Mailbox| {
                let owner = self.receiving(group);
                owner.is_some_and(|owner| std::ptr::eq(owner, organization))
            };
            let mut each_of_ours = |group: &Mailbox| {
                if ours(group) {
                    each(group);
                }
            };
            organization.directory.for_each_group(address, &mut each_of_ours)?;
        }
        Ok(())
    }

    fn members(&self, group: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        match self.receiving(group) {
            Some(organization) => organization.directory.members(group),
            None => Ok(Vec::new()),
        }
    }

    fn each_address(&self, see: &mut dyn FnMut(&Mailbox)) {
        self.organizations.iter().for_each(|one| one.directory.each_address(see));
    }
}

/// The reply to a MAIL that stands.
#[must_use]
pub fn mail_accepted() -> Reply {
    Reply::new(250, (2, 1, 0), "Sender ok")
}

/// The reply to a RCPT that stands.
#[must_use]
pub fn rcpt_accepted() -> Reply {
    Reply::new(250, (2, 1, 5), "Recipient ok")
}
