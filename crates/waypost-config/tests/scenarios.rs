//! Each file in `testdata/scenarios`: given a configuration, when a message comes, then the decision,
//! because of a requirement. The form of the files is told in `testdata/scenarios/README.md`.
#![allow(clippy::disallowed_methods, reason = "the scenarios are files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it means"
)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use waypost_auth::{Authentication, Dkim, Dmarc, DmarcResult, Question, Spf};
use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::policy::{
    Answers, DecidedDelivery, DryRun, FilterAnswer, FilterSaid, Known, Mark, Policy,
};
use waypost_config::raw::{self, RawConfig};
use waypost_config::run_expectations;
use waypost_milter::{FieldName, FieldValue, FilterAction, FilterVerdict, HeaderEdit};
use waypost_types::{
    Account, Destination, Directory, HeaderBlock, ListenerRole, Mailbox, Recipient, Reply, Session,
    TlsDemand, TlsState, Unavailable,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    requirements: Vec<String>,
    because: String,
    given: Vec<String>,
    #[serde(default)]
    settings: String,
    #[serde(default)]
    and: String,
    #[serde(default)]
    directory_is_down_for: Vec<String>,
    when: Option<When>,
    then: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    #[serde(default = "client")]
    client_ip: String,
    listener: Option<String>,
    #[serde(default)]
    helo: Option<String>,
    auth: Option<String>,
    #[serde(default)]
    tls: bool,
    mail_from: String,
    rcpt_to: Vec<String>,
    #[serde(default)]
    header: Vec<String>,
    /// The lines of the body; `Hello` where nothing is said.
    #[serde(default = "hello")]
    body: Vec<String>,
    /// What SPF says, whatever it is asked about; absent, with no `dkim` either: no DNS is asked.
    spf: Option<String>,
    /// What the filter says; absent: none is asked.
    filter: Option<Filter>,
    /// What DKIM signatures say: `[["pass", "solarmora.com"]]`.
    dkim: Option<Vec<(String, String)>>,
    /// Transactions of ours that the message was in before: it bears their trace lines, newest first.
    #[serde(default)]
    sent_before: Vec<Sent>,
    /// Header lines that stand so many times on top: `["Received: …", 51]`.
    repeated: Option<(String, usize)>,
}

/// What a filter says: it takes the message unless a key says otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// The source that it was told; absent: the client.
    source: Option<String>,
    /// It refuses with this reply.
    reply: Option<String>,
    quarantine: Option<String>,
    #[serde(default)]
    discard: bool,
    /// It does not answer, for this reason.
    nothing: Option<String>,
    /// `[["X-Spam", "Yes"]]`
    #[serde(default)]
    adds: Vec<(String, String)>,
    /// `[["Subject", 1, "[SPAM] Hello"]]`
    #[serde(default)]
    changes: Vec<(String, u32, String)>,
    /// `[["Subject", 1]]`
    #[serde(default)]
    deletes: Vec<(String, u32)>,
}

impl Filter {
    fn answer(&self, client_ip: &str) -> FilterAnswer {
        let source = Some(self.source.as_deref().unwrap_or(client_ip).parse().unwrap());
        if let Some(because) = &self.nothing {
            return FilterAnswer { source, said: FilterSaid::Nothing(because.as_str().into()) };
        }
        let action = match (&self.reply, &self.quarantine, self.discard) {
            (Some(reply), None, false) => {
                let reply = replied(reply);
                match reply.code() {
                    ..500 => FilterAction::TempFail(reply),
                    _ => FilterAction::Reject(reply),
                }
            }
            (None, Some(reason), false) => FilterAction::Quarantine(reason.as_str().into()),
            (None, None, true) => FilterAction::Discard,
            (None, None, false) => FilterAction::Accept,
            _ => panic!("one answer at a time"),
        };
        let name = |name: &String| FieldName::new(name).unwrap();
        let value = |value: &String| FieldValue::new(value).unwrap();
        let adds =
            self.adds.iter().map(|(n, text)| HeaderEdit::Add { name: name(n), value: value(text) });
        let changes = self.changes.iter().map(|(n, nth, text)| HeaderEdit::Change {
            name: name(n),
            nth: *nth,
            value: value(text),
        });
        let deletes =
            self.deletes.iter().map(|(n, nth)| HeaderEdit::Delete { name: name(n), nth: *nth });
        let mut verdict = FilterVerdict::new(action, "end of message");
        verdict.headers = adds.chain(changes).chain(deletes).collect();
        FilterAnswer { source, said: FilterSaid::Verdict(verdict) }
    }
}

/// `550 5.7.1 text`
fn replied(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap();
    let (enhanced, words) = rest.split_once(' ').unwrap_or((rest, ""));
    let parts: Vec<u8> = enhanced.split('.').map_while(|part| part.parse().ok()).collect();
    match parts.as_slice() {
        [class, subject, detail] => {
            let enhanced = (*class, u16::from(*subject), u16::from(*detail));
            Reply::new(code.parse().unwrap(), enhanced, words)
        }
        _ => Reply::plain(code.parse().unwrap(), rest),
    }
}

fn hello() -> Vec<String> {
    vec!["Hello".to_owned()]
}

/// A message that was sent on, in one transaction with what all its recipients were owed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    from: Option<String>,
    to: Vec<String>,
    client_ip: Option<String>,
    /// Only what took this route.
    route: Option<String>,
}

fn client() -> String {
    "203.0.113.1".to_owned()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/scenarios")
}

/// A directory that does not answer for some addresses.
struct PartlyDown {
    inner: Arc<dyn Directory>,
    down: Vec<Mailbox>,
}

impl PartlyDown {
    fn up(&self, address: &Mailbox) -> Result<(), Unavailable> {
        match self.down.contains(address) {
            true => Err(Unavailable { because: format!("no answer for {address}") }),
            false => Ok(()),
        }
    }
}

impl Directory for PartlyDown {
    fn account(&self, address: &Mailbox) -> Result<Account, Unavailable> {
        self.up(address).and_then(|()| self.inner.account(address))
    }

    fn is_member(&self, address: &Mailbox, group: &Mailbox) -> Result<bool, Unavailable> {
        self.up(address).and_then(|()| self.inner.is_member(address, group))
    }

    fn for_each_group(
        &self,
        address: &Mailbox,
        each: &mut dyn FnMut(&Mailbox),
    ) -> Result<(), Unavailable> {
        self.up(address).and_then(|()| self.inner.for_each_group(address, each))
    }

    fn members(&self, group: &Mailbox) -> Result<Vec<Mailbox>, Unavailable> {
        self.up(group).and_then(|()| self.inner.members(group))
    }
}

impl Scenario {
    fn policy(&self) -> (Option<Policy>, RawConfig, Report) {
        let mut text = String::new();
        for part in &self.given {
            let path = folder().join("given").join(format!("{part}.toml"));
            let part = std::fs::read_to_string(&path);
            text.push_str(&part.unwrap_or_else(|error| panic!("{path:?}: {error}")));
        }
        let text = text.replacen("# settings", &self.settings, 1) + &self.and;
        let (config, mut report) = raw::read(SourceFile::new("given", text), Vec::new())
            .unwrap_or_else(|not_toml| panic!("{}", not_toml.report.render(false)));
        let files: HashMap<String, Vec<u8>> =
            [("mx.pem".to_owned(), vec![]), ("mx.key".to_owned(), vec![])].into();
        let compiled = waypost_config::compile(&config, &files, &mut report);
        let policy = compiled.map(|mut compiled| {
            let down: Vec<Mailbox> =
                self.directory_is_down_for.iter().map(|one| one.parse().unwrap()).collect();
            for organization in &mut compiled.organizations {
                let inner = Arc::clone(&organization.directory);
                organization.directory = Arc::new(PartlyDown { inner, down: down.clone() });
            }
            compiled.into_policy("1")
        });
        (policy, config, report)
    }

    /// Whether it shows that something is refused: a configuration, one whose own tests fail, a
    /// command, or a recipient.
    fn refuses(&self) -> bool {
        let then = &self.then;
        let refusing =
            |reply: &Value| reply.as_str().is_some_and(|text| text.starts_with(['4', '5']));
        let items = |key: &str| then.get(key).and_then(Value::as_array).into_iter().flatten();
        then.contains_key("configuration_refused")
            || items("expect").any(|test| test["ok"] == false)
            || items("refusals").next().is_some()
            || ["mail", "data"].iter().filter_map(|key| then.get(*key)).any(refusing)
            || items("rcpt").any(refusing)
    }

    /// What does not hold.
    fn faults(&self) -> Vec<String> {
        let (policy, config, report) = self.policy();
        let mut then = self.then.clone();
        let mut faults = Vec::new();
        for (key, refused) in [("configuration_refused", true), ("configuration_warns", false)] {
            let Some(wanted) = then.remove(key) else { continue };
            let shown = report.render(false);
            if policy.is_none() != refused || !shown.contains(wanted.as_str().unwrap()) {
                faults.push(format!("{key} {wanted}, but the report is:\n{shown}"));
            }
            if refused {
                return faults;
            }
        }
        let Some(policy) = policy else {
            return vec![format!("the configuration is refused:\n{}", report.render(false))];
        };
        if let Some(wanted) = then.remove("expect") {
            let tested = run_expectations(&policy, &config).into_iter().map(|tested| {
                serde_json::json!({
                    "description": tested.description,
                    "ok": tested.passed,
                    "expected": tested.expected,
                    "came": tested.came,
                })
            });
            compare("expect", &wanted, &tested.collect(), &mut faults);
        }
        let Some(when) = &self.when else {
            assert!(then.is_empty(), "no `when`");
            return faults;
        };
        let explanation = when.tried(&policy);
        let got = serde_json::to_value(&explanation).unwrap();
        for (key, wanted) in &then {
            match key.as_str() {
                "mail" | "rcpt" | "data" => {
                    compare(key, wanted, &got["replies"][key], &mut faults);
                }
                "released" => compare(key, wanted, &when.released(&policy), &mut faults),
                "rules" => some(wanted, &got["rules"], &mut faults),
                "looked_at" => {
                    let names = got["rules"].as_array().unwrap().iter();
                    let names = names.map(|looked| looked["rule"].clone()).collect();
                    compare(key, wanted, &Value::Array(names), &mut faults);
                }
                _ => compare(key, wanted, &got[key], &mut faults),
            }
        }
        if !faults.is_empty() {
            faults.push(serde_json::to_string_pretty(&got).unwrap());
        }
        faults
    }
}

impl When {
    fn tried(&self, policy: &Policy) -> waypost_config::policy::Explanation {
        let mut message = String::new();
        if let Some((line, times)) = &self.repeated {
            message.push_str(&format!("{line}\r\n").repeat(*times));
        }
        for sent in &self.sent_before {
            message.push_str(&self.trace(policy, sent));
        }
        for line in &self.header {
            message.push_str(line);
            message.push_str("\r\n");
        }
        message.push_str("\r\n");
        for line in &self.body {
            message.push_str(line);
            message.push_str("\r\n");
        }
        let run = DryRun {
            client_ip: self.client_ip.parse().unwrap(),
            listener: self.listener.as_deref(),
            helo: self.helo.as_deref(),
            auth: self.auth.as_deref(),
            tls: if self.tls { TlsState::Encrypted } else { TlsState::Clear },
            mail_from: &self.mail_from,
            rcpt_to: self.rcpt_to.iter().map(String::as_str).collect(),
            message: message.as_bytes(),
        };
        let filter = self.filter.as_ref().map(|filter| filter.answer(&self.client_ip));
        let dns = |question: &Question| self.answer(question);
        let known = Known {
            dns: (self.spf.is_some() || self.dkim.is_some()).then_some(Answers::Asked(&dns)),
            filter: filter.as_slice(),
        };
        policy.explain_knowing(&run, known).unwrap()
    }

    /// What a release of all that is quarantined would deliver, in order; the client is an MX one.
    fn released(&self, policy: &Policy) -> Value {
        let session = Session {
            client_ip: self.client_ip.parse().unwrap(),
            role: ListenerRole::Mx,
            helo: None,
            auth: None,
            tls: TlsState::Clear,
        };
        let sender = self.mail_from.parse().unwrap();
        let Ok(transaction) = policy.at_mail(&session, &sender) else { return Value::Null };
        let recipients: Vec<Recipient> =
            self.rcpt_to.iter().map(|to| to.parse::<Mailbox>().unwrap().into()).collect();
        let message = self.header.join("\r\n");
        let header = HeaderBlock::of(message.as_bytes());
        let decision = policy.at_data(&transaction, &recipients, &header);
        let kept = decision.quarantined.iter().flat_map(|kept| &kept.deliveries).map(|one| {
            serde_json::json!({
                "recipient": one.delivery.recipient.to_string(),
                "destination": one.delivery.destination.to_string(),
                "tls": one.delivery.tls == TlsDemand::Required,
                "because": one.because,
            })
        });
        kept.collect()
    }

    /// The trace line that the message got when it was sent on.
    fn trace(&self, policy: &Policy, sent: &Sent) -> String {
        let listeners = &policy.server.listeners;
        let listener = self.listener.as_deref().unwrap_or("mx");
        let session = Session {
            client_ip: sent.client_ip.as_ref().unwrap_or(&self.client_ip).parse().unwrap(),
            role: listeners.iter().find(|one| &*one.name == listener).unwrap().role,
            helo: None,
            auth: None,
            tls: TlsState::Clear,
        };
        let sender = sent.from.as_ref().unwrap_or(&self.mail_from).parse().unwrap();
        let transaction = policy.at_mail(&session, &sender).unwrap();
        let to: Vec<Recipient> =
            sent.to.iter().map(|to| to.parse::<Mailbox>().unwrap().into()).collect();
        let header = self.header.join("\r\n");
        let header = HeaderBlock::of(header.as_bytes());
        let decision = policy.at_data(&transaction, &to, &header);
        assert!(!decision.deliveries.is_empty(), "{decision:?}");
        let took = |one: &&DecidedDelivery| match (&sent.route, &one.delivery.destination) {
            (Some(wanted), Destination::Route { route, .. }) => wanted == route.as_str(),
            (wanted, _) => wanted.is_none(),
        };
        let marks =
            decision.deliveries.iter().filter(took).flat_map(|one| &one.marks).map(|one| one.mark);
        let comment = Mark::comment(marks).map(|comment| format!("\r\n\t{comment}"));
        let comment = comment.unwrap_or_default();
        format!("Received: from a ([192.0.2.9])\r\n\tby mx.solarmora.com{comment}; date\r\n")
    }

    fn answer(&self, question: &Question) -> Authentication {
        let (identity, domain) = question.identity();
        let spf = word(self.spf.as_deref().unwrap_or("none"));
        let dkim = self.dkim.iter().flatten().map(|(result, domain)| Dkim {
            result: word(result),
            domain: domain.as_str().into(),
            selector: "s".into(),
            because: "".into(),
        });
        Authentication {
            checked: question.checked,
            spf: Spf::new(spf, identity, domain.as_ref().map(|domain| domain.as_str())),
            dkim: dkim.collect(),
            dmarc: Dmarc::new(DmarcResult::None, None),
        }
    }
}

/// A result by its registered word.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(Value::from(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Compares what is wanted with what came: keys that are not given are not looked at, lists are
/// complete and in order, `none` is null, replies need only begin so, reasons need only hold it.
fn compare(at: &str, wanted: &Value, got: &Value, faults: &mut Vec<String>) {
    let key = at.rsplit(['.', '[']).find(|part| !part.ends_with(']')).unwrap_or(at);
    let holds = match (wanted, got) {
        (Value::Object(keys), Value::Object(found)) => {
            for (key, wanted) in keys {
                match found.get(key) {
                    Some(got) => compare(&format!("{at}.{key}"), wanted, got, faults),
                    None => faults.push(format!("{at}.{key} does not exist")),
                }
            }
            true
        }
        (Value::Array(items), Value::Array(found)) if items.len() == found.len() => {
            for (place, (wanted, got)) in items.iter().zip(found).enumerate() {
                compare(&format!("{at}[{place}]"), wanted, got, faults);
            }
            true
        }
        (Value::String(wanted), Value::Null) => wanted == "none",
        (Value::String(wanted), Value::String(got)) => match key {
            "mail" | "rcpt" | "data" | "reply" | "came" => got.starts_with(wanted),
            "failed" | "reason" | "warnings" => got.contains(wanted),
            "because" if at.starts_with("refusals") => got.contains(wanted),
            _ => wanted == got,
        },
        (wanted, got) => wanted == got,
    };
    if !holds {
        faults.push(format!("{at}: wanted {wanted}, got {got}"));
    }
}

/// Each wanted report is among those that came.
fn some(wanted: &Value, got: &Value, faults: &mut Vec<String>) {
    for wanted in wanted.as_array().unwrap() {
        let found = got.as_array().unwrap().iter().any(|got| {
            let mut none = Vec::new();
            compare("rules", wanted, got, &mut none);
            none.is_empty()
        });
        if !found {
            faults.push(format!("rules: no {wanted}"));
        }
    }
}

/// What the decision itself is about: each of these has at least three scenarios, one of which
/// shows that something is refused.
const PROVED: [&str; 12] = ["C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "O6", "O7", "O8"];

/// How many scenarios each requirement and each paragraph of readings has at least.
const COVERED: [(&str, usize); 31] = [
    ("A11", 2),
    ("B1", 2),
    ("B2", 2),
    ("B3", 2),
    ("D2", 2),
    ("D3", 2),
    ("D4", 1),
    ("D5", 1),
    ("D6", 1),
    ("D7", 2),
    ("D8", 2),
    ("D9", 2),
    ("D14", 1),
    ("D16", 10),
    ("D17", 1),
    ("E1", 1),
    ("E2", 1),
    ("E3", 1),
    ("E4", 2),
    ("E5", 2),
    ("E7", 2),
    ("E8", 2),
    ("E9", 2),
    ("E10", 1),
    ("E11", 1),
    ("O3", 1),
    ("reading: rules", 10),
    ("reading: spam", 5),
    ("reading: organizations", 3),
    ("reading: relay", 5),
    ("reading: gateway", 2),
];

#[test]
fn every_scenario_ends_as_told() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "scenario"))
        .collect();
    files.sort();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut refusing: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for path in &files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let scenario: Scenario =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!scenario.because.is_empty() && !scenario.requirements.is_empty(), "{name}");
        for requirement in &scenario.requirements {
            *counts.entry(requirement.clone()).or_default() += 1;
            *refusing.entry(requirement.clone()).or_default() += usize::from(scenario.refuses());
        }
        let faults = scenario.faults();
        if !faults.is_empty() {
            wrong.push(format!("{name}: {}\n{}", scenario.because, faults.join("\n")));
        }
    }
    let shown = counts.iter().map(|(id, count)| format!("{id}: {count} ({})", refusing[id]));
    let shown: Vec<_> = shown.collect();
    println!("{} scenarios (those that refuse); {}", files.len(), shown.join(", "));
    for requirement in PROVED {
        let count = |of: &BTreeMap<String, usize>| of.get(requirement).copied().unwrap_or_default();
        if count(&counts) < 3 || count(&refusing) < 1 {
            let (all, refuse) = (count(&counts), count(&refusing));
            wrong.push(format!(
                "{requirement} has {all} scenarios, {refuse} of which refuse; 3 and 1 are asked for"
            ));
        }
    }
    for (requirement, least) in COVERED {
        let count = counts.get(requirement).copied().unwrap_or_default();
        if count < least {
            wrong.push(format!("{requirement} has {count} scenarios, not {least}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), files.len(), wrong.join("\n\n"));
}
