//! The tests that a configuration holds of itself (O7).
//!
//! **In:** a compiled [`Policy`] and the `[[expect]]` tables beside it. **Out:** for each table
//! whether what it expects comes, and what came. **Bounds:** a test costs what
//! [`Policy::explain`] does for one recipient. **Errors:** none: a test that cannot be played fails
//! and says why. **Source:** O7. **Not here:** whether a table names what exists, which
//! [`compile`](crate::compile) tells.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use waypost_types::{HeaderBlock, TlsState};

use crate::diagnostics::{Place, Spanned};
use crate::policy::{
    DryRun, ExplainedDelivery, Explanation, FilterAnswer, FilterSaid, Known, Policy,
};
use crate::raw::{FilterSays, RawConfig, RawExpect, Via};

/// The client of a test that names none: a documentation address, which counts as public (E6).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// What one `[[expect]]` table found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// What it proves, as it says itself.
    pub description: Box<str>,
    /// The table.
    pub place: Place,
    /// Whether what it expects came.
    pub passed: bool,
    /// What it expects: `route "exchange"`.
    pub expected: String,
    /// What came: `mailbox`, or `reply 550 5.1.1 …`.
    pub came: String,
}

/// Plays every `[[expect]]` table of a configuration, in file order.
///
/// A test is one transaction with one recipient, in a live session. `From:` is the envelope sender
/// unless `header` has that field. With `auth` the session is inside TLS unless `tls` is written,
/// since AUTH is not taken in clear text (D6); whether the user has a password is not looked at.
///
/// `route` and `via` hold for any of the deliveries, copies included; `reply` is what the client
/// gets in the end, and the text need only begin so; `quarantine` is the name of the one that keeps
/// the message.
#[must_use]
pub fn run_expectations(policy: &Policy, config: &RawConfig) -> Vec<Tested> {
    config.expect.iter().filter_map(|test| tested(policy, test)).collect()
}

fn tested(policy: &Policy, test: &Spanned<RawExpect>) -> Option<Tested> {
    let expected = Expected::of(test)?;
    let (passed, came) = match explain(policy, test)? {
        Ok(explanation) => (expected.came(&explanation), came(&explanation)),
        Err(because) => (false, because),
    };
    Some(Tested {
        description: test.description.as_ref()?.as_str().into(),
        place: test.place,
        passed,
        expected: expected.to_string(),
        came,
    })
}

fn explain(policy: &Policy, test: &Spanned<RawExpect>) -> Option<Result<Explanation, String>> {
    let from = test.from.as_ref()?.to_string();
    let to = test.to.as_ref()?.to_string();
    let auth = test.auth.as_ref().map(|user| user.to_string());
    let tls_unwritten = test.tls.place == test.place;
    let encrypted = test.tls.value || (auth.is_some() && tls_unwritten);
    let message = message(&from, test.header.as_ref().map(|header| header.as_str()));
    let run = DryRun {
        client_ip: test.client_ip.as_ref().map_or(CLIENT, |ip| ip.value),
        listener: test.listener.as_ref().map(|name| name.as_str()),
        helo: test.helo.as_ref().map(|helo| helo.as_str()),
        auth: auth.as_deref(),
        tls: if encrypted { TlsState::Encrypted } else { TlsState::Clear },
        mail_from: &from,
        rcpt_to: vec![&to],
        message: message.as_bytes(),
    };
    let said = test.filter.as_ref().map(|says| {
        let because = "supposed by the test".into();
        FilterAnswer::supposed(match says.value {
            FilterSays::Spam => FilterSaid::Spam(because),
            FilterSays::Malware => FilterSaid::Malware(because),
        })
    });
    let known = Known { filter: said.as_slice(), ..Known::default() };
    Some(
        policy
            .explain_briefly(&run, known)
            .map_err(|error| format!("the test cannot be played: {error}")),
    )
}

/// The header of the message that a test sends.
fn message(from: &str, header: Option<&str>) -> String {
    let mut message = header.unwrap_or("").trim_end().to_owned();
    let has_from = HeaderBlock::of(message.as_bytes()).first("From").is_some();
    if !message.is_empty() {
        message.push_str("\r\n");
    }
    if !has_from && !matches!(from, "" | "<>") {
        // Writing to a String cannot fail.
        let _ = write!(message, "From: {from}\r\n");
    }
    message.push_str("\r\n");
    message
}

/// What a test expects; the first that is written, since the checks allow one only.
enum Expected<'a> {
    Route(&'a str),
    Via(&'static str),
    Reply(&'a str),
    Quarantine(&'a str),
}

impl<'a> Expected<'a> {
    fn of(test: &'a RawExpect) -> Option<Self> {
        if let Some(route) = &test.route {
            return Some(Self::Route(route.as_str()));
        }
        if let Some(via) = &test.via {
            return Some(Self::Via(match via.value {
                Via::Mailbox => "mailbox",
                Via::Mx => "mx",
                Via::Gateway => "gateway",
            }));
        }
        if let Some(reply) = &test.reply {
            return Some(Self::Reply(reply.as_str()));
        }
        test.quarantine.as_ref().map(|name| Self::Quarantine(name.as_str()))
    }

    fn came(&self, explanation: &Explanation) -> bool {
        // Copies of what is relayed are beside the point: they say nothing about the way of the mail.
        let deliveries = || explanation.deliveries.iter().filter(|one| !one.is_relay_copy());
        let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
        match self {
            Self::Route(name) => {
                deliveries().any(|one| one.route.as_deref().is_some_and(|route| same(route, name)))
            }
            Self::Via(via) => deliveries().any(|one| one.via == *via),
            Self::Reply(start) => last_reply(explanation).starts_with(start),
            Self::Quarantine(name) => {
                explanation.quarantined.iter().any(|kept| same(&kept.quarantine, name))
            }
        }
    }
}

impl std::fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Route(name) => write!(f, "route \"{name}\""),
            Self::Via(via) => f.write_str(via),
            Self::Reply(start) => write!(f, "reply {start}"),
            Self::Quarantine(name) => write!(f, "quarantine \"{name}\""),
        }
    }
}

/// What the client is told in the end: the first refusal, else the answer to the message.
fn last_reply(explanation: &Explanation) -> &str {
    let replies = &explanation.replies;
    let all = std::iter::once(&replies.mail).chain(&replies.rcpt).chain(&replies.data);
    let refusal = all.clone().find(|reply| !reply.starts_with('2'));
    refusal.or(all.last()).map_or("", String::as_str)
}

fn came(explanation: &Explanation) -> String {
    let kept = explanation.quarantined.iter();
    let kept = kept.map(|kept| format!("quarantine \"{}\"", kept.quarantine));
    let sent = explanation.deliveries.iter().filter(|one| !one.is_relay_copy());
    let came: Vec<String> = sent.map(way).chain(kept).collect();
    if came.is_empty() {
        return format!("reply {}", last_reply(explanation));
    }
    came.join(" and ")
}

fn way(delivery: &ExplainedDelivery) -> String {
    let way = match &delivery.route {
        Some(route) => format!("{} \"{route}\"", delivery.via),
        None => delivery.via.to_string(),
    };
    if delivery.recipient == delivery.original_recipient {
        way
    } else {
        format!("{way} for {}", delivery.recipient)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::diagnostics::SourceFile;
    use crate::{compile, raw};

    const CONFIGURATION: &str = r#"
[server]
hostname = "mx.solarmora.com"
spool = "spool"

[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:2525"

[[listener]]
name = "relay"
role = "relay"
bind = "127.0.0.1:2587"
tls = { certificate = "mx.pem", key = "mx.key" }

[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 10

[[organization.user]]
address = "marie@solarmora.com"

[[organization.route]]
name = "Exchange"
host = "exchange.corp.example"

[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = { modify = { route = "Exchange" } }

[[organization.rule]]
description = "Keep"
affects = ["inbound"]
envelope = { senders = [{ address = "odd@elsewhere.example" }] }
then = { quarantine = "odd" }

[[organization.rule]]
description = "No"
affects = ["inbound"]
envelope = { senders = [{ address = "bad@elsewhere.example" }] }
then = { reject = "Go away" }

[[organization.relay]]
description = "Users"
allowed_senders = "registered-users"
require_auth = true
require_tls = true
"#;

    /// Plays one test whose envelope and outcome are these lines.
    fn played(lines: &str) -> Tested {
        let text = format!("{CONFIGURATION}\n[[expect]]\ndescription = \"x\"\n{lines}\n");
        let files: HashMap<String, Vec<u8>> =
            ["mx.pem", "mx.key"].map(|name| (name.to_owned(), Vec::new())).into();
        let main = SourceFile::new("waypost.toml", text);
        let (config, mut report) = raw::read(main, Vec::new()).unwrap();
        let compiled = compile(&config, &files, &mut report);
        let compiled = compiled.unwrap_or_else(|| panic!("{}", report.render(false)));
        let mut tested = run_expectations(&compiled.into_policy("1"), &config);
        assert_eq!(tested.len(), 1);
        tested.remove(0)
    }

    #[test]
    fn each_outcome_passes_when_it_comes_o7() {
        for (lines, passed, expected, came) in [
            (
                "from = \"a@b.example\"\nto = \"nobody@solarmora.com\"\nroute = \"exchange\"",
                true,
                "route \"exchange\"",
                "route \"Exchange\"",
            ),
            (
                "from = \"a@b.example\"\nto = \"marie@solarmora.com\"\nroute = \"Exchange\"",
                false,
                "route \"Exchange\"",
                "mailbox",
            ),
            (
                "from = \"a@b.example\"\nto = \"marie@solarmora.com\"\nvia = \"mailbox\"",
                true,
                "mailbox",
                "mailbox",
            ),
            (
                "from = \"odd@elsewhere.example\"\nto = \"marie@solarmora.com\"\nquarantine = \"odd\"",
                true,
                "quarantine \"odd\"",
                "quarantine \"odd\"",
            ),
            (
                "from = \"bad@elsewhere.example\"\nto = \"marie@solarmora.com\"\nreply = \"550\"",
                true,
                "reply 550",
                "reply 550 5.7.1 Go away",
            ),
            (
                "from = \"a@b.example\"\nto = \"marie@solarmora.com\"\nreply = \"250\"",
                true,
                "reply 250",
                "mailbox",
            ),
        ] {
            let tested = played(lines);
            assert_eq!(tested.passed, passed, "{lines}: {tested:?}");
            assert_eq!(tested.expected, expected, "{lines}");
            assert_eq!(tested.came, came, "{lines}");
        }
    }

    #[test]
    fn the_from_field_is_the_envelope_sender_unless_it_is_written_o7() {
        // An unknown recipient of internal mail: no rule routes it.
        let to = "to = \"nobody@solarmora.com\"\nreply = \"550 5.1.1\"";
        for (lines, passed) in [
            ("from = \"marie@solarmora.com\"\n", true),
            ("from = \"a@b.example\"\n", false),
            ("from = \"a@b.example\"\nheader = \"From: marie@solarmora.com\"\n", true),
            ("from = \"marie@solarmora.com\"\nheader = \"From: a@b.example\"\n", false),
            ("from = \"marie@solarmora.com\"\nheader = \"X-A: 1\\n\"\n", true),
        ] {
            assert_eq!(played(&format!("{lines}{to}")).passed, passed, "{lines}");
        }
    }

    #[test]
    fn authentication_brings_the_relay_listener_and_tls_o7_d6() {
        let mail = "from = \"marie@solarmora.com\"\nto = \"a@b.example\"\n";
        for (lines, passed) in [
            ("auth = \"marie@solarmora.com\"\nvia = \"mx\"", true),
            ("auth = \"marie@solarmora.com\"\ntls = false\nreply = \"530 5.7.0\"", true),
            ("listener = \"relay\"\ntls = true\nreply = \"530\"", true),
            ("via = \"mx\"", false),
        ] {
            let tested = played(&format!("{mail}{lines}"));
            assert_eq!(tested.passed, passed, "{lines}: {tested:?}");
        }
    }
}
