//! Who is told what after an attempt.

use std::sync::Arc;
use std::time::Duration;

use waypost_types::{
    Changes, Delivery, Destination, Domain, EnhancedCode, Failure, FailureScope, HostPort,
    MailParameters, Mailbox, Notify, QueueId, Reply, ReplyClass, Ret, ReversePath, Timestamp,
    TlsDemand,
};

use crate::report::report;
use crate::{Body, Entry, Handover};

/// What the sender of a message is to be told about deliveries that failed, wait or, if he asked,
/// succeeded (RFC 3464).
///
/// It goes to the sender that the next hop was told, so after D8's rewriting to that address, as the
/// next hop's own bounces do. There is none for a null sender, for a delivery with `suppress_bounces`
/// (C6), nor for one whose `NOTIFY` does not ask for it (RFC 3461 section 5.2.6). All that one
/// attempt gives reason to tell is in one notice. A notice that fails itself tells nobody.
#[derive(Clone, Debug)]
pub struct Notice {
    pub(crate) entry: Arc<Entry>,
    pub(crate) to: Mailbox,
    pub(crate) at: Timestamp,
    pub(crate) lines: Vec<Line>,
}

/// What a notice says of one delivery.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) place: usize,
    pub(crate) kind: Kind,
    pub(crate) host: Option<HostPort>,
    pub(crate) reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It cannot be delivered.
    Failed,
    /// The same, for want of a secure connection.
    Insecure,
    /// Its lifetime is over.
    Expired,
    /// It waits until then at the longest.
    Delayed { until: Timestamp },
    /// A next hop that reports no delivery has it.
    Relayed,
    /// It is in the mailbox system.
    Delivered,
}

/// What became of a delivery, in the words of RFC 3464 section 2.3.3; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Failed,
    Delayed,
    Relayed,
    Delivered,
}

/// How much of the original message a notice returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// Its header: the first [`Entry::header_size`] octets of the body.
    Header,
    /// All of it.
    Whole,
}

impl Notice {
    /// Whom the notice is for: the caller finds the way there.
    #[must_use]
    pub fn recipient(&self) -> &Mailbox {
        &self.to
    }

    /// The message that it is about.
    #[must_use]
    pub fn about(&self) -> QueueId {
        self.entry.id
    }

    /// How many deliveries failed for good.
    #[must_use]
    pub fn failures(&self) -> usize {
        let failed = |line: &&Line| line.kind.action() == Action::Failed;
        self.lines.iter().filter(failed).count()
    }

    /// The name of what is most urgent in it (RFC 3464 section 2.3.3): `failed`, `delayed`, `relayed` or
    /// `delivered`.
    #[must_use]
    pub fn action_name(&self) -> &'static str {
        self.action().as_str()
    }

    /// What is most urgent in it.
    pub(crate) fn action(&self) -> Action {
        self.lines.iter().map(|line| line.kind.action()).min().unwrap_or(Action::Delivered)
    }

    /// How much of the original [`Notice::compose`] puts in: all of it only when a delivery failed and
    /// the sender asked for it with `RET=FULL` (RFC 3461 section 4.3).
    #[must_use]
    pub fn returned(&self) -> Returned {
        match self.entry.parameters.ret {
            Some(Ret::Full) if self.failures() > 0 => Returned::Whole,
            _ => Returned::Header,
        }
    }

    /// The notice as a message of its own, from `<>`, in the form that is stored.
    ///
    /// `id` is the new message's id, `hostname` this server's name, `original` the stored body or at
    /// least its header (what could not be read may be missing), `destination` the way to
    /// [`Notice::recipient`]. Commit both in the record of the attempt's events.
    #[must_use]
    pub fn compose(
        &self,
        id: QueueId,
        hostname: &Domain,
        original: &[u8],
        destination: Destination,
    ) -> (Entry, Body) {
        let report = report(self, id, hostname, original);
        let action = self.action().as_str();
        let delivery = Delivery {
            recipient: self.to.clone(),
            original_recipient: self.to.clone(),
            sender: ReversePath::Null,
            destination,
            tls: TlsDemand::default(),
            changes: Changes::default(),
            suppress_bounces: true,
            spam: false,
            notify: Notify::Never,
            orcpt: None,
        };
        let entry = Entry {
            id,
            accepted_at: self.at,
            sender: ReversePath::Null,
            parameters: MailParameters {
                body: report.body,
                smtputf8: self.to.needs_smtputf8(),
                ..MailParameters::default()
            },
            client: format!("notice about {} ({action})", self.entry.id).into(),
            trace: Box::default(),
            deliveries: vec![delivery.into()],
            decision: format!(r#"{{"notice":"{action}","about":"{}"}}"#, self.entry.id).into(),
            size: u64::try_from(report.bytes.len()).unwrap_or(u64::MAX),
            header_size: report.header_size,
        };
        (entry, report.bytes.into())
    }
}

impl Kind {
    pub(crate) fn action(self) -> Action {
        match self {
            Kind::Failed | Kind::Insecure | Kind::Expired => Action::Failed,
            Kind::Delayed { .. } => Action::Delayed,
            Kind::Relayed => Action::Relayed,
            Kind::Delivered => Action::Delivered,
        }
    }
}

impl Action {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Relayed => "relayed",
            Action::Delivered => "delivered",
        }
    }
}

impl Line {
    /// The status code of the report (RFC 3463): its class says what became of the delivery, which
    /// the reply's own class does not when a 4yz was final or a 5yz was the host's.
    pub(crate) fn status(&self) -> EnhancedCode {
        let class = match self.kind {
            Kind::Expired => return EnhancedCode(5, 4, 7),
            Kind::Failed | Kind::Insecure => 5,
            Kind::Delayed { .. } => 4,
            Kind::Relayed | Kind::Delivered => 2,
        };
        match self.reply.enhanced() {
            Some(EnhancedCode(_, subject, detail)) => EnhancedCode(class, subject, detail),
            None if self.kind == Kind::Insecure => EnhancedCode(class, 7, 0),
            None => EnhancedCode(class, 0, 0),
        }
    }

    /// What the sender can do, in one sentence or two.
    pub(crate) fn advice(&self) -> &'static str {
        let EnhancedCode(_, subject, detail) = self.status();
        match (self.kind, subject, detail) {
            (Kind::Delivered, ..) => "You asked to be told.",
            (Kind::Relayed, ..) => {
                "You asked to be told. That system may not tell you of the delivery itself."
            }
            (Kind::Delayed { .. }, ..) => {
                "You need not do anything: delivery is tried again until the time given."
            }
            (Kind::Expired, ..) => {
                "The receiving system could not be reached, or put the message off, for the whole \
                 time. Send it again later, or reach the recipient another way."
            }
            (Kind::Insecure, ..) => {
                "A secure connection is required and could not be made. Ask the administrator of \
                 the receiving system to look at its TLS certificate."
            }
            (_, 1, _) => "Look for a mistake in the address, correct it, and send again.",
            (_, 2, 2) => "The mailbox is full. Send again when the recipient has made room.",
            (_, 2, 3) | (_, 3, 4) => {
                "The message is too large for the recipient. Send it again with less in it."
            }
            (_, 7, _) => {
                "The receiving system refuses the message by its rules. Ask its administrator, \
                 and quote the reply above."
            }
            _ if self.reply.class() == ReplyClass::Permanent => {
                "The receiving system refused the message for good. Correct what its reply above \
                 names, or ask its administrator."
            }
            _ => "Send the message again later, or reach the recipient another way.",
        }
    }
}

/// Collects what an attempt asks to tell.
pub(crate) struct Told {
    entry: Arc<Entry>,
    at: Timestamp,
    lines: Vec<Line>,
}

impl Told {
    pub(crate) fn new(entry: Arc<Entry>, at: Timestamp) -> Self {
        Self { entry, at, lines: Vec::new() }
    }

    pub(crate) fn failed(&mut self, place: u32, failure: &Failure) {
        let kind = match failure.scope {
            FailureScope::Tls => Kind::Insecure,
            FailureScope::Host | FailureScope::Message => Kind::Failed,
        };
        self.tell(place, kind, failure.host.as_ref(), &failure.reply);
    }

    pub(crate) fn expired(&mut self, place: u32, failure: &Failure) {
        self.tell(place, Kind::Expired, failure.host.as_ref(), &failure.reply);
    }

    /// Whether the sender asked to be told.
    pub(crate) fn delayed(&mut self, place: u32, failure: &Failure, lifetime: Duration) -> bool {
        let until = self.entry.accepted_at + lifetime;
        self.tell(place, Kind::Delayed { until }, failure.host.as_ref(), &failure.reply)
    }

    pub(crate) fn delivered(
        &mut self,
        place: u32,
        handover: Handover,
        host: Option<&HostPort>,
        reply: &Reply,
    ) {
        let kind = match handover {
            Handover::Passed => return,
            Handover::Relayed => Kind::Relayed,
            Handover::Final => Kind::Delivered,
        };
        self.tell(place, kind, host, reply);
    }

    fn tell(&mut self, place: u32, kind: Kind, host: Option<&HostPort>, reply: &Reply) -> bool {
        let Ok(place) = usize::try_from(place) else { return false };
        let Some(owed) = self.entry.deliveries.get(place) else { return false };
        let Delivery { sender, suppress_bounces, notify, .. } = &owed.delivery;
        let asked = match kind {
            Kind::Failed | Kind::Insecure | Kind::Expired => notify.on_failure(),
            Kind::Delayed { .. } => matches!(notify, Notify::On { delay: true, .. }),
            Kind::Relayed | Kind::Delivered => matches!(notify, Notify::On { success: true, .. }),
        };
        let nobody = self.entry.sender.is_null() || sender.is_null();
        if nobody || *suppress_bounces || !asked {
            return false;
        }
        self.lines.push(Line { place, kind, host: host.cloned(), reply: reply.clone() });
        true
    }

    pub(crate) fn into_notice(self) -> Option<Notice> {
        let Self { entry, at, lines } = self;
        // A work has one sender.
        let to = entry.deliveries.get(lines.first()?.place)?.delivery.sender.mailbox()?.clone();
        Some(Notice { entry, to, at, lines })
    }
}
