//! A filter's answer about a message, and what it amounts to (D17).

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_inbound::TagVerdict;
use waypost_milter::{FieldName, FieldValue, FilterAction, FilterVerdict, HeaderEdit};
use waypost_mime::{HeaderText, field};
use waypost_rules::{Changed, RuleChanges};
use waypost_types::{HeaderBlock, HeaderLine, Mailbox, Recipient, Reply};

use super::authentication::source;
use super::decision::{Decision, SpamBy};
use super::organization::SpamAction;
use super::{Policy, Transaction};
use crate::settings::{FilterHeader, FilterSettings, OnFilterFailure};

/// What a filter answered about a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterAnswer {
    /// The source that it was told (E2); `None`: the message is internal, so the client was.
    pub source: Option<IpAddr>,
    /// What it said.
    pub said: FilterSaid,
}

/// What a filter said, if anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FilterSaid {
    /// This.
    Verdict(FilterVerdict),
    /// It could not be asked, or did not answer, for this reason.
    Nothing(Box<str>),
    /// That it is spam, for this reason: supposed, since a dry run asks no filter.
    Spam(Box<str>),
    /// The same of malware.
    Malware(Box<str>),
}

impl FilterAnswer {
    /// An answer that is supposed, whatever the source.
    #[must_use]
    pub fn supposed(said: FilterSaid) -> Self {
        Self { source: None, said }
    }

    /// What of the answer decides, for a record: no fields but those that tell what the filter thinks.
    #[must_use]
    pub fn deciding(&self, settings: Option<&FilterSettings>) -> Self {
        let mut kept = self.clone();
        if let FilterSaid::Verdict(verdict) = &mut kept.said {
            let telling: Vec<HeaderEdit> = verdict.telling().cloned().collect();
            verdict.headers.retain(|edit| {
                telling.contains(edit) || settings.is_some_and(|settings| settings.tells(edit))
            });
            verdict.headers.truncate(MOST_RECORDED);
            verdict.ignored.clear();
            verdict.reason = verdict.reason.chars().take(LONGEST).collect::<String>().into();
        }
        kept
    }
}

/// What a filter's answer amounts to, by the tags of [`FilterSettings`].
#[derive(Clone, Debug, PartialEq)]
pub struct FilterFinding {
    /// What it is.
    pub kind: FilterKind,
    /// Why: the line or the answer that says so.
    pub because: Box<str>,
    /// The number taken from it.
    pub score: Option<f64>,
    /// The text of its refusal, which the client is told.
    pub(super) text: Option<Box<str>>,
    /// The fields that it adds, to stand on top in this order.
    pub(super) added: Vec<(FieldName, FieldValue)>,
    /// Those of them that tell that it is spam or malware.
    pub(super) telling: Vec<HeaderLine>,
    /// Changes to fields of the message that are made.
    pub(super) edits: Vec<HeaderEdit>,
    /// What it wanted besides and does not get.
    pub(super) ignored: Vec<String>,
}

/// The kinds of answers of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterKind {
    /// Nothing was found.
    Clean,
    /// Spam.
    Spam {
        /// What is done with it at least: the filter wants it held or discarded.
        least: SpamAction,
    },
    /// Malware.
    Malware,
    /// The message is refused for good, for another reason, with the filter's own reply.
    Refuse(Reply),
    /// The message is refused for now, with the filter's own reply.
    Defer(Reply),
    /// The filter did not answer.
    Unanswered(OnFilterFailure),
}

impl FilterKind {
    /// The word for it in logs, metrics and explanations.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Spam { .. } => "spam",
            Self::Malware => "malware",
            Self::Refuse(_) => "refuse",
            Self::Defer(_) => "defer",
            Self::Unanswered(_) => "unanswered",
        }
    }
}

/// The longest text of a filter that is told on, in characters.
const LONGEST: usize = 300;
/// Octets of the fields that a filter may add to a message.
const MOST_ADDED: usize = 32 << 10;
/// Fields of an answer that are recorded.
const MOST_RECORDED: usize = 20;
/// The longest value of a line that is added to single deliveries, in octets.
const LONGEST_VALUE: usize = 4096;

impl FilterFinding {
    fn new(kind: FilterKind, because: &str) -> Self {
        Self {
            kind,
            because: because.chars().take(LONGEST).collect::<String>().into(),
            score: None,
            text: None,
            added: Vec::new(),
            telling: Vec::new(),
            edits: Vec::new(),
            ignored: Vec::new(),
        }
    }

    /// What an answer amounts to; `settings` are those in force, `None` where only supposed. `header` is
    /// that of the message.
    pub(super) fn of(
        said: &FilterSaid,
        settings: Option<&FilterSettings>,
        header: &HeaderBlock<'_>,
    ) -> Option<Self> {
        let spam = FilterKind::Spam { least: SpamAction::Mark };
        Some(match (said, settings) {
            (FilterSaid::Spam(because), _) => Self::new(spam, because),
            (FilterSaid::Malware(because), _) => Self::new(FilterKind::Malware, because),
            // A recorded answer, and a policy without a filter.
            (_, None) => return None,
            (FilterSaid::Nothing(because), Some(settings)) => {
                Self::new(FilterKind::Unanswered(settings.on_failure), because)
            }
            (FilterSaid::Verdict(verdict), Some(settings)) => {
                Self::of_verdict(verdict, settings, header)
            }
        })
    }

    fn of_verdict(
        verdict: &FilterVerdict,
        settings: &FilterSettings,
        header: &HeaderBlock<'_>,
    ) -> Self {
        let evidence = evidence(verdict);
        let evidence = HeaderBlock::of(evidence.as_bytes());
        let spam = settings.spam_tag.verdict(&evidence);
        let malware = settings.malware_tag.verdict(&evidence);
        let said = verdict.action.to_string();
        let held = SpamAction::Quarantine;
        let by = |tag: &TagVerdict| tag.line.clone().unwrap_or_else(|| said.clone());
        let (kind, because, score) = match &verdict.action {
            FilterAction::TempFail(reply) => (FilterKind::Defer(reply.clone()), said, None),
            _ if malware.spam => (FilterKind::Malware, by(&malware), malware.score),
            FilterAction::Accept | FilterAction::Reject(_) if spam.spam => {
                (FilterKind::Spam { least: SpamAction::Mark }, by(&spam), spam.score)
            }
            FilterAction::Reject(reply) => (FilterKind::Refuse(reply.clone()), said, None),
            FilterAction::Accept => (FilterKind::Clean, said, spam.score),
            // Neither may lose mail, or deliver what the filter would not.
            FilterAction::Discard | FilterAction::Quarantine(_) => {
                (FilterKind::Spam { least: held }, said, spam.score)
            }
            _ => (FilterKind::Unanswered(settings.on_failure), said, None),
        };
        let mut finding = Self { score, ..Self::new(kind, &because) };
        if let FilterAction::Reject(reply) = &verdict.action {
            let text: String = reply.text().chars().take(LONGEST).collect();
            finding.text = (!text.is_empty()).then(|| text.into());
        }
        finding.ignored = verdict.ignored.iter().take(20).map(ToString::to_string).collect();
        finding.take_edits(verdict, settings, header);
        finding
    }

    /// What is done to the header.
    fn take_edits(
        &mut self,
        verdict: &FilterVerdict,
        settings: &FilterSettings,
        header: &HeaderBlock<'_>,
    ) {
        let tells = matches!(self.kind, FilterKind::Spam { .. } | FilterKind::Malware);
        let telling: Vec<&HeaderEdit> = verdict.telling().collect();
        let (mut top, mut room) = (0, MOST_ADDED);
        for edit in &verdict.headers {
            let is_there = |name: &FieldName, nth: u32| {
                let nth = usize::try_from(nth.max(1)).unwrap_or(usize::MAX);
                header.fields().named(name.as_str()).nth(nth - 1).is_some()
            };
            let (name, value) = match edit {
                HeaderEdit::Add { name, value } | HeaderEdit::Insert { name, value, .. } => {
                    (name, value)
                }
                HeaderEdit::Change { name, nth, value } if !is_there(name, *nth) => (name, value),
                // The sender had written it already: what the filter says stands above it, or instead.
                HeaderEdit::Change { name, nth, value }
                    if telling.contains(&edit) || settings.tells(edit) =>
                {
                    if settings.header == FilterHeader::All {
                        self.edits.push(HeaderEdit::Delete { name: name.clone(), nth: *nth });
                    }
                    (name, value)
                }
                HeaderEdit::Delete { name, nth } if !is_there(name, *nth) => continue,
                other => {
                    match settings.header {
                        FilterHeader::All => self.edits.push(other.clone()),
                        FilterHeader::Add => {
                            let shown: String = other.to_string().chars().take(100).collect();
                            self.ignored.push(format!("{shown} (header = \"add\")"));
                        }
                    }
                    continue;
                }
            };
            room = room.saturating_sub(name.as_str().len() + value.as_str().len() + 4);
            if room == 0 {
                self.ignored
                    .push(format!("a field {name}, since {MOST_ADDED} octets are the most"));
                break;
            }
            if tells && (telling.contains(&edit) || settings.tells(edit)) {
                self.telling.extend(line(name, value));
            } else if matches!(edit, HeaderEdit::Insert { at: 0, .. }) {
                self.added.insert(0, (name.clone(), value.clone()));
                top += 1;
            } else if matches!(edit, HeaderEdit::Insert { .. }) {
                self.added.insert(top, (name.clone(), value.clone()));
                top += 1;
            } else {
                self.added.push((name.clone(), value.clone()));
            }
        }
    }

    /// The names of the fields that it adds to every delivery, 50 at most.
    pub(super) fn added_names(&self) -> Vec<String> {
        self.added.iter().take(50).map(|(name, _)| name.to_string()).collect()
    }

    /// Whether it adds a signature of DKIM.
    pub(super) fn signs(&self) -> bool {
        self.added.iter().any(|(name, _)| name.is("dkim-signature"))
    }

    /// Whether it refuses, for good or for now, whatever a rule or organization says; with the reply.
    pub(super) fn refusal(&self) -> Option<Reply> {
        match &self.kind {
            FilterKind::Refuse(reply) | FilterKind::Defer(reply) => Some(reply.clone()),
            FilterKind::Unanswered(OnFilterFailure::Defer) => Some(Reply::new(
                451,
                (4, 7, 1),
                "The message cannot be filtered now; try again later",
            )),
            _ => None,
        }
    }

    /// The added fields as text, each ended by CR LF.
    pub(super) fn top(&self) -> String {
        self.added.iter().map(|(name, value)| written(name, value)).collect()
    }

    /// The added fields as lines of single deliveries.
    pub(super) fn lines(&self) -> Vec<HeaderLine> {
        self.added.iter().filter_map(|(name, value)| line(name, value)).collect()
    }
}

/// A field as it stands in a header, ended by CR LF; folded as the filter folds it, since it may be a
/// signature. What is not ASCII becomes encoded words, so that the next hop need not take UTF-8.
pub(super) fn written(name: &FieldName, value: &FieldValue) -> String {
    match value.as_str().is_ascii() {
        true => format!("{name}: {}\r\n", value.as_str()),
        false => field(name.as_str(), &value.unfolded(), HeaderText::Ascii),
    }
}

/// A field on one line, cut where it is very long.
fn line(name: &FieldName, value: &FieldValue) -> Option<HeaderLine> {
    let mut value = value.unfolded();
    value.truncate(value.floor_char_boundary(LONGEST_VALUE));
    HeaderLine::new(name.as_str(), &value).ok()
}

/// What the tags are held against: the fields that the answer gives the message, and the answer itself.
fn evidence(verdict: &FilterVerdict) -> String {
    let mut text = String::new();
    match &verdict.action {
        FilterAction::Reject(reply) => text.push_str(&format!("Reply: {reply}\r\n")),
        FilterAction::Quarantine(reason) => {
            let reason: String =
                reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text.push_str(&format!("Quarantine: {reason}\r\n"));
        }
        _ => {}
    }
    for edit in &verdict.headers {
        if let Some(value) = edit.value() {
            text.push_str(&format!("{}: {}\r\n", edit.name(), value.unfolded()));
        }
    }
    text
}

/// A relayed message that counts against its user (D17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abuse<'d> {
    /// The organization that it was relayed for.
    pub organization: &'d str,
    /// The registered user whose envelope sender it bears, by primary address (D10).
    pub user: &'d Mailbox,
    /// What the filter says.
    pub because: &'d str,
}

impl Decision {
    /// Whether this is relayed mail of a registered user that the filter holds for spam or malware,
    /// refused or not. Spam whose recipients' rules all bypass the filter is none.
    #[must_use]
    pub fn abuse(&self) -> Option<Abuse<'_>> {
        let subject = &self.admission.as_ref()?.quota;
        let user = subject.user.as_ref()?;
        let mut views = self.organizations.iter();
        let view = views.find(|view| *view.organization == *subject.organization)?;
        let mut verdicts = view.verdicts.iter();
        let verdict = verdicts.find(|one| matches!(one.by, SpamBy::Malware | SpamBy::Filter))?;
        if verdict.by == SpamBy::Filter {
            let clears = |by: &RuleChanges| by.changed.contains(&Changed::Spam);
            let cleared = self.changed.iter().filter(|(_, by)| clears(by));
            let cleared: HashSet<&Mailbox> = cleared.map(|(recipient, _)| recipient).collect();
            let mut recipients = self.recipients.iter().map(|one| &one.recipient).peekable();
            if recipients.peek().is_some() && recipients.all(|one| cleared.contains(one)) {
                return None;
            }
        }
        Some(Abuse { organization: &subject.organization, user, because: &verdict.because })
    }
}

impl FilterSettings {
    /// Whether an edit is what one of the tags matches.
    fn tells(&self, edit: &HeaderEdit) -> bool {
        let Some(value) = edit.value() else { return false };
        let text = format!("{}: {}\r\n", edit.name(), value.unfolded());
        let block = HeaderBlock::of(text.as_bytes());
        self.spam_tag.verdict(&block).line.is_some()
            || self.malware_tag.verdict(&block).line.is_some()
    }
}

impl Policy {
    /// The sources that the filter is to be told of before [`Policy::at_data_knowing`] decides, each once
    /// (E2): one for all, unless the organizations of the recipients see different ones. Empty where no
    /// filter is configured. `None` is an internal message, whose filter is told the client.
    #[must_use]
    pub fn filter_due(
        &self,
        transaction: &Transaction,
        recipients: &[Recipient],
        header: &HeaderBlock<'_>,
    ) -> Vec<Option<IpAddr>> {
        let mut due: Vec<Option<IpAddr>> = Vec::new();
        if self.server.filter.is_none() {
            return due;
        }
        let mut seen: Vec<&str> = Vec::new();
        for recipient in recipients {
            for organization in self.concerned(transaction, recipient) {
                if seen.contains(&&*organization.name) {
                    continue;
                }
                seen.push(&organization.name);
                let ip = source(organization, transaction, header).ip;
                if !due.contains(&ip) {
                    due.push(ip);
                }
            }
        }
        due
    }
}
