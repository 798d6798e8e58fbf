//! What a pipelining client has already said.

use waypost_types::Mailbox;

use super::super::command::{self, Command, ForwardPath, LONGEST_LINE};
use super::Server;

impl Server {
    /// The recipients, at most so many, of the RCPTs that wait right behind the command that is being
    /// asked about, up to the first other line or one that is not whole yet. Whoever must ask somebody
    /// far away about recipients may ask about these at once; each still comes as an
    /// [`Event::Rcpt`](super::super::Event::Rcpt) of its own, unless it is refused here. Costs reading
    /// them twice.
    #[must_use]
    pub fn recipients_ahead(&self, most: usize) -> Vec<Mailbox> {
        let mut found = Vec::new();
        let mut rest = self.pending.rest();
        while found.len() < most {
            let line = rest.get(..rest.len().min(LONGEST_LINE)).unwrap_or_default();
            let Some(end) = line.iter().position(|octet| *octet == b'\n') else { break };
            let Some(line) = line.get(..end).and_then(|line| line.strip_suffix(b"\r")) else {
                break;
            };
            match command::parse(line) {
                Ok(Command::Rcpt { path: ForwardPath::Mailbox(mailbox), .. }) => {
                    found.push(mailbox)
                }
                Ok(Command::Rcpt { path: ForwardPath::Postmaster, .. }) => {
                    found.push(Mailbox::postmaster(self.settings.hostname.clone()));
                }
                _ => break,
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waypost_types::Timestamp;

    use super::super::super::{Event, Settings};
    use super::*;

    #[test]
    fn recipients_that_wait_are_told_in_order_rfc_2920() {
        for (behind, most, want) in [
            (
                "RCPT TO:<b@b.example>\r\nrcpt to:<c@b.example>\r\nDATA\r\n",
                9,
                "b@b.example c@b.example",
            ),
            ("RCPT TO:<b@b.example>\r\nRCPT TO:<c@b.example>\r\n", 1, "b@b.example"),
            ("RCPT TO:<Postmaster>\r\nRCPT TO:<c@b.exa", 9, "postmaster@mx.example"),
            ("RSET\r\nRCPT TO:<c@b.example>\r\n", 9, ""),
            ("RCPT TO:<c@b.example>\nRCPT TO:<d@b.example>\r\n", 9, ""),
            ("RCPT TO:<>\r\nRCPT TO:<d@b.example>\r\n", 9, ""),
            ("", 9, ""),
        ] {
            let now = Timestamp::from_millis(0);
            let settings = Arc::new(Settings::new("mx.example".parse().unwrap()));
            let mut server = Server::new(settings, now);
            let begin = "EHLO a.example\r\nMAIL FROM:<m@m.example>\r\nRCPT TO:<a@b.example>\r\n";
            let _ = server.poll_event(now);
            server.accept(now);
            server.handle_bytes(now, format!("{begin}{behind}").as_bytes());
            let mut asked = 0;
            while let Some(event) = server.poll_event(now) {
                asked += 1;
                if let Event::Rcpt(first) = event {
                    assert_eq!(first.address.to_string(), "a@b.example");
                    let ahead = server.recipients_ahead(most);
                    let shown: Vec<_> = ahead.iter().map(ToString::to_string).collect();
                    assert_eq!(shown.join(" "), want, "{behind:?}");
                    break;
                }
                assert!(asked < 9);
                server.accept(now);
            }
        }
    }
}
