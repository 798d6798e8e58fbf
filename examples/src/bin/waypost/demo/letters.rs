//! The sample mail, and where each letter is to arrive.

use super::receivers::System;

/// The password of the demo's user.
pub(super) const PASSWORD: &str = "correct horse battery staple";

/// What the gateway in front of us wrote: who connected to it.
const ONE_HOP: &str = "Received: from mail.elsewhere.example (mail.elsewhere.example \
                       [203.0.113.5])\r\n\tby in.example with ESMTP id 1;\r\n\tTue, 24 Mar 2020 \
                       15:11:47 -0800\r\n";

/// The same with another listed gateway in between.
const TWO_HOPS: &str = "Received: from gw.example (gw.example [198.51.100.7]) by in.example with \
                        ESMTP id 1;\r\n\tTue, 24 Mar 2020 15:11:47 -0800\r\nReceived: from \
                        mail.elsewhere.example (mail.elsewhere.example [203.0.113.77])\r\n\tby \
                        gw.example with ESMTP id 2;\r\n\tTue, 24 Mar 2020 15:11:46 -0800\r\n";

/// Which of the gateway's ports a letter goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    Mx,
    Relay,
}

impl Listener {
    pub(super) fn name(self) -> &'static str {
        match self {
            Listener::Mx => "mx",
            Listener::Relay => "relay",
        }
    }
}

/// One place where a letter is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) system: System,
    pub(super) recipient: &'static str,
    /// A text that must stand in what arrives.
    pub(super) holding: &'static str,
}

/// One letter.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// The feature that it shows.
    pub(super) feature: &'static str,
    /// What it shows, in words; unique, as its mark is made of it.
    pub(super) shows: &'static str,
    pub(super) listener: Listener,
    pub(super) auth: Option<&'static str>,
    pub(super) from: &'static str,
    pub(super) to: Vec<&'static str>,
    /// Header lines above `From:` and the hops.
    pub(super) header: &'static str,
    /// The `Received:` lines that it comes with.
    pub(super) hops: &'static str,
    pub(super) body: &'static str,
    pub(super) expected: Vec<Expected>,
    /// How the reply to the first refused recipient begins.
    pub(super) refused: Option<&'static str>,
}

impl Letter {
    fn new(feature: &'static str, shows: &'static str, to: &[&'static str]) -> Self {
        Self {
            feature,
            shows,
            listener: Listener::Mx,
            auth: None,
            from: "customer@elsewhere.example",
            to: to.to_vec(),
            header: "",
            hops: ONE_HOP,
            body: "Hello,\r\nthis is a sample.\r\n",
            expected: Vec::new(),
            refused: None,
        }
    }

    fn relayed(mut self) -> Self {
        self.listener = Listener::Relay;
        self.hops = "";
        self.auth = Some("marie@solarmora.com");
        self.from = "marie@solarmora.com";
        self
    }

    fn arrives(mut self, system: System, recipient: &'static str, holding: &'static str) -> Self {
        self.expected.push(Expected { system, recipient, holding });
        self
    }

    fn refused(mut self, reply: &'static str) -> Self {
        self.refused = Some(reply);
        self
    }

    /// A text that stands in this letter only, and in notices about it.
    pub(super) fn mark(&self) -> String {
        let words: String =
            self.shows.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!("<{words}@demo.example>")
    }

    /// The message.
    pub(super) fn message(&self) -> String {
        format!(
            "{}{}From: <{}>\r\nTo: <{}>\r\nSubject: {}\r\nMessage-ID: {}\r\n\r\n{}",
            self.header,
            self.hops,
            self.from,
            self.to.first().unwrap_or(&""),
            self.shows,
            self.mark(),
            self.body
        )
    }
}

/// The letters, in the order of A to E.
pub(super) fn all() -> Vec<Letter> {
    use System::{Mailboxes, Second, SmartHost, Standby};
    vec![
        Letter::new("A", "primary host down, standby takes over", &["billing@solarmora.com"])
            .arrives(Standby, "billing@solarmora.com", ""),
        Letter {
            from: "marie@solarmora.com",
            ..Letter::new("A", "certificate for another name: bounced", &["legacy@solarmora.com"])
        }
        .arrives(Mailboxes, "marie@solarmora.com", "Content-Type: multipart/report"),
        Letter {
            body: ".one dot\r\ntrailing blanks  \r\n\t8 bits: é\r\n",
            ..Letter::new("B", "outbound through the smart host", &["a@elsewhere.example"])
        }
        .relayed()
        .arrives(
            SmartHost,
            "a@elsewhere.example",
            "\r\n.one dot\r\ntrailing blanks  \r\n\t8 bits: é\r\n",
        ),
        Letter::new("C", "split delivery, known user", &["m.paul@solarmora.com"]).arrives(
            Mailboxes,
            "m.paul@solarmora.com",
            "",
        ),
        Letter::new("C", "split delivery, unknown address", &["not-a-user@solarmora.com"]).arrives(
            Second,
            "not-a-user@solarmora.com",
            "",
        ),
        Letter::new("C", "dual delivery", &["paul@solarmora.com"])
            .arrives(Mailboxes, "paul@solarmora.com", "")
            .arrives(Second, "archive@solarmora.com", ""),
        Letter {
            auth: None,
            ..Letter::new("D", "relay without a password", &["b@elsewhere.example"]).relayed()
        }
        .refused("530 5.7.0"),
        Letter {
            from: "someone@elsewhere.example",
            ..Letter::new("D", "relay as somebody else", &["b@elsewhere.example"]).relayed()
        }
        .refused("550 5.7.1"),
        Letter::new(
            "D",
            "quota: room for three of four",
            &["c@else.example", "d@else.example", "e@else.example", "f@else.example"],
        )
        .relayed()
        .arrives(SmartHost, "c@else.example", "")
        .arrives(SmartHost, "d@else.example", "")
        .arrives(SmartHost, "e@else.example", "")
        .refused("450 4.2.1"),
        Letter {
            hops: TWO_HOPS,
            ..Letter::new("E", "source behind two gateways", &["marie@solarmora.com"])
        }
        .arrives(Mailboxes, "marie@solarmora.com", "203.0.113.77"),
        Letter {
            header: "X-spam-gw: spam\r\n",
            ..Letter::new("E", "tagged as spam by the gateway", &["marie@solarmora.com"])
        }
        .arrives(Mailboxes, "marie@solarmora.com", "X-Spam-Flag: YES\r\n"),
        Letter::new("E", "not for us: no open relay", &["g@elsewhere.example"])
            .refused("550 5.7.1"),
    ]
}
