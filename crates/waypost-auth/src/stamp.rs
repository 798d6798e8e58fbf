//! The header lines that tell the results.

use std::fmt::Write as _;
use std::net::IpAddr;

use waypost_types::{Domain, HeaderLine, ReversePath};

use crate::result::{Authentication, Dkim, Dmarc, Identity, SpfResult};

/// What the lines tell beside the results (E2).
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Our own name: the authserv-id (RFC 8601 section 2.5) and the receiver.
    pub by: &'a Domain,
    /// The address that connected to us.
    pub client_ip: IpAddr,
    /// The source IP behind the gateways; `None` for an internal message.
    pub source_ip: Option<IpAddr>,
    /// The rule that chose the source, as a word such as `first-external`.
    pub because: &'a str,
    /// The argument of HELO, as given.
    pub helo: Option<&'a str>,
    /// The sender of MAIL.
    pub sender: &'a ReversePath,
}

/// Octets of a HELO name, an address or a DKIM tag that go into a line.
const LONGEST: usize = 255;

impl Stamp<'_> {
    /// `Authentication-Results` (RFC 8601) and `Received-SPF` (RFC 7208 section 9.1), in the order in
    /// which they stand on top of the message.
    ///
    /// In both, `client-ip` is the address that connected; the source IP stands beside it as
    /// `policy.source-ip` and `x-source-ip`.
    #[must_use]
    pub fn lines(&self, found: &Authentication) -> Vec<HeaderLine> {
        [
            HeaderLine::new("Authentication-Results", &self.authentication_results(found)),
            HeaderLine::new("Received-SPF", &self.received_spf(found)),
        ]
        .into_iter()
        // The values hold no control characters and are bounded: none is refused.
        .flatten()
        .collect()
    }

    fn authentication_results(&self, found: &Authentication) -> String {
        let mut out = self.by.to_string();
        // Writing to a String cannot fail.
        let _ = write!(out, "; spf={} ({})", found.spf.result, self.remark(found));
        match found.spf.identity {
            Identity::MailFrom => {
                let _ = write!(out, " smtp.mailfrom={}", pvalue(self.sender));
            }
            Identity::Helo => {
                let _ = write!(out, " smtp.helo={}", value(self.helo.unwrap_or_default()));
            }
        }
        let source = self.source_ip.map_or("none".to_owned(), |ip| value(&ip.to_string()));
        let client = value(&self.client_ip.to_string());
        let _ = write!(out, " smtp.client-ip={client} policy.source-ip={source}");
        if found.dkim.is_empty() {
            out.push_str("; dkim=none");
        }
        for dkim in &found.dkim {
            write_dkim(&mut out, dkim);
        }
        write_dmarc(&mut out, &found.dmarc);
        out
    }

    fn received_spf(&self, found: &Authentication) -> String {
        let mut out = format!("{} ({}: {})", found.spf.result, self.by, self.remark(found));
        let mut pairs = vec![
            ("client-ip", value(&self.client_ip.to_string())),
            ("envelope-from", quoted_address(self.sender)),
            ("helo", value(self.helo.unwrap_or_default())),
            ("identity", found.spf.identity.to_string()),
            ("receiver", self.by.to_string()),
        ];
        pairs.push((
            "x-source-ip",
            self.source_ip.map_or("none".to_owned(), |ip| value(&ip.to_string())),
        ));
        let mut between = " ";
        for (key, value) in pairs {
            let _ = write!(out, "{between}{key}={value}");
            between = "; ";
        }
        out
    }

    /// Why the result is this one, for a comment: without parentheses or backslashes.
    fn remark(&self, found: &Authentication) -> String {
        let domain = found.spf.domain.as_deref().unwrap_or("an address literal or no domain");
        let Some(ip) = found.checked else {
            return match self.source_ip {
                None => "internal, not checked: each hop is a gateway or private".to_owned(),
                Some(ip) => format!("not checked: the source {ip} by rule {}", self.because),
            };
        };
        let says = match found.spf.result {
            SpfResult::Pass => "may send for",
            SpfResult::Fail => "may not send for",
            SpfResult::SoftFail => "probably may not send for",
            SpfResult::Neutral => "is neither named nor denied by",
            SpfResult::None => "is not asked about by",
            SpfResult::TempError => "cannot be checked now for",
            SpfResult::PermError => "meets a record that cannot be understood of",
        };
        if ip == self.client_ip {
            format!("{ip} {says} {domain}")
        } else {
            let client = self.client_ip;
            format!("{ip}, the source behind {client} by rule {}, {says} {domain}", self.because)
        }
    }
}

fn write_dkim(out: &mut String, dkim: &Dkim) {
    let _ = write!(out, "; dkim={}", dkim.result);
    if !dkim.because.is_empty() {
        let _ = write!(out, " ({})", comment(&dkim.because));
    }
    for (property, text) in [("header.d", &dkim.domain), ("header.s", &dkim.selector)] {
        if !text.is_empty() {
            let _ = write!(out, " {property}={}", value(text));
        }
    }
}

fn write_dmarc(out: &mut String, dmarc: &Dmarc) {
    let _ = write!(out, "; dmarc={}", dmarc.result);
    match (dmarc.policy, dmarc.aligned) {
        (Some(policy), Some(aligned)) => {
            let _ = write!(out, " (p={policy}, by {aligned})");
        }
        (Some(policy), None) => {
            let _ = write!(out, " (p={policy})");
        }
        (None, _) => {}
    }
    if let Some(author) = &dmarc.author {
        let _ = write!(out, " header.from={author}");
    }
}

/// The sender as a `pvalue`: `a@b.example`, or `@b.example` where its local part is no dot-atom.
fn pvalue(sender: &ReversePath) -> String {
    let Some(mailbox) = sender.mailbox() else { return "\"\"".to_owned() };
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    match mailbox.domain() {
        Some(domain) if mailbox.local_part().chars().all(plain) => {
            format!("{}@{domain}", mailbox.local_part())
        }
        Some(domain) => format!("@{domain}"),
        None => value(&mailbox.to_string()),
    }
}

/// The sender for `Received-SPF`, in quotes.
fn quoted_address(sender: &ReversePath) -> String {
    let address = pvalue(sender);
    if address.starts_with('"') { address } else { format!("\"{address}\"") }
}

/// A token as it is, anything else as a quoted string; what cannot stand in one is left out.
fn value(text: &str) -> String {
    let token = |c: char| c.is_ascii_alphanumeric() || "-._+".contains(c);
    let kept: String = text.chars().filter(|c| (' '..='~').contains(c)).take(LONGEST).collect();
    if !kept.is_empty() && kept.chars().all(token) {
        return kept;
    }
    let mut out = String::from("\"");
    for c in kept.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// Text for inside of parentheses.
fn comment(text: &str) -> String {
    text.chars()
        .filter(|c| (' '..='~').contains(c) && !"()\\;".contains(*c))
        .take(LONGEST)
        .collect()
}

/// A line as it stands on top of a message: folded behind each `;`, ended by CR LF. Text in quotes is
/// left whole.
#[must_use]
pub fn folded(line: &HeaderLine) -> String {
    let mut out = format!("{}: ", line.name());
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = line.value().chars().peekable();
    while let Some(c) = rest.next() {
        out.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            ';' if !quoted && rest.next_if_eq(&' ').is_some() => out.push_str("\r\n\t"),
            _ => {}
        }
    }
    out.push_str("\r\n");
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{Aligned, DkimResult, DmarcPolicy, DmarcResult, Spf};

    use super::*;

    fn found(checked: Option<&str>, result: SpfResult, identity: Identity) -> Authentication {
        Authentication {
            checked: checked.map(|ip| ip.parse().unwrap()),
            spf: Spf::new(result, identity, Some("b.example")),
            dkim: vec![Dkim {
                result: DkimResult::Pass,
                domain: "b.example".into(),
                selector: "k1".into(),
                because: "".into(),
            }],
            dmarc: Dmarc {
                result: DmarcResult::Pass,
                author: Some("b.example".parse().unwrap()),
                policy: Some(DmarcPolicy::Reject),
                aligned: Some(Aligned::Dkim),
            },
        }
    }

    fn text(stamp: &Stamp<'_>, found: &Authentication) -> String {
        stamp.lines(found).iter().map(folded).collect()
    }

    #[test]
    fn e2_both_addresses_stand_in_both_lines() {
        let by = "mx.solarmora.com".parse().unwrap();
        let sender: ReversePath = "a@b.example".parse().unwrap();
        let stamp = Stamp {
            by: &by,
            client_ip: "198.51.100.1".parse().unwrap(),
            source_ip: Some("203.0.113.7".parse().unwrap()),
            because: "first-external",
            helo: Some("gw.example"),
            sender: &sender,
        };
        let found = found(Some("203.0.113.7"), SpfResult::Pass, Identity::MailFrom);
        let want = "Authentication-Results: mx.solarmora.com;\r\n\
            \tspf=pass (203.0.113.7, the source behind 198.51.100.1 by rule first-external, may send \
            for b.example) smtp.mailfrom=a@b.example smtp.client-ip=198.51.100.1 \
            policy.source-ip=203.0.113.7;\r\n\
            \tdkim=pass header.d=b.example header.s=k1;\r\n\
            \tdmarc=pass (p=reject, by dkim) header.from=b.example\r\n\
            Received-SPF: pass (mx.solarmora.com: 203.0.113.7, the source behind 198.51.100.1 by rule \
            first-external, may send for b.example) client-ip=198.51.100.1;\r\n\
            \tenvelope-from=\"a@b.example\";\r\n\thelo=gw.example;\r\n\tidentity=mailfrom;\r\n\
            \treceiver=mx.solarmora.com;\r\n\tx-source-ip=203.0.113.7\r\n";
        assert_eq!(text(&stamp, &found), want);
    }

    #[test]
    fn e2_an_internal_message_is_not_checked() {
        let by = "mx.solarmora.com".parse().unwrap();
        let stamp = Stamp {
            by: &by,
            client_ip: "2001:db8::1".parse().unwrap(),
            source_ip: None,
            because: "internal",
            helo: Some("[IPv6:2001:db8::1]"),
            sender: &ReversePath::Null,
        };
        let lines = text(&stamp, &found(None, SpfResult::None, Identity::Helo));
        for part in [
            "spf=none (internal, not checked: each hop is a gateway or private) \
             smtp.helo=\"[IPv6:2001:db8::1]\" smtp.client-ip=\"2001:db8::1\" policy.source-ip=none",
            "Received-SPF: none (",
            "client-ip=\"2001:db8::1\";",
            "envelope-from=\"\";",
            "identity=helo;",
            "x-source-ip=none\r\n",
        ] {
            assert!(lines.contains(part), "{part}\n{lines}");
        }
    }

    proptest! {
        /// Whatever a client says, the lines are two fields with the results that were found.
        #[test]
        fn nothing_that_a_client_says_adds_a_result(
            helo in "\\PC{0,300}|[\"\\\\;()a=\r\n\t ]{0,40}",
            local in "[a-z\"\\\\;()@ é]{1,20}",
            selector in "\\PC{0,60}|[\"\\\\;()= ]{0,20}",
        ) {
            let by: Domain = "mx.solarmora.com".parse().unwrap();
            let mailbox = waypost_types::Mailbox::new(&local, "b.example".parse::<Domain>().unwrap());
            let sender = mailbox.map_or(ReversePath::Null, ReversePath::Mailbox);
            let stamp = Stamp {
                by: &by,
                client_ip: "198.51.100.1".parse().unwrap(),
                source_ip: None,
                because: "internal",
                helo: Some(&helo),
                sender: &sender,
            };
            for identity in [Identity::MailFrom, Identity::Helo] {
                let mut found = found(None, SpfResult::None, identity);
                found.dkim[0].selector = selector.as_str().into();
                found.dkim[0].because = selector.as_str().into();
                let lines = stamp.lines(&found);
                prop_assert_eq!(lines.len(), 2);
                for line in &lines {
                    let parts = outside_of_quotes(line.value());
                    let results = parts.iter().filter(|part| part.contains("dmarc=")).count();
                    let want = usize::from(line.name() == "Authentication-Results");
                    prop_assert_eq!(results, want, "{}", line);
                    let folds = folded(line);
                    let unfolded = folds.replace("\r\n\t", " ");
                    prop_assert_eq!(unfolded, format!("{line}\r\n"));
                }
            }
        }
    }

    /// The parts between semicolons, without quoted strings and comments.
    fn outside_of_quotes(value: &str) -> Vec<String> {
        let (mut parts, mut depth, mut quoted, mut escaped) =
            (vec![String::new()], 0, false, false);
        for c in value.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' if depth == 0 => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => depth -= 1,
                ';' if !quoted && depth == 0 => parts.push(String::new()),
                c if !quoted && depth == 0 => parts.last_mut().unwrap().push(c),
                _ => {}
            }
        }
        assert!(!quoted && depth == 0, "{value}");
        parts
    }
}
