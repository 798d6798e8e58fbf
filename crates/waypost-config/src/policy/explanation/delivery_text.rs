//! One delivery for people.

use super::page::{Page, Tone};
use super::text::NARROW;
use super::{ExplainedAttachment, ExplainedDelivery, ExplainedHost, ExplainedHosts};

impl ExplainedHosts {
    /// The hosts in one line: in the order of the draw, or with their shares.
    #[must_use]
    pub fn in_words(&self) -> String {
        let skipped = |one: &ExplainedHost| {
            one.skipped.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
        };
        let shares = self.order.iter().filter(|one| one.percent.is_some()).count();
        let mut out = String::new();
        for (place, one) in self.order.iter().enumerate() {
            let is_secondary = one.tier.is_some();
            let joint = match (place, shares) {
                (0, _) => "",
                (_, 2..) if !is_secondary => ", ",
                _ if is_secondary => ", else ",
                _ => ", then ",
            };
            let percent = match one.percent {
                Some(percent) if shares > 1 => format!(" first for {percent}%"),
                _ => String::new(),
            };
            out += &format!("{joint}{}{percent}{}", one.at, skipped(one));
        }
        out
    }
}

impl ExplainedDelivery {
    /// Whether it is the copy that a relay entry asks for (D16): those of rules have a rule.
    pub(crate) fn is_relay_copy(&self) -> bool {
        self.copy && self.chosen_by.is_none()
    }

    /// Where it goes, with the hosts.
    pub(super) fn whereto(&self) -> String {
        let hosts = self.hosts.as_ref().map(|hosts| format!(" ({})", hosts.in_words()));
        let hosts = hosts.unwrap_or_default();
        match (&*self.via, &self.route) {
            ("route", Some(route)) => format!("route \"{route}\"{hosts}"),
            ("gateway", _) => format!("the smart host{hosts}"),
            ("mx", _) => "its MX hosts".to_owned(),
            ("mailbox", _) => {
                let by = self.hosts.as_ref().and_then(|hosts| hosts.route.as_deref());
                let by = by.map(|route| format!(" by route \"{route}\"{hosts}"));
                let by = by.unwrap_or_default();
                format!("the mailbox system{by}")
            }
            (other, _) => other.to_owned(),
        }
    }

    pub(super) fn cause(&self) -> String {
        match (&self.chosen_by, &*self.via) {
            (Some(rule), _) if self.copy => format!("rule \"{rule}\" asks for it"),
            (Some(rule), "route") if self.reason.ends_with("changes the route") => {
                format!("rule \"{rule}\" says so")
            }
            (_, "gateway") if self.chosen_by.is_none() => {
                "the setting outbound_gateway says so".to_owned()
            }
            _ => self.reason.clone(),
        }
    }

    pub(super) fn write(&self, page: &mut Page, indent: usize, named: bool) {
        let mut field =
            |label: &str, value: &str| page.field(indent, NARROW, label, Tone::Plain, value);
        if named || (self.recipient != self.original_recipient && !self.copy) {
            field("goes as", &self.recipient);
        }
        let route = self.route.as_deref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
        field("goes to", &format!("{}{route}, TLS {}", self.via, self.tls));
        if let Some(hosts) = &self.hosts {
            let draw = hosts.draw.as_ref().map(|draw| format!("; draw {draw} of this message"));
            field("hosts", &format!("{}{}", hosts.in_words(), draw.unwrap_or_default()));
        }
        match (&self.tls_policy, &self.tls_by) {
            (Some(tls), _) => field("TLS", &tls.words),
            (None, Some(rule)) => field("TLS", &format!("settled by rule \"{rule}\"")),
            (None, None) => {}
        }
        field("because", &self.reason);
        field("sender", if self.sender.is_empty() { "<>" } else { &self.sender });
        if !self.because.is_empty() && !self.copy {
            field("changed by", &self.because.join(", "));
        }
        for (name, value) in &self.added_headers {
            field("adds", &format!("{name}: {value}"));
        }
        if let Some(prefix) = &self.subject_prefix {
            field("subject", &format!("{prefix}…"));
        }
        for removed in self.removed_attachments.iter().flatten() {
            let ExplainedAttachment { name, r#type, size, because } = removed;
            let name = name.as_deref().unwrap_or("an attachment without a name");
            field("removes", &format!("{}, {}, {size} octets: {because}", name, r#type));
        }
        if self.suppress_bounces {
            field("bounces", "suppressed");
        }
        for warning in &self.warnings {
            field("warning", warning);
        }
    }
}
