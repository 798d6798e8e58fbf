//! What becomes of a message, with the reasons.

use std::net::IpAddr;
use std::sync::Arc;

use super::filter::FilterFinding;
use super::mark::Marked;
use super::organization::SpamAction;
use super::relay_copy::Copied;
use waypost_auth::{Authentication, Mode, RefusedFor, Verdict};
use waypost_inbound::{Source, SpamEvaluation, TagVerdict};
use waypost_milter::HeaderEdit;
use waypost_relay::{Admission, RefusalReason};
use waypost_rules::{AccountKind, Direction, Failed, Overridden, RuleChanges, Spam};
use waypost_types::{Delivery, HeaderLine, Mailbox, OrgUnit, Reply};

use super::observed::Observation;

/// The answer of [`Policy::at_data`](super::Policy::at_data): what is delivered, refused and kept,
/// each with its because.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What each organization concerned saw; first the one that decided for the first recipient.
    pub organizations: Vec<OrganizationView>,
    /// The rules looked at, for each recipient (C9): all that match, and others up to
    /// [`RULES_TOLD`](super::RULES_TOLD) in all.
    pub rules: Vec<RuleLookedAt>,
    /// How many rules that were looked at are left out of `rules`; none of them matches.
    pub rules_left_out: usize,
    /// What would have been changed or refused by rules and switches that are only observed (O6).
    pub observed: Vec<Box<str>>,
    /// The same with what each would have done, to whom.
    pub observations: Vec<Observation>,
    /// How each recipient was looked at (C2, C4, C8), in their order; not those whose directory failed
    /// or whom nobody receives for.
    pub recipients: Vec<RecipientView>,
    /// What each matching rule changed, in the order of `recipients` (C9).
    pub changed: Vec<(Mailbox, RuleChanges)>,
    /// The relay entry's admission.
    pub admission: Option<Admission>,
    /// What becomes of the copy that the relay entry asks for (D16); `None`: it asks for none, or the
    /// message is refused.
    pub copied: Option<Copied>,
    /// What is owed, in the order of the recipients, copies behind their original; last the one that a
    /// relay entry asks for.
    pub deliveries: Vec<DecidedDelivery>,
    /// The recipients that are refused.
    pub refusals: Vec<Refused>,
    /// The recipients whose mail is kept until someone releases it.
    pub quarantined: Vec<Quarantined>,
    /// Lines for the very top of the message, above our `Received` (E2); where organizations differ in
    /// them, each delivery has its own among its changes instead.
    pub stamps: Vec<HeaderLine>,
    /// Fields that the filter adds, each ended by CR LF, to stand on top of the message below our
    /// `Received` (D17); where organizations differ in them, each delivery has its own among its changes
    /// instead.
    pub filter_fields: Box<str>,
    /// Changes of the filter to the message's own fields, for
    /// [`with_edits`](super::with_edits); empty unless `header = "all"`.
    pub filter_edits: Vec<HeaderEdit>,
    /// The reply to DATA.
    pub reply: DataReply,
}

impl Decision {
    /// The kind of reason why the message is refused as a whole; `None` when it is not.
    #[must_use]
    pub fn refused_for(&self) -> Option<RefusalCause> {
        let DataReply::Refuse(reply) = &self.reply else { return None };
        let mut causes = self.refusals.iter().filter(|one| one.reply == *reply);
        let own = causes.clone().find(|one| one.cause != RefusalCause::WithOthers);
        own.or_else(|| causes.next()).map(|one| one.cause)
    }
}

/// What DATA is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataReply {
    /// The message is to be stored, and its 250 sent once it is durable.
    Accept,
    /// The message is refused as a whole.
    Refuse(Reply),
}

/// What one organization sees of a message.
#[derive(Clone, Debug)]
pub struct OrganizationView {
    /// Its name.
    pub organization: Box<str>,
    /// The source IP behind its gateways (E3-E5).
    pub source: Source,
    /// Its verdict on spam, before `bypass_spam` of single rules.
    pub spam: Spam,
    /// What says so, the gravest first; empty where it is none.
    pub verdicts: Vec<SpamVerdict>,
    /// What the filter said; `None`: none was asked.
    pub filter: Option<FilterView>,
    /// The sender claims to be internal without the proof that is asked for (C3).
    pub spoofed_internal: bool,
    /// Which domains the sender was judged by, and which of ours makes it internal (C3).
    pub sender_because: String,
    /// What its inbound gateway says; `None` where none is set up, and for relayed mail.
    pub gateway: Option<GatewayView>,
    /// SPF, DKIM and DMARC; `None`: they are not evaluated for this message there.
    pub authentication: Option<AuthenticationView>,
}

/// Why a message counts as spam in an organization (D17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpamVerdict {
    /// What says so.
    pub by: SpamBy,
    /// The line, answer or result that says so.
    pub because: Box<str>,
    /// What is done with it at least, whatever `spam_action` says.
    pub least: SpamAction,
    /// What the client is told where it is refused, if the filter has words of its own.
    pub text: Option<Box<str>>,
}

/// What says that a message is spam; the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpamBy {
    /// The filter, which found malware.
    Malware,
    /// The gateway's tag (E9).
    Tag,
    /// The filter.
    Filter,
    /// DMARC (E2).
    Dmarc,
}

impl SpamBy {
    /// Whether `bypass_spam` and the allow list clear it, and `only_spam_tag` does not ask it (E10, E11).
    #[must_use]
    pub fn can_be_cleared(self) -> bool {
        matches!(self, Self::Filter | Self::Dmarc)
    }

    /// The word for it: `malware`, `tag`, `filter` or `dmarc`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malware => "malware",
            Self::Tag => "tag",
            Self::Filter => "filter",
            Self::Dmarc => "dmarc",
        }
    }
}

impl SpamVerdict {
    /// In words: `the gateway's tag says spam`.
    pub(super) fn in_words(&self) -> String {
        match self.by {
            SpamBy::Malware => format!("the filter found malware ({})", self.because),
            SpamBy::Tag => "the gateway's tag says spam".to_owned(),
            SpamBy::Filter => format!("the filter says spam ({})", self.because),
            SpamBy::Dmarc => "DMARC says quarantine (E2)".to_owned(),
        }
    }
}

/// What a filter's answer is to one organization (D17).
#[derive(Clone, Debug, PartialEq)]
pub struct FilterView {
    /// What the answer amounts to.
    pub finding: FilterFinding,
    /// Why its verdict on spam does not count here, before `bypass_spam` of single rules.
    pub cleared: Option<FilterCleared>,
}

/// Why a filter's verdict on spam does not count in an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterCleared {
    /// The source is on the allow list (E11).
    AllowList,
    /// The client is a gateway whose tag alone decides (E10).
    OnlySpamTag,
}

impl FilterCleared {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowList => "the source is on the allow list (E11)",
            Self::OnlySpamTag => "only_spam_tag: the gateway's tag alone decides (E10)",
        }
    }
}

/// What the settings of an organization's inbound gateway say of a message.
#[derive(Clone, Debug)]
pub struct GatewayView {
    /// The source IP is on the allow list: a filter's verdict is not to count (E11).
    pub allow_listed: bool,
    /// Whether the built-in evaluation of spam has a say (E10).
    pub spam_evaluation: SpamEvaluation,
    /// What the tag says; `None` without a tag, or where the client is no gateway (E9).
    pub tag: Option<TagVerdict>,
}

/// What one organization makes of SPF, DKIM and DMARC (E2).
#[derive(Clone, Debug)]
pub struct AuthenticationView {
    /// What it wants done.
    pub mode: Mode,
    /// What was found out; `None`: nobody asked, as in a dry run.
    pub found: Option<Authentication>,
    /// What is done, and why.
    pub verdict: Verdict,
    /// The lines that tell it.
    pub lines: Vec<HeaderLine>,
}

/// How one recipient was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientView {
    /// The recipient as RCPT gave it.
    pub recipient: Mailbox,
    /// One direction, or for mail between internal addresses, and relayed mail for another
    /// organization of the server, two: the sender's first.
    pub sides: Vec<SideView>,
}

/// One direction that a message has for a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideView {
    /// The organization whose rules were asked.
    pub organization: Box<str>,
    /// The direction.
    pub direction: Direction,
    /// The kind of the account seen: the sender's in outgoing directions, else the recipient's.
    pub account: AccountKind,
    /// Its unit.
    pub org_unit: OrgUnit,
}

/// One rule looked at for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLookedAt {
    /// The recipient as RCPT gave it.
    pub recipient: Mailbox,
    /// The rule's description.
    pub rule: Arc<str>,
    /// The first condition that failed; `None` when the rule matched.
    pub failed: Option<Failed>,
    /// How many conditions failed beside the first one.
    pub also_failed: u8,
}

/// One delivery with its reasons.
#[derive(Clone, Debug)]
pub struct DecidedDelivery {
    /// What the queue is to owe.
    pub delivery: Delivery,
    /// The organization whose policy decided.
    pub organization: Box<str>,
    /// The direction (C2).
    pub direction: Direction,
    /// The source IP as that organization sees it; `None` for an internal message.
    pub source_ip: Option<IpAddr>,
    /// That organization's verdict on spam, as in [`OrganizationView::spam`].
    pub spam: Spam,
    /// The rules that changed something, in order; empty when none did.
    pub because: Vec<Box<str>>,
    /// The rule that chose where it goes: by its route, by renaming the recipient, by adding the copy.
    pub chosen_by: Option<Box<str>>,
    /// The rule that settled what is demanded of TLS.
    pub tls_by: Option<Box<str>>,
    /// It is a copy that a rule adds, or, where no rule chose it, a relay entry (D16).
    pub is_copy: bool,
    /// In words: why it goes where it goes.
    pub reason: String,
    /// The parts of rules that lost, and to which (C8).
    pub overridden: Vec<Overridden>,
    /// What an administrator should know, such as a DKIM signature that will break (B3).
    pub warnings: Vec<String>,
    /// Our own marks for its trace line, by which a loop is known (O3, O8).
    pub marks: Vec<Marked>,
}

impl DecidedDelivery {
    /// Whether it is the copy of the message that a relay entry asks for (D16): those of rules have a rule.
    #[must_use]
    pub fn is_relay_copy(&self) -> bool {
        self.is_copy && self.chosen_by.is_none()
    }
}

/// One recipient that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The recipient as RCPT gave it.
    pub recipient: Mailbox,
    /// The reply that it gets, or that its bounce quotes.
    pub reply: Reply,
    /// The kind of reason, for counting.
    pub cause: RefusalCause,
    /// The rule or setting that refuses, and why.
    pub because: String,
}

/// The kinds of reasons for which a recipient or a message is refused: few, and never text from
/// outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCause {
    /// The transaction has as many recipients as it may (D9, D14).
    RecipientLimit,
    /// The organization takes mail from its gateways only (E7).
    NotAGateway,
    /// A gateway did not start TLS (E8).
    GatewayInClearText,
    /// The recipient is not ours, and nobody is relayed here.
    RelayingDenied,
    /// The recipient is not ours, and no relay entry admits the client.
    NotAdmitted(RefusalReason),
    /// The recipient is nobody, and no rule routes or renames it.
    UnknownRecipient,
    /// A group without members, where groups are expanded.
    EmptyGroup,
    /// A rule rejects.
    Rule,
    /// `spam_action = "reject"`.
    Spam,
    /// The same, and what it is is malware (D17).
    Malware,
    /// The filter refuses, for another reason than spam or malware, or for now (D17).
    Filter,
    /// The filter did not answer, and `on_failure = "defer"` (D17).
    FilterUnanswered,
    /// SPF or DMARC (E2).
    Authentication(RefusedFor),
    /// Whether the sender is internal, as it claims, cannot be told now (C3).
    SenderUndecided,
    /// The directory cannot answer now.
    DirectoryUnavailable,
    /// More `Received` lines than are allowed (O3), or our own mark (O8).
    Loop,
    /// The message or its header is larger than is taken: of a dry run alone, since a server refuses such
    /// a message before it asks.
    TooLarge,
    /// Other recipients are refused, and with them the message.
    WithOthers,
}

/// One recipient whose mail is kept.
#[derive(Clone, Debug)]
pub struct Quarantined {
    /// The recipient as RCPT gave it.
    pub recipient: Mailbox,
    /// The quarantine's name.
    pub quarantine: Box<str>,
    /// The rule or setting that keeps it.
    pub because: Box<str>,
    /// What a release delivers.
    pub deliveries: Vec<DecidedDelivery>,
}
