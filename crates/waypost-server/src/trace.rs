//! The trace line that an accepted message gets.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::IpAddr;

use waypost_types::{Domain, Mailbox, QueueId, Session, Timestamp};

/// Octets that a line rarely exceeds.
const USUAL: usize = 384;

/// What a trace line tells beside the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace<'a> {
    /// The client.
    pub(crate) session: &'a Session,
    /// Whether the client said EHLO.
    pub(crate) extended: bool,
    /// The envelope needs SMTPUTF8.
    pub(crate) smtputf8: bool,
    /// TLS version and cipher, as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
    pub(crate) tls: Option<&'a str>,
    /// Our own name.
    pub(crate) by: &'a Domain,
    /// The message's id.
    pub(crate) id: QueueId,
    /// The only recipient; `None` when there are several, so that none learns of another.
    pub(crate) only_recipient: Option<&'a Mailbox>,
    /// When.
    pub(crate) at: Timestamp,
}

impl Trace<'_> {
    /// The `Received:` field of RFC 5321 section 4.4, folded, each line ended by CR LF.
    #[must_use]
    pub(crate) fn line(&self) -> String {
        let helo: Cow<'_, str> = match self.session.helo.as_deref() {
            None | Some("") => "unknown".into(),
            Some(name) => of_chars(name, 255, is_helo),
        };
        let literal = match self.session.client_ip {
            IpAddr::V4(_) => "",
            IpAddr::V6(_) => "IPv6:",
        };
        let mut line = String::with_capacity(USUAL);
        // Nothing that is written into a string fails.
        let _ = write!(
            line,
            "Received: from {helo} ([{literal}{}])\r\n\tby {} with {} id {}",
            self.session.client_ip,
            self.by,
            self.protocol(),
            self.id
        );
        if let Some(tls) = self.tls {
            let _ =
                write!(line, "\r\n\t(using {})", of_chars(tls, 120, |c| is_helo(c) || c == ' '));
        }
        if let Some(recipient) = self.only_recipient {
            let _ = write!(line, "\r\n\tfor <{recipient}>");
        }
        let _ = write!(line, ";\r\n\t{}\r\n", self.at.rfc5322());
        line
    }

    /// The protocol's registered name (RFC 3848, RFC 6531 section 4.3).
    fn protocol(&self) -> String {
        if !self.extended {
            return "SMTP".to_owned();
        }
        let base = if self.smtputf8 { "UTF8SMTP" } else { "ESMTP" };
        let tls = if self.session.is_encrypted() { "S" } else { "" };
        let auth = if self.session.auth.is_some() { "A" } else { "" };
        format!("{base}{tls}{auth}")
    }
}

/// The lines on top of a message with a comment in our trace line, which is the first `Received` among
/// them: behind everything that it tells, before the date (RFC 5321 section 4.4, `Stamp`).
#[must_use]
pub(crate) fn with_comment(lines: &str, comment: &str) -> String {
    let begin = match lines.starts_with("Received: ") {
        true => 0,
        false => lines.find("\r\nReceived: ").map_or(0, |at| at + 2),
    };
    let (above, rest) = lines.split_at(begin);
    // It ends where a line does not continue it.
    let ends = rest.match_indices("\r\n").map(|(at, end)| at + end.len());
    let goes_on = |end: usize| rest.get(end..).is_some_and(|next| next.starts_with(['\t', ' ']));
    let end = ends.into_iter().find(|end| !goes_on(*end)).unwrap_or(rest.len());
    let (ours, below) = rest.split_at(end);
    // No date holds a semicolon.
    let (told, date) = ours.rsplit_once(';').unwrap_or((ours, ""));
    format!("{above}{told}\r\n\t{comment};{date}{below}")
}

/// At most so many of the characters, those that may be there.
fn of_chars(text: &str, most: usize, may: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.len() <= most && text.chars().all(&may) {
        return text.into();
    }
    text.chars().filter(|c| may(*c)).take(most).collect()
}

fn is_helo(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:[]".contains(c)
}

#[cfg(test)]
mod tests {
    use waypost_inbound::Reading;
    use waypost_types::{ListenerRole, TlsState};

    use super::*;

    #[test]
    fn a_comment_goes_into_our_own_line_alone_o8() {
        for (lines, want) in [
            (
                "Received: from a\r\n\tby b; date\r\n",
                "Received: from a\r\n\tby b\r\n\t(c); date\r\n",
            ),
            (
                "Received-SPF: pass;\r\n\tx\r\nReceived: from a\r\n\tby b; date\r\nDKIM-Signature: v=1;\r\n\tb=x\r\n",
                "Received-SPF: pass;\r\n\tx\r\nReceived: from a\r\n\tby b\r\n\t(c); date\r\nDKIM-Signature: v=1;\r\n\tb=x\r\n",
            ),
            (
                "Received: from a; date\r\nReceived: by a filter; date\r\n",
                "Received: from a\r\n\t(c); date\r\nReceived: by a filter; date\r\n",
            ),
        ] {
            assert_eq!(with_comment(lines, "(c)"), want);
        }
    }

    #[test]
    fn our_own_line_reads_back_as_the_client() {
        for (ip, helo, tls, extended, with) in [
            ("192.0.2.7", "mail.example", TlsState::Clear, true, "with ESMTP id"),
            ("192.0.2.7", "8.8.8.8", TlsState::Clear, false, "with SMTP id"),
            ("2001:db8::7", "[IPv6:2001:db8::9]", TlsState::Encrypted, true, "with ESMTPS id"),
            ("192.0.2.7", "x) (y [8.8.8.8])\r\nBcc: z", TlsState::Clear, true, "with ESMTP id"),
        ] {
            let session = Session {
                client_ip: ip.parse().unwrap(),
                role: ListenerRole::Mx,
                helo: Some(helo.into()),
                auth: None,
                tls,
            };
            let line = Trace {
                session: &session,
                extended,
                smtputf8: false,
                tls: None,
                by: &"mx.example".parse().unwrap(),
                id: QueueId::new(7),
                only_recipient: Some(&"a@b.example".parse().unwrap()),
                at: Timestamp::from_millis(1_585_091_507_000),
            }
            .line();
            assert!(line.contains(with), "{line}");
            assert!(line.lines().skip(1).all(|line| line.starts_with('\t')), "{line}");
            let value = line.strip_prefix("Received:").unwrap();
            let Reading::From(hop) = Reading::of(value.as_bytes()) else { panic!("{line}") };
            assert_eq!(hop.ip, session.client_ip, "{line}");
        }
    }
}
