//! What an organization's administrators are told: a line in the log, a metric, a mail (D13, D17).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::raw::Raw;
use waypost_config::policy::{Organization, Policy};
use waypost_queue::{AdministratorsTold, Body, Entry, Event, Owed};
use waypost_relay::QuotaLimit;
use waypost_types::{
    Changes, Delivery, Destination, Domain, MailParameters, Mailbox, Notify, QueueId, ReversePath,
    Timestamp, TlsDemand,
};

use crate::core::Core;
use crate::metrics::Reason;
use crate::server::way_to;

/// How long the same is not told again.
const QUIET: Duration = Duration::from_secs(24 * 3600);
/// How many things are remembered that were told; of more, the oldest is forgotten.
const MOST: usize = 10_000;
/// The same of clients, who can be more than users: they displace one another alone.
const MOST_CLIENTS: usize = 2_000;
/// Characters of a text.
const LONGEST: usize = 4000;

/// Something that the administrators of an organization should know.
#[derive(Clone, Debug)]
pub(crate) struct Tidings {
    /// The organization.
    pub(crate) organization: Box<str>,
    /// What kind of thing it is: told once a day for each kind and subject.
    pub(crate) kind: TidingsKind,
    /// The user that it is about; `None`: the organization.
    pub(crate) user: Option<Mailbox>,
    /// The client that it is about.
    pub(crate) client: Option<IpAddr>,
    /// What happened and what to do, in one or a few lines.
    pub(crate) text: String,
}

/// The kinds of [`Tidings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TidingsKind {
    /// A limit is used up to the share at which one is warned (D13).
    NearLimit(QuotaLimit),
    /// Mail over a limit is held.
    OverLimit(QuotaLimit),
    /// Many messages of a user are spam (D17).
    Abuse,
}

impl TidingsKind {
    /// Its name in the journal and in metrics.
    pub(crate) fn name(self) -> String {
        match self {
            Self::NearLimit(limit) => format!("near-{}", Reason::from(limit).as_str()),
            Self::OverLimit(limit) => format!("held-{}", Reason::from(limit).as_str()),
            Self::Abuse => "abuse".to_owned(),
        }
    }

    fn subject(self, organization: &str) -> String {
        let organization = harmless(organization, 60);
        match self {
            Self::NearLimit(_) => format!("A relay limit of {organization} is nearly used up"),
            Self::OverLimit(_) => format!("Mail of {organization} over a relay limit is held"),
            Self::Abuse => format!("Many messages of a user of {organization} are spam"),
        }
    }
}

/// What was told, and when. At most 10,000 things and 2,000 clients, about 150 octets each.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<Subject, Timestamp>>);

/// What is told once in 24 hours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    organization: Box<str>,
    kind: Box<str>,
    user: Option<Mailbox>,
    client: Option<IpAddr>,
}

impl From<&AdministratorsTold> for Subject {
    fn from(told: &AdministratorsTold) -> Self {
        let AdministratorsTold { at: _, organization, kind, user, client } = told.clone();
        Self { organization, kind, user, client }
    }
}

impl Told {
    /// What the journal kept.
    pub(crate) fn recover(&self, told: Vec<AdministratorsTold>) {
        for one in told {
            let _ = self.claim(&Subject::from(&one), one.at);
        }
    }

    /// Whether it is to be told now; then it is not to be told again for 24 hours.
    fn claim(&self, subject: &Subject, now: Timestamp) -> bool {
        let mut told = self.lock();
        if told.get(subject).is_some_and(|at| now.since(*at) < QUIET) {
            return false;
        }
        let is_client = subject.client.is_some();
        let most = if is_client { MOST_CLIENTS } else { MOST };
        let is_full = |told: &HashMap<Subject, Timestamp>| {
            told.len() >= most
                && told.keys().filter(|one| one.client.is_some() == is_client).count() >= most
        };
        if is_full(&told) {
            told.retain(|_, at| now.since(*at) < QUIET);
        }
        if is_full(&told) {
            let alike = told.iter().filter(|(one, _)| one.client.is_some() == is_client);
            let oldest = alike.min_by_key(|(_, at)| **at).map(|(one, _)| one.clone());
            oldest.and_then(|oldest| told.remove(&oldest));
        }
        told.insert(subject.clone(), now);
        true
    }

    /// It could not be told.
    fn forget(&self, subject: &Subject) {
        self.lock().remove(subject);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Tells the administrators, unless they were told of the same kind, organization, user and client
    /// in the last 24 hours: by the log, a metric, and a mail from `<>` to each of them, which is in the queue
    /// and on disk when this returns. Counts for no limit, and nobody hears of a failure of it.
    pub(crate) async fn tell_administrators(&self, tidings: Tidings) {
        let Tidings { organization, kind, user, client, text } = tidings;
        let (now, name) = (self.clock.now(), kind.name());
        let subject = Subject { organization, kind: name.as_str().into(), user, client };
        if !self.told.claim(&subject, now) {
            return;
        }
        let Subject { organization, user, .. } = &subject;
        let shown = user.as_ref().map(ToString::to_string);
        let client = client.map(|client| client.to_string());
        let text = lines(&text);
        tracing::warn!(%organization, kind = name, user = shown, client, "{}", text.replace('\n', " "));
        self.metrics.quotas.told(organization, &name);
        let policy = self.policy();
        let Some(owner) = policy.organization(organization) else { return };
        let deliveries = deliveries(&policy, owner);
        if deliveries.is_empty() {
            return;
        }
        let id = self.spool.next_id();
        let said = Said { kind, owner, user: user.as_ref(), text: &text };
        let Some((entry, body)) = said.compose((id, now), &policy.server.hostname, deliveries)
        else {
            return;
        };
        let told = AdministratorsTold {
            at: now,
            organization: organization.clone(),
            kind: subject.kind.clone(),
            user: user.clone(),
            client: subject.client,
        };
        match self.spool.tell(entry, body, Event::AdministratorsTold(told)).await {
            Ok(()) => tracing::info!(%id, %organization, kind = name, "administrators are told"),
            Err(error) => {
                tracing::error!(%organization, kind = name, %error, "administrators could not be told");
                self.told.forget(&subject);
            }
        }
    }
}

/// A delivery for each administrator to whom there is a way.
fn deliveries(policy: &Policy, owner: &Organization) -> Vec<Owed> {
    let administrators = owner.administrators.iter();
    let ways = administrators.filter_map(|to| match way_to(policy, Some(owner), to) {
        Some(Destination::Refused { .. }) | None => {
            tracing::warn!(%to, organization = %owner.name, "an administrator's address receives no mail here");
            None
        }
        Some(destination) => Some(Owed::from(Delivery {
            recipient: to.clone(),
            original_recipient: to.clone(),
            sender: ReversePath::Null,
            destination,
            tls: TlsDemand::default(),
            changes: Changes::default(),
            suppress_bounces: true,
            spam: false,
            notify: Notify::Never,
            orcpt: None,
        })),
    });
    ways.collect()
}

/// What one mail says.
struct Said<'a> {
    kind: TidingsKind,
    owner: &'a Organization,
    user: Option<&'a Mailbox>,
    text: &'a str,
}

impl Said<'_> {
    /// The mail, in the form that is stored. Addresses in its header are those of the configuration.
    fn compose(
        &self,
        (id, at): (QueueId, Timestamp),
        hostname: &Domain,
        deliveries: Vec<Owed>,
    ) -> Option<(Entry, Body)> {
        let Self { kind, owner, user, text } = self;
        let about = match user {
            Some(user) => format!("Organization: {}\nUser: {user}\n", harmless(&owner.name, 200)),
            None => format!("Organization: {}\n", harmless(&owner.name, 200)),
        };
        let body = format!(
            "This is the mail server {hostname}.\n\n{text}\n\n{about}\n\
             You are told of the same once in 24 hours, since you are an administrator of the \
             organization in the server's configuration.\n"
        );
        let to = deliveries.iter().map(|owed| Address::from(owed.delivery.recipient.to_string()));
        let message = MessageBuilder::new()
            .date(Date::new(i64::try_from(at.as_millis() / 1000).ok()?))
            .from(Address::new_address(Some("Mail server"), format!("mailer-daemon@{hostname}")))
            .to(Address::new_list(to.collect()))
            .subject(kind.subject(&owner.name))
            .message_id(format!("{id}@{hostname}"))
            .header("Auto-Submitted", Raw::new("auto-generated"))
            .text_body(wrapped(&body).replace('\n', "\r\n"))
            .write_to_vec()
            .ok()?;
        let message = stuffed(&message);
        let header_size = message.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let recipients = deliveries.iter().map(|owed| &owed.delivery.recipient);
        let parameters = MailParameters {
            smtputf8: recipients.clone().any(Mailbox::needs_smtputf8),
            ..MailParameters::default()
        };
        let entry = Entry {
            id,
            accepted_at: at,
            sender: ReversePath::Null,
            parameters,
            client: format!("to administrators ({})", kind.name()).into(),
            trace: Box::default(),
            deliveries,
            decision: format!(r#"{{"told":"{}"}}"#, kind.name()).into(),
            size: u64::try_from(message.len()).unwrap_or(u64::MAX),
            header_size: u64::try_from(header_size).unwrap_or(u64::MAX),
        };
        Some((entry, message.into()))
    }
}

/// Text in lines of at most 72 characters, but for words that are longer.
fn wrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split('\n') {
        let mut column = 0;
        for word in line.split(' ') {
            let long = word.chars().count();
            if column > 0 && column + 1 + long > 72 {
                out.push('\n');
                column = 0;
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += long;
        }
        out.push('\n');
    }
    out.pop();
    out
}

/// As messages are stored: a dot before each dot that begins a line.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out
}

/// Text in lines: what is in them can neither end one nor turn its direction, and it is bounded.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| harmless(line, LONGEST)).collect();
    let mut text = lines.join("\n");
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
    }
    text
}

/// Text of strangers in one line: what misleads whoever reads it becomes `?`, and what is too long is cut.
fn harmless(text: &str, longest: usize) -> String {
    let clean = |c: char| if waypost_types::misleads(c) { '?' } else { c };
    text.chars().map(clean).take(longest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(user: u32) -> Subject {
        let user = format!("user{user}@s.example").parse().ok();
        Subject { organization: "S".into(), kind: "abuse".into(), user, client: None }
    }

    fn client(number: u32) -> Subject {
        let client = Some(std::net::Ipv4Addr::from_bits(number).into());
        Subject { user: None, client, ..subject(0) }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn the_same_is_told_once_in_24_hours_d13_d17() {
        let told = Told::default();
        assert!(told.claim(&subject(1), at(0)));
        assert!(!told.claim(&subject(1), at(86_399)));
        assert!(told.claim(&subject(2), at(86_399)));
        assert!(told.claim(&subject(1), at(86_400)));
        told.forget(&subject(1));
        assert!(told.claim(&subject(1), at(86_401)));
        // As the journal has it after a restart.
        let again = Told::default();
        let Subject { organization, kind, user, client } = subject(1);
        again.recover(vec![AdministratorsTold { at: at(5), organization, kind, user, client }]);
        assert!(!again.claim(&subject(1), at(6)));
    }

    #[test]
    fn what_was_told_is_bounded() {
        let told = Told::default();
        for user in 0..20_000 {
            assert!(told.claim(&subject(user), at(user.into())));
        }
        assert_eq!(told.lock().len(), MOST);
        assert!(!told.claim(&subject(19_999), at(20_000)), "the newest are remembered");
        for number in 0..3_000 {
            assert!(told.claim(&client(number), at(30_000 + u64::from(number))));
        }
        assert_eq!(told.lock().len(), MOST + MOST_CLIENTS);
        assert!(!told.claim(&subject(10_001), at(40_000)), "clients displace no users");
        assert!(!told.claim(&client(2_999), at(40_000)), "each client for itself");
        assert!(told.claim(&client(0), at(40_000)), "the oldest client is forgotten");
    }

    #[test]
    fn texts_keep_to_their_lines_and_dots_are_stuffed() {
        let long = "x".repeat(10_000);
        for (text, want) in [
            ("a\r\nb", "a\nb"),
            ("a\u{b}b\0\u{1b}[2J", "a?b??[2J"),
            ("gpj.\u{202e}exe", "gpj.?exe"),
            (long.as_str(), &long[..LONGEST]),
        ] {
            assert_eq!(lines(text), want, "{text:?}");
        }
        let words = "word ".repeat(40);
        assert!(wrapped(&words).lines().all(|line| line.len() <= 72));
        assert_eq!(wrapped(&words).split_whitespace().count(), 40);
        assert_eq!(wrapped("a b\n\nc\n"), "a b\n\nc\n");
        assert_eq!(stuffed(b".a\r\n..\r\nb.\r\n"), b"..a\r\n...\r\nb.\r\n");
    }
}
