//! The lines of the log that mail causes (O4): one a message, a refusal, an attempt.
//!
//! Fields are handed to `tracing` as they are: nothing is formatted unless somebody listens at that
//! level.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::time::Duration;

use waypost_auth::DkimResult;
use waypost_config::policy::{AuthenticationView, FilterCleared, FilterView, Observation};
use waypost_inbound::Source;
use waypost_mime::Attachment;
use waypost_net::client::Over;
use waypost_queue::Work;
use waypost_types::{
    Delivery, Destination, FailureScope, HostPort, Mailbox, Outcome, QueueId, ReversePath,
};

use crate::changes::Sent;
use crate::metrics::{At, Reason};

/// A message got its 250.
pub(crate) struct Accepted<'a> {
    pub(crate) id: QueueId,
    pub(crate) listener: &'a str,
    pub(crate) client: IpAddr,
    /// Where it came from, as the first recipient's organization sees it.
    pub(crate) source: Source,
    /// Who announced the client, if a proxy did.
    pub(crate) proxy: Option<IpAddr>,
    pub(crate) sender: &'a ReversePath,
    pub(crate) recipients: usize,
    pub(crate) deliveries: usize,
    pub(crate) size: usize,
}

impl Accepted<'_> {
    pub(crate) fn write(&self) {
        let Self { id, listener, client, proxy, source, sender, recipients, deliveries, size } =
            self;
        tracing::info!(
            %id, listener, %client, proxy = proxy.map(display), source = source.ip.as_ref().map(display),
            source_because = source.because.as_str(), %sender, recipients, deliveries, size,
            "accepted"
        );
    }
}

/// Attachments of one message that have a line of their own.
const MOST_REMOVED: usize = 20;

/// What one delivery does not get, and why: a line an attachment.
pub(crate) fn removed(id: QueueId, sent: &Sent, rules: &[&str]) {
    for attachment in sent.removed.iter().take(MOST_REMOVED) {
        let Attachment { name, media, size, why, .. } = attachment;
        tracing::info!(
            %id, name = name.as_deref(), r#type = media, size, because = %why, all = sent.is_whole,
            ?rules, "attachment removed"
        );
    }
    let more = sent.removed.len().saturating_sub(MOST_REMOVED);
    if more > 0 {
        tracing::info!(%id, more, ?rules, "attachments removed");
    }
}

/// What SPF, DKIM and DMARC say about a message, and what an organization makes of it (E2).
pub(crate) struct Authenticated<'a> {
    pub(crate) client: IpAddr,
    pub(crate) sender: &'a ReversePath,
    pub(crate) organization: &'a str,
    pub(crate) found: &'a AuthenticationView,
}

impl Authenticated<'_> {
    pub(crate) fn write(&self) {
        let Self { client, sender, organization, found: view } = self;
        let Some(found) = &view.found else { return };
        let dkim = found.dkim.iter().find(|one| one.result == DkimResult::Pass);
        let dkim = dkim.or(found.dkim.first()).map_or("none", |one| one.result.as_str());
        tracing::info!(
            %client, %sender, source = found.checked.map(display), organization,
            spf = found.spf.result.as_str(), dkim, dmarc = found.dmarc.result.as_str(),
            mode = view.mode.as_str(), because = view.verdict.because, "authenticated"
        );
    }
}

/// What the filter says of a message (D17).
pub(crate) struct Filtered<'a> {
    pub(crate) id: QueueId,
    pub(crate) client: IpAddr,
    pub(crate) source: Option<IpAddr>,
    pub(crate) sender: &'a ReversePath,
    pub(crate) organization: &'a str,
    pub(crate) filter: &'a FilterView,
}

impl Filtered<'_> {
    pub(crate) fn write(&self) {
        let Self { id, client, source, sender, organization, filter } = self;
        let finding = &filter.finding;
        tracing::info!(
            %id, %client, source = source.as_ref().map(display), %sender, organization,
            finding = finding.kind.as_str(), because = finding.because, score = finding.score,
            cleared = filter.cleared.map(FilterCleared::as_str), "filtered"
        );
    }
}

/// A setting in mode observe would have done something (O6).
pub(crate) struct Observed<'a> {
    pub(crate) client: IpAddr,
    /// Who announced the client, if a proxy did.
    pub(crate) proxy: Option<IpAddr>,
    /// The message, once it has an id.
    pub(crate) id: Option<QueueId>,
    pub(crate) sender: &'a ReversePath,
    pub(crate) what: &'a Observation,
}

impl Observed<'_> {
    pub(crate) fn write(&self) {
        let Self { client, proxy, id, sender, what } = self;
        let Observation { organization, kind, name, recipient, would } = what;
        tracing::info!(
            organization, kind = kind.as_str(), name, id = id.map(display), %client,
            proxy = proxy.map(display), %sender, recipient, would, "only observed"
        );
    }
}

/// Something was refused.
pub(crate) struct Refused<'a, R, B> {
    pub(crate) at: At,
    pub(crate) reason: Reason,
    pub(crate) client: IpAddr,
    /// Who announced the client, if a proxy did.
    pub(crate) proxy: Option<IpAddr>,
    pub(crate) sender: Option<&'a ReversePath>,
    pub(crate) recipient: Option<&'a Mailbox>,
    pub(crate) reply: &'a R,
    pub(crate) because: &'a B,
}

impl<R: Display, B: Display> Refused<'_, R, B> {
    pub(crate) fn write(&self) {
        let Self { at, reason, client, proxy, sender, recipient, reply, because } = self;
        tracing::info!(
            at = at.as_str(), reason = reason.as_str(), %client,
            proxy = proxy.map(display), sender = sender.map(display),
            recipient = recipient.map(display), %reply, %because, "refused"
        );
    }
}

/// One attempt for one recipient.
pub(crate) struct Attempt<'a> {
    pub(crate) work: &'a Work,
    pub(crate) place: u32,
    pub(crate) delivery: &'a Delivery,
    pub(crate) over: Over,
    pub(crate) took: Duration,
}

impl Attempt<'_> {
    pub(crate) fn write(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered { host, reply } => {
                self.line(host.as_ref(), None, reply, "delivered")
            }
            Outcome::Deferred(failure) => {
                self.line(failure.host.as_ref(), Some(failure.scope), &failure.reply, "deferred");
            }
            Outcome::Failed(failure) => {
                self.line(failure.host.as_ref(), Some(failure.scope), &failure.reply, "failed");
            }
        }
    }

    fn line(
        &self,
        host: Option<&HostPort>,
        scope: Option<FailureScope>,
        reply: &impl Display,
        outcome: &'static str,
    ) {
        // A macro, since a line's level is part of its call site.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    id = %self.work.entry.id,
                    recipient = %self.delivery.recipient,
                    sender = %self.delivery.sender,
                    destination = %self.delivery.destination,
                    because = %self.because(),
                    host = host.map(display),
                    address = self.over.ip.map(display),
                    tls = self.over.ip.map(|_| self.over.tls.map_or("none", |tls| tls.as_str())),
                    attempt = self.work.attempt,
                    ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
                    scope = scope.map(tracing::field::debug),
                    %reply,
                    outcome,
                    "{outcome}"
                )
            };
        }
        match scope {
            None => line!(info),
            Some(_) => line!(warn),
        }
    }

    fn because(&self) -> Because<'_> {
        let place = usize::try_from(self.place).unwrap_or(usize::MAX);
        let owed = self.work.entry.deliveries.get(place);
        Because {
            rule: owed.and_then(|owed| owed.rule.as_deref()),
            destination: &self.delivery.destination,
        }
    }
}

/// Why a delivery goes where it goes, in words.
pub(crate) struct Because<'a> {
    rule: Option<&'a str>,
    destination: &'a Destination,
}

impl Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rule, self.destination) {
            (Some(rule), _) => write!(f, "rule \"{rule}\""),
            (None, Destination::Mailbox { .. }) => f.write_str("the recipient has a mailbox"),
            (None, Destination::Gateway(_)) => f.write_str("the setting outbound_gateway"),
            (None, Destination::Mx) => f.write_str("no rule and no gateway"),
            (None, Destination::Refused { .. }) => f.write_str("refused after DATA"),
            (None, _) => f.write_str("no rule"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Counts how often it is written out.
    #[derive(Default)]
    struct Counted(Cell<usize>);

    impl Display for Counted {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.set(self.0.get() + 1);
            f.write_str("x")
        }
    }

    /// Writes out every field of what is at most at its level.
    struct Listener(Level, AtomicUsize);

    impl Subscriber for Listener {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= self.0
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            struct Written(usize);
            impl Visit for Written {
                fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
                    self.0 += format!("{value:?}").len();
                }
            }
            let mut written = Written(0);
            event.record(&mut written);
            self.1.fetch_add(written.0, Ordering::Relaxed);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn refuse(at: Level) -> (usize, usize) {
        let (reply, because) = (Counted::default(), Counted::default());
        tracing::subscriber::with_default(Listener(at, AtomicUsize::new(0)), || {
            Refused {
                at: At::Rcpt,
                reason: Reason::Rule,
                client: IpAddr::from([192, 0, 2, 1]),
                proxy: None,
                sender: None,
                recipient: None,
                reply: &reply,
                because: &because,
            }
            .write();
        });
        (reply.0.get(), because.0.get())
    }

    #[test]
    fn nothing_is_formatted_unless_somebody_listens_o4() {
        assert_eq!(refuse(Level::WARN), (0, 0));
        assert_eq!(refuse(Level::INFO), (1, 1));
    }

    #[test]
    fn the_reason_of_a_route_is_told() {
        let route = || Destination::Route {
            organization: "Solarmora".into(),
            route: "exchange".parse().unwrap(),
        };
        for (rule, destination, want) in [
            (Some("Split delivery"), route(), "rule \"Split delivery\""),
            (None, Destination::Mx, "no rule and no gateway"),
            (
                None,
                Destination::Mailbox { organization: "Solarmora".into() },
                "the recipient has a mailbox",
            ),
            (
                Some("Rename"),
                Destination::Mailbox { organization: "Solarmora".into() },
                "rule \"Rename\"",
            ),
        ] {
            assert_eq!(Because { rule, destination: &destination }.to_string(), want);
        }
    }
}
