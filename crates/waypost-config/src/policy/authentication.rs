//! SPF, DKIM and DMARC: what is to be found out, and what each organization makes of it (E2).

use waypost_auth::{Action, Authentication, Client, Mode, Question, Stamp, Verdict};
use waypost_inbound::{OwnLine, Source};
use waypost_rules::FromField;
use waypost_types::{Domain, HeaderBlock, Recipient};

use super::decision::AuthenticationView;
use super::organization::{InternalSenders, Organization};
use super::{Policy, Transaction};

impl Policy {
    /// What is to be found out about a message before [`Policy::at_data_authenticated`] decides: one
    /// question for each source that the organizations of its recipients see. Empty where all have
    /// `authenticate = "off"` and the sender claims nothing that is to be proved (C3), and for relayed
    /// and authenticated mail.
    #[must_use]
    pub fn authentication_due(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
    ) -> Vec<Question> {
        let mut asked: Vec<Question> = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        let mut from: Option<FromField> = None;
        for recipient in recipients {
            let Some(organization) = self.receiving(&recipient.address) else { continue };
            if seen.contains(&&*organization.name) {
                continue;
            }
            seen.push(&organization.name);
            let mut due_for_proof = || {
                let from = from.get_or_insert_with(|| FromField::read(header));
                self.proof_is_due(transaction, organization, from)
            };
            if !self.authenticates(transaction, organization)
                && (organization.internal_senders == InternalSenders::FromHeader
                    || !due_for_proof())
            {
                continue;
            }
            let checked = due(&source(organization, transaction, header));
            if asked.iter().any(|question| question.checked == checked) {
                continue;
            }
            let from = from.get_or_insert_with(|| FromField::read(header));
            asked.push(Question {
                checked,
                helo: transaction.session.helo.clone(),
                sender: transaction.sender.clone(),
                authors: authors_of(from),
                receiver: self.server.hostname.clone(),
            });
        }
        asked
    }

    /// Whether a recipient's organization reads the results that bear our name, so that a message must
    /// bring none of its own (RFC 8601 section 5).
    #[must_use]
    pub fn vouches_for_results(&self, recipients: &[Recipient]) -> bool {
        recipients.iter().any(|recipient| {
            let organization = self.receiving(&recipient.address);
            organization.is_some_and(|organization| organization.authenticate != Mode::Off)
        })
    }

    /// Whether an organization evaluates mail of this transaction: not if the client authenticated or
    /// is relayed, by an entry or by its address.
    fn authenticates(&self, transaction: &Transaction, organization: &Organization) -> bool {
        organization.authenticate != Mode::Off && self.is_from_outside(transaction, organization)
    }

    /// Whether the client is nobody whom we know: it did not authenticate, and is not relayed by an
    /// entry or by its address.
    pub(super) fn is_from_outside(
        &self,
        transaction: &Transaction,
        organization: &Organization,
    ) -> bool {
        transaction.admission.is_none()
            && transaction.session.auth.is_none()
            && !self.relays_by_address(transaction, organization)
    }

    /// Whether the way that a message takes hangs on the answers to the questions of
    /// [`Policy::authentication_due`]: the sender's claim to be internal is to be proved by them (C3).
    /// What [`Policy::at_data`] refuses then may still be taken with them, but for a loop.
    #[must_use]
    pub fn direction_hangs_on_answers(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
    ) -> bool {
        let mut owners = recipients
            .iter()
            .filter_map(|recipient| self.receiving(&recipient.address))
            .filter(|owner| owner.internal_senders == InternalSenders::Authenticated)
            .peekable();
        if owners.peek().is_none() {
            return false;
        }
        let from = FromField::read(header);
        owners.any(|owner| self.proof_is_due(transaction, owner, &from))
    }

    /// What an organization makes of the answers. `answers`: `None` if nobody asked.
    pub(super) fn authentication_view(
        &self,
        organization: &Organization,
        transaction: &Transaction,
        source: &Source,
        answers: Option<&[Authentication]>,
    ) -> Option<AuthenticationView> {
        if !self.authenticates(transaction, organization) {
            return None;
        }
        let mode = organization.authenticate;
        let Some(found) = answer(source, answers) else {
            let verdict = Verdict::accept("not checked: no DNS was asked");
            return Some(AuthenticationView { mode, found: None, verdict, lines: Vec::new() });
        };
        let client_ip = transaction.session.client_ip;
        let gateway = organization.inbound_gateway.as_ref();
        let client = match gateway {
            Some(gateway) if gateway.lists(client_ip) => Client::Gateway,
            _ => Client::Direct,
        };
        let mut verdict = found.verdict(mode, client);
        if verdict.action == Action::Spam && gateway.is_some_and(|one| one.allows(source)) {
            verdict = Verdict::accept(format!("on the allow list (E11); {}", verdict.because));
        }
        let stamp = Stamp {
            by: &self.server.hostname,
            client_ip,
            source_ip: source.ip,
            because: source.because.as_str(),
            helo: transaction.session.helo.as_deref(),
            sender: &transaction.sender,
        };
        let lines = stamp.lines(found);
        Some(AuthenticationView { mode, found: Some(found.clone()), verdict, lines })
    }
}

/// Where a message came from, as an organization sees it (E3-E5). Relayed mail comes from its client.
pub(super) fn source(
    organization: &Organization,
    transaction: &Transaction,
    header: &HeaderBlock<'_>,
) -> Source {
    let client_ip = transaction.session.client_ip;
    let gateway = organization.inbound_gateway.as_ref();
    match gateway.filter(|_| transaction.admission.is_none()) {
        Some(gateway) => gateway.source(client_ip, OwnLine::Absent, header),
        None => Source::of_client(client_ip),
    }
}

/// The answer about a source, if somebody asked.
pub(super) fn answer<'a>(
    source: &Source,
    answers: Option<&'a [Authentication]>,
) -> Option<&'a Authentication> {
    let checked = due(source);
    answers.unwrap_or_default().iter().find(|one| one.checked == checked)
}

/// The address that SPF is to be asked about.
fn due(source: &Source) -> Option<std::net::IpAddr> {
    source.ip.filter(|_| source.spf)
}

/// The domains in `From:`, each once. What is no domain, such as an address literal, has no policy.
fn authors_of(from: &FromField) -> Vec<Domain> {
    let mut authors: Vec<Domain> = Vec::new();
    if let FromField::Domains(domains) = from {
        for domain in domains.iter().flatten() {
            if !authors.contains(domain) && authors.len() <= waypost_auth::MAX_AUTHORS {
                authors.push(domain.clone());
            }
        }
    }
    authors
}
