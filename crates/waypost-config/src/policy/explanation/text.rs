//! The explanation for people.

use std::fmt::Write as _;

use super::{ExplainedAuthentication, ExplainedDelivery, ExplainedGateway, Explanation};

impl Explanation {
    /// The answer for people: what happens to each recipient, then which rules were looked at.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let source = self.source_ip.map_or("none (internal)".to_owned(), |ip| ip.to_string());
        let organization = self.organization.as_deref().unwrap_or("none");
        writeln!(out, "organization  {organization}")?;
        writeln!(out, "source IP     {source}")?;
        let spam = if self.spam { "yes" } else { "no" };
        match &self.inbound_gateway {
            None => writeln!(out, "spam          {spam}")?,
            Some(gateway) => gateway.write_text(out, spam)?,
        }
        if let Some(authentication) = &self.authentication {
            authentication.write_text(out)?;
        }
        writeln!(out, "MAIL          {}", self.replies.mail)?;
        for reply in &self.replies.rcpt {
            writeln!(out, "RCPT          {reply}")?;
        }
        writeln!(out, "DATA          {}", self.replies.data.as_deref().unwrap_or("not reached"))?;
        for delivery in &self.deliveries {
            delivery.write_text(out)?;
        }
        for refusal in &self.refusals {
            writeln!(out, "\n{}", refusal.recipient)?;
            writeln!(out, "  refused     {}", refusal.reply)?;
            writeln!(out, "  because     {}", refusal.because)?;
        }
        for kept in &self.quarantined {
            writeln!(out, "\n{}", kept.recipient)?;
            writeln!(out, "  quarantine  {}", kept.quarantine)?;
            writeln!(out, "  because     {}", kept.because)?;
        }
        if !self.rules.is_empty() {
            writeln!(out, "\nrules looked at")?;
        }
        for rule in &self.rules {
            let verdict = rule.failed.as_deref().unwrap_or("matched");
            writeln!(out, "  {}: \"{}\": {verdict}", rule.recipient, rule.rule)?;
        }
        if self.rules_left_out > 0 {
            writeln!(out, "  and {} more that did not match", self.rules_left_out)?;
        }
        if !self.observed.is_empty() {
            writeln!(out, "\nobserved only  {}", self.observed.join(", "))?;
        }
        Ok(())
    }
}

impl ExplainedGateway {
    fn write_text(&self, out: &mut String, spam: &str) -> std::fmt::Result {
        let spf = if self.spf { "due" } else { "not due" };
        writeln!(out, "  because     {}, SPF check {spf}", self.because)?;
        if self.allow_listed {
            writeln!(out, "  allow list  the source IP is on it")?;
        }
        writeln!(out, "spam          {spam}")?;
        if self.only_spam_tag {
            writeln!(out, "  by          the gateway's tag alone")?;
        }
        if let Some(line) = &self.tag_line {
            let score = self.tag_score.map(|score| format!(", number {score}")).unwrap_or_default();
            writeln!(out, "  tag         {}{score}", printable(line))?;
        }
        if let Some(text) = &self.tag_not_a_number {
            writeln!(
                out,
                "  tag         `{}` is no number, so its line is no match",
                printable(text)
            )?;
        }
        Ok(())
    }
}

/// Text of a message that cannot steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl ExplainedAuthentication {
    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let Some(found) = &self.found else {
            return writeln!(out, "SPF, DMARC    {} ({})", self.because, self.mode);
        };
        let domain = found.spf.domain.as_deref().unwrap_or("no domain");
        writeln!(
            out,
            "SPF           {} for {domain}, by {}",
            found.spf.result, found.spf.identity
        )?;
        for dkim in &found.dkim {
            writeln!(out, "DKIM          {} for {} {}", dkim.result, dkim.domain, dkim.because)?;
        }
        let author = found.dmarc.author.as_ref().map_or("no author", |domain| domain.as_str());
        let policy = found.dmarc.policy.map(|policy| format!(", p={policy}")).unwrap_or_default();
        writeln!(out, "DMARC         {} for {author}{policy}", found.dmarc.result)?;
        writeln!(out, "  verdict     {} ({}): {}", self.verdict, self.mode, self.because)
    }
}

impl ExplainedDelivery {
    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\n{}", self.recipient)?;
        if self.recipient != self.original_recipient {
            writeln!(out, "  was         {}", self.original_recipient)?;
        }
        let route = self.route.as_deref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
        writeln!(out, "  goes to     {}{route}, TLS {}", self.via, self.tls)?;
        writeln!(out, "  because     {}", self.reason)?;
        writeln!(out, "  direction   {}", self.direction)?;
        let sender = if self.sender.is_empty() { "<>" } else { &self.sender };
        writeln!(out, "  sender      {sender}")?;
        if !self.because.is_empty() {
            writeln!(out, "  changed by  {}", self.because.join(", "))?;
        }
        for (name, value) in &self.added_headers {
            writeln!(out, "  adds        {name}: {value}")?;
        }
        if let Some(prefix) = &self.subject_prefix {
            writeln!(out, "  subject     {prefix}…")?;
        }
        if self.suppress_bounces {
            writeln!(out, "  bounces     suppressed")?;
        }
        for lost in &self.overridden {
            writeln!(out, "  overridden  {} of \"{}\" by \"{}\"", lost.what, lost.rule, lost.by)?;
        }
        for warning in &self.warnings {
            writeln!(out, "  warning     {warning}")?;
        }
        Ok(())
    }
}
