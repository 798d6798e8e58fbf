//! The explanation for people.

use super::super::observed::{Observation, ObservedKind};
use super::page::{Layout, Page, Tone};
use super::{
    ExplainedAuthentication, ExplainedDelivery, ExplainedFilter, ExplainedGateway, ExplainedRule,
    ExplainedSide, Explanation,
};

/// Of the rules that did not match, so many are told of each recipient, nearest first.
const NEAREST: usize = 8;
/// Columns of the labels of the message, and of a recipient.
const WIDE: usize = 14;
pub(super) const NARROW: usize = 12;

impl Explanation {
    /// The answer for people, plain and unwrapped.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.text(&Layout::default())
    }

    /// The answer for people: what becomes of each recipient and why in a sentence, what the message is,
    /// then for each recipient what was seen, what each rule changed, what lost, and which rules did
    /// not match because of what.
    #[must_use]
    pub fn text(&self, layout: &Layout) -> String {
        let mut page = Page::new(*layout);
        let recipients = self.in_order();
        for recipient in &recipients {
            self.answer(&mut page, recipient);
        }
        for copy in self.relay_copies() {
            page.sentence(
                0,
                &[
                    (Tone::Plain, "A copy of the message goes to "),
                    (Tone::Heading, &copy.recipient),
                    (Tone::Plain, " by "),
                    (Tone::Good, &copy.whereto()),
                    (Tone::Plain, &format!(", because {}.", copy.reason)),
                ],
            );
        }
        if !recipients.is_empty() {
            page.blank();
        }
        self.message(&mut page);
        for recipient in &recipients {
            self.details(&mut page, recipient);
        }
        for copy in self.relay_copies() {
            page.blank();
            page.field(0, NARROW, "copy", Tone::Heading, &copy.recipient);
            copy.write(&mut page, 2, false);
        }
        if self.rules_left_out > 0 {
            let text = format!(
                "and {} more that did not match; waypost explain of the message tells all",
                self.rules_left_out
            );
            page.blank();
            page.sentence(0, &[(Tone::Faint, &text)]);
        }
        if !self.observed.is_empty() {
            self.observed_only(&mut page);
        }
        page.into_text()
    }

    /// The recipients of RCPT that are known, each once: those looked at, then others that stand in
    /// the answer.
    fn in_order(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        let told = self.recipients.iter().map(|one| &one.recipient);
        let delivered = self.deliveries.iter().filter(|one| !one.is_relay_copy());
        let delivered = delivered.map(|one| &one.original_recipient);
        let refused = self.refusals.iter().map(|one| &one.recipient);
        let kept = self.quarantined.iter().map(|one| &one.recipient);
        let mut seen = std::collections::HashSet::new();
        for recipient in told.chain(delivered).chain(refused).chain(kept) {
            if seen.insert(recipient.as_str()) {
                all.push(recipient);
            }
        }
        all
    }

    fn answer(&self, page: &mut Page, recipient: &str) {
        for delivery in self.to(recipient) {
            let cause = delivery.cause();
            if delivery.copy {
                page.sentence(
                    2,
                    &[
                        (Tone::Plain, "A copy goes to "),
                        (Tone::Heading, &delivery.recipient),
                        (Tone::Plain, " by "),
                        (Tone::Good, &delivery.whereto()),
                        (Tone::Plain, &format!(", because {cause}.")),
                    ],
                );
                continue;
            }
            let renamed = match delivery.recipient == recipient {
                true => String::new(),
                false => format!(" as {}", delivery.recipient),
            };
            page.sentence(
                0,
                &[
                    (Tone::Heading, recipient),
                    (Tone::Plain, &format!(" goes{renamed} to ")),
                    (Tone::Good, &delivery.whereto()),
                    (Tone::Plain, &format!(", because {cause}.")),
                ],
            );
        }
        for kept in self.quarantined.iter().filter(|kept| kept.recipient == recipient) {
            let is_rule = self.rules.iter().any(|rule| rule.rule == kept.because);
            let because = match is_rule {
                true => format!(", because rule \"{}\" says so.", kept.because),
                false => format!(", because of {}.", kept.because),
            };
            page.sentence(
                0,
                &[
                    (Tone::Heading, recipient),
                    (Tone::Plain, " is kept in "),
                    (Tone::Kept, &format!("quarantine \"{}\"", kept.quarantine)),
                    (Tone::Plain, &because),
                ],
            );
        }
        for refusal in self.refusals.iter().filter(|one| one.recipient == recipient) {
            page.sentence(
                0,
                &[
                    (Tone::Heading, recipient),
                    (Tone::Plain, " is "),
                    (Tone::Bad, &format!("refused with {}", codes(&refusal.reply))),
                    (Tone::Plain, &format!(", because {}.", refusal.because)),
                ],
            );
        }
    }

    fn to<'a>(&'a self, recipient: &'a str) -> impl Iterator<Item = &'a ExplainedDelivery> {
        let to = move |one: &&ExplainedDelivery| one.original_recipient == recipient;
        self.deliveries.iter().filter(to).filter(|one| !one.is_relay_copy())
    }

    /// The copies of the message that a relay entry asks for.
    fn relay_copies(&self) -> impl Iterator<Item = &ExplainedDelivery> {
        self.deliveries.iter().filter(|one| one.is_relay_copy())
    }

    /// What holds for the message as a whole.
    fn message(&self, page: &mut Page) {
        let mut field = |label: &str, value: &str| page.field(0, WIDE, label, Tone::Plain, value);
        if !self.version.is_empty() {
            field("configuration", &self.version);
        }
        field("organization", self.organization.as_deref().unwrap_or("none"));
        if let Some(admission) = &self.admission {
            let counts = admission.user.as_ref().map(|user| format!("; it counts for {user}"));
            let counts = counts.unwrap_or_default();
            field(
                "relayed",
                &format!("for {}, by entry \"{}\"", admission.organization, admission.entry),
            );
            field("  because", &format!("{}{counts}", admission.because));
            if let Some(rewritten) = &admission.rewritten {
                let rewritten = if rewritten.is_empty() { "<>" } else { rewritten };
                field("  sender", &format!("was {rewritten} in MAIL (D8)"));
            }
            if let Some(copy) = &admission.copy {
                field("  copy", &format!("{copy} (D16)"));
            }
        }
        let source = self.source_ip.map_or("none (internal)".to_owned(), |ip| ip.to_string());
        field("source IP", &source);
        match (&self.inbound_gateway, &self.admission) {
            (Some(gateway), _) => gateway.source(&mut field),
            (None, Some(_)) => field("  because", "the client's own: the mail is relayed"),
            (None, None) if self.organization.is_some() => {
                field("  because", "the client's own: no inbound gateway is set up");
            }
            (None, None) => {}
        }
        field("spam", if self.spam { "yes" } else { "no" });
        match &self.inbound_gateway {
            Some(gateway) => gateway.spam(&mut field),
            None if self.spam_because.is_empty() && self.spam && self.authentication.is_some() => {
                field("  by", "DMARC");
            }
            None => {}
        }
        for spam in self.spam_because.iter().filter(|spam| spam.by != "tag") {
            let by = match &*spam.by {
                "malware" => {
                    format!("the filter, which found malware: {}", spam.because)
                }
                "filter" => format!("the filter: {}", spam.because),
                _ => "DMARC".to_owned(),
            };
            field("  by", &by);
        }
        if let Some(filter) = &self.filter {
            filter.write(&mut field);
        }
        if let Some(authentication) = &self.authentication {
            authentication.write(&mut field);
        }
        field("MAIL", &self.replies.mail);
        for reply in &self.replies.rcpt {
            field("RCPT", reply);
        }
        field("DATA", self.replies.data.as_deref().unwrap_or("not reached"));
    }

    fn details(&self, page: &mut Page, recipient: &str) {
        page.blank();
        page.sentence(0, &[(Tone::Heading, recipient)]);
        for refusal in self.refusals.iter().filter(|one| one.recipient == recipient) {
            page.field(2, NARROW, "refused", Tone::Bad, &refusal.reply);
            page.field(2, NARROW, "because", Tone::Plain, &refusal.because);
            if let Some(cure) = &refusal.cure {
                page.field(2, NARROW, "cure", Tone::Plain, cure);
            }
        }
        for kept in self.quarantined.iter().filter(|one| one.recipient == recipient) {
            page.field(2, NARROW, "quarantine", Tone::Kept, &kept.quarantine);
            page.field(2, NARROW, "because", Tone::Plain, &kept.because);
            page.field(
                2,
                NARROW,
                "cure",
                Tone::Plain,
                "waypost queue CONFIG release ID, or remove ID",
            );
        }
        let (copies, own): (Vec<_>, Vec<_>) = self.to(recipient).partition(|one| one.copy);
        let many = own.len() > 1;
        for delivery in own {
            delivery.write(page, 2, many);
        }
        self.seen_from(page, recipient);
        self.matching(page, recipient);
        for copy in copies {
            page.field(2, NARROW, "copy", Tone::Heading, &copy.recipient);
            copy.write(page, 4, false);
        }
        self.not_matching(page, recipient);
    }

    /// The directions that the message has for a recipient, and whose account was looked at.
    fn seen_from(&self, page: &mut Page, recipient: &str) {
        let seen = self.recipients.iter().find(|one| one.recipient == recipient);
        for side in seen.iter().flat_map(|seen| &seen.sides) {
            let because = self.because(side).map(|because| format!(": {because}"));
            let is_outgoing = ["outbound", "internal-sending"].contains(&&*side.direction);
            let whose = if is_outgoing { "the sender" } else { "the recipient" };
            let direction = format!("{}{}", side.direction, because.unwrap_or_default());
            page.field(2, NARROW, "direction", Tone::Plain, &direction);
            let account = match &*side.account {
                "users" => "a user",
                "groups" => "a group",
                _ => "unrecognized",
            };
            let account =
                format!("{whose} is {account} in unit {} of {}", side.org_unit, side.organization);
            page.field(2, NARROW, "account", Tone::Plain, &account);
        }
        if seen.is_none()
            && let Some(delivery) = self.to(recipient).next()
        {
            page.field(2, NARROW, "direction", Tone::Plain, &delivery.direction);
        }
    }

    /// Why a side has its direction, where it or an earlier one of the same says so.
    fn because<'a>(&'a self, side: &'a ExplainedSide) -> Option<&'a str> {
        let same = |one: &&ExplainedSide| {
            one.organization == side.organization && one.direction == side.direction
        };
        let mut sides = self.recipients.iter().flat_map(|one| &one.sides).filter(same);
        side.because.as_deref().or_else(|| sides.find_map(|one| one.because.as_deref()))
    }

    /// The rules that matched: what each changed, and what it lost to which.
    fn matching(&self, page: &mut Page, recipient: &str) {
        let of_it = |rule: &&ExplainedRule| rule.recipient == recipient;
        let (matched, others): (Vec<_>, Vec<_>) =
            self.rules.iter().filter(of_it).partition(|rule| rule.matched);
        if matched.is_empty() && others.is_empty() {
            return;
        }
        let all = matched.len() + others.len();
        let count = match (matched.len(), all) {
            (0, 1) => "one was looked at; it does not match".to_owned(),
            (0, all) => format!("{all} were looked at; none matches"),
            (1, 1) => "one was looked at, and matches".to_owned(),
            (1, all) => format!("{all} were looked at, one matches"),
            (some, all) => format!("{all} were looked at, {some} match"),
        };
        page.field(2, NARROW, "rules", Tone::Plain, &count);
        for (place, rule) in matched.iter().enumerate() {
            let unit = rule.org_unit.as_ref().map(|unit| format!(" of unit {unit}"));
            let place_in_order = format!("{}. ", place + 1);
            page.sentence(
                4,
                &[
                    (Tone::Label, &place_in_order),
                    (Tone::Heading, &format!("\"{}\"", rule.rule)),
                    (Tone::Plain, &unit.unwrap_or_default()),
                ],
            );
            for change in &rule.changed {
                let (what, value) = change.split_once(": ").unwrap_or(("changes", change));
                page.field(7, NARROW, what, Tone::Plain, value);
            }
            let lost = self.lost(recipient, &rule.rule);
            for lost in &lost {
                page.field(7, NARROW, lost.0, Tone::Faint, &lost.1);
            }
            if rule.changed.is_empty() && lost.is_empty() {
                let text = self.without_effect(recipient, rule);
                page.sentence(7, &[(Tone::Faint, &text)]);
            }
        }
    }

    /// The parts that a rule lost, and to which.
    fn lost<'a>(&'a self, recipient: &'a str, rule: &str) -> Vec<(&'a str, String)> {
        let mut out = Vec::new();
        for delivery in self.to(recipient).filter(|one| !one.copy) {
            for lost in delivery.overridden.iter().filter(|lost| *lost.rule == *rule) {
                let told = (&*lost.what, format!("overridden by \"{}\"", lost.by));
                if !out.contains(&told) {
                    out.push(told);
                }
            }
        }
        out
    }

    fn without_effect(&self, recipient: &str, rule: &ExplainedRule) -> String {
        let is_observed = self.observed_details.iter().find(|one| {
            one.name == rule.rule && one.recipient.as_deref().is_none_or(|of| of == recipient)
        });
        if let Some(observed) = is_observed {
            return format!("only observed: it {}", observed.would);
        }
        let same = |other: &&ExplainedRule| {
            other.recipient == recipient && other.rule == rule.rule && !other.changed.is_empty()
        };
        if self.observed.contains(&rule.rule) {
            "only observed".to_owned()
        } else if self.rules.iter().any(|other| same(&other)) {
            "matches from both sides and applies once".to_owned()
        } else if self.refusals.iter().any(|one| one.recipient == recipient) {
            "changes nothing: the recipient is refused".to_owned()
        } else {
            "changes nothing".to_owned()
        }
    }

    /// The rules that did not match, those nearest to it first.
    fn not_matching(&self, page: &mut Page, recipient: &str) {
        let of_it = |rule: &&ExplainedRule| rule.recipient == recipient && !rule.matched;
        let mut others: Vec<&ExplainedRule> = self.rules.iter().filter(of_it).collect();
        if others.is_empty() {
            return;
        }
        let mut shown = others.len();
        if !page.shows_all_rules() && shown > NEAREST {
            others.sort_by_key(|rule| rule.also_failed);
            shown = NEAREST;
        }
        page.field(2, NARROW, "no match", Tone::Plain, "the first condition that fails");
        for rule in others.iter().take(shown) {
            let failed = rule.failed.as_deref().unwrap_or_default();
            page.sentence(
                4,
                &[
                    (Tone::Plain, &format!("\"{}\"", rule.rule)),
                    (Tone::Faint, &format!(": {failed}")),
                ],
            );
        }
        if let more @ 1.. = others.len() - shown {
            let text = format!("and {more} that were farther from matching; --all-rules tells all");
            page.sentence(4, &[(Tone::Faint, &text)]);
        }
    }

    fn observed_only(&self, page: &mut Page) {
        page.blank();
        page.field(0, WIDE, "observed only", Tone::Kept, &self.observed.join(", "));
        // Rules stand with their recipients.
        let stands = |one: &Observation| {
            let is_it = |rule: &ExplainedRule| {
                rule.matched
                    && rule.rule == one.name
                    && Some(&rule.recipient) == one.recipient.as_ref()
            };
            one.kind == ObservedKind::Rule && self.rules.iter().any(is_it)
        };
        for one in self.observed_details.iter().filter(|one| !stands(one)) {
            let recipient = one.recipient.as_ref().map(|of| format!(" for {of}"));
            let name = match one.kind {
                ObservedKind::Rule => format!("rule \"{}\"", one.name),
                ObservedKind::Relay => format!("relay entry \"{}\"", one.name),
                _ => one.name.to_string(),
            };
            let text = format!("{name}{}: {}", recipient.unwrap_or_default(), one.would);
            page.sentence(2, &[(Tone::Plain, &text)]);
        }
    }
}

/// The codes of a reply: `550 5.1.1`.
fn codes(reply: &str) -> String {
    let mut words = reply.split(' ');
    let code = words.next().unwrap_or_default();
    match words.next().filter(|word| word.split('.').count() == 3) {
        Some(enhanced) => format!("{code} {enhanced}"),
        None => code.to_owned(),
    }
}

impl ExplainedGateway {
    fn source(&self, field: &mut impl FnMut(&str, &str)) {
        let why = match &*self.because {
            "not-from-gateway" => "the client's own: it is no listed gateway",
            "first-external" => "the newest public address that is no listed gateway",
            "previous-hop" => "one hop before the gateway",
            "nothing-readable" => "the client's own: no hop before it could be read",
            _ => "none: every hop is one of ours",
        };
        let spf = if self.spf { "due" } else { "not due" };
        field("  because", &format!("{}, SPF check {spf}", self.because));
        field("  which is", why);
        if self.allow_listed {
            field("  allow list", "the source IP is on it");
        }
    }

    fn spam(&self, field: &mut impl FnMut(&str, &str)) {
        if self.only_spam_tag {
            field("  by", "the gateway's tag alone");
        }
        if let Some(line) = &self.tag_line {
            let score = self.tag_score.map(|score| format!(", number {score}")).unwrap_or_default();
            field("  tag", &format!("{}{score}", line));
        }
        if let Some(text) = &self.tag_not_a_number {
            field("  tag", &format!("`{text}` is no number, so its line is no match"));
        }
    }
}

impl ExplainedFilter {
    fn write(&self, field: &mut impl FnMut(&str, &str)) {
        field("filter", &format!("{}: {}", self.finding, self.because));
        if let Some(score) = self.score {
            field("  score", &score.to_string());
        }
        if let Some(cleared) = &self.cleared {
            field("  counts not", cleared);
        }
        if !self.adds.is_empty() {
            field("  adds", &self.adds.join(", "));
        }
        for change in &self.changes {
            field("  changes", change);
        }
        for ignored in &self.ignored {
            field("  ignored", ignored);
        }
    }
}

impl ExplainedAuthentication {
    fn write(&self, field: &mut impl FnMut(&str, &str)) {
        let Some(found) = &self.found else {
            return field("SPF, DMARC", &format!("{} ({})", self.because, self.mode));
        };
        let domain = found.spf.domain.as_deref().unwrap_or("no domain");
        let spf = format!("{} for {domain}, by {}", found.spf.result, found.spf.identity);
        field("SPF", &spf);
        for dkim in &found.dkim {
            field("DKIM", &format!("{} for {} {}", dkim.result, dkim.domain, dkim.because));
        }
        let author = found.dmarc.author.as_ref().map_or("no author", |domain| domain.as_str());
        let policy = found.dmarc.policy.map(|policy| format!(", p={policy}")).unwrap_or_default();
        field("DMARC", &format!("{} for {author}{policy}", found.dmarc.result));
        field("  verdict", &format!("{} ({}): {}", self.verdict, self.mode, self.because));
    }
}
