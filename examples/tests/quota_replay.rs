//! Each limit's edge, told in the files of `quota/` and played with `waypost quota --replay` (D10 to D13).

#![allow(clippy::unwrap_used, reason = "a test says what it means")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use support::waypost;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    requirements: Vec<String>,
    because: String,
    settings: String,
    #[serde(default)]
    limits: String,
    #[serde(default)]
    user_limits: Option<String>,
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at: f64,
    #[serde(default)]
    times: Option<u32>,
    #[serde(default)]
    every: f64,
    #[serde(default)]
    from: Option<String>,
    to: Vec<String>,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    helo: Option<String>,
    #[serde(default)]
    accepted: Option<bool>,
    replies: Vec<String>,
    #[serde(default)]
    mail: Option<String>,
    #[serde(default)]
    held: Vec<String>,
    #[serde(default)]
    let_go: Vec<String>,
}

impl Step {
    /// `%N` stands for N different recipients.
    fn recipients(&self) -> (Vec<String>, Vec<String>) {
        match self.to.as_slice() {
            [many] if many.starts_with('%') => {
                let count: usize = many[1..].parse().unwrap();
                let to = (0..count).map(|n| format!("many{n}@elsewhere.example")).collect();
                (to, vec![self.replies[0].clone(); count])
            }
            to => (to.to_vec(), self.replies.clone()),
        }
    }
}

fn configuration(case: &Case) -> String {
    let Case { settings, limits, user_limits, .. } = case;
    let own = user_limits.as_ref().map(|own| format!("limits = {own}\n")).unwrap_or_default();
    format!(
        "[server]\nhostname = \"mx.solarmora.example\"\nspool = \"spool\"\n\
         [[listener]]\nname = \"relay\"\nrole = \"relay\"\nbind = \"127.0.0.1:2587\"\n\
         [[organization]]\nname = \"Solarmora\"\ndomains = [\"solarmora.example\"]\n{settings}\n\
         [[organization.user]]\naddress = \"marie@solarmora.example\"\n\
         aliases = [\"m.paul@solarmora.example\"]\n{own}\
         [[organization.user]]\naddress = \"paul@solarmora.example\"\n\
         [[organization.relay]]\ndescription = \"inside\"\nallowed_senders = \"any\"\n\
         addresses = [{{ range = \"192.0.2.0/24\" }}, {{ range = \"2001:db8::/112\" }}]\nrequire_tls = false\n\
         [organization.limits]\n{limits}\n"
    )
}

#[test]
fn each_limits_edge_d10_d11_d12_d13() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quota");
    let mut seen = BTreeSet::new();
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    files.sort();
    for path in &files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let case: Case = toml::from_str(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        seen.extend(case.requirements.clone());
        let (mut input, mut wanted) = (String::new(), Vec::new());
        for (number, step) in case.step.iter().enumerate() {
            let (to, replies) = step.recipients();
            for time in 0..step.times.unwrap_or(1) {
                let question = json!({
                    "id": format!("step {number}, time {time}"),
                    "at": step.at + f64::from(time) * step.every,
                    "client_ip": step.client.as_deref().unwrap_or("192.0.2.1"),
                    "helo": step.helo.as_deref().unwrap_or("mail.solarmora.example"),
                    "auth": step.auth,
                    "tls": step.auth.is_some(),
                    "mail_from": step.from.as_deref().unwrap_or("marie@solarmora.example"),
                    "rcpt_to": to,
                    "accepted": step.accepted.unwrap_or(true),
                });
                input += &format!("{question}\n");
                wanted.push((question, step, replies.clone()));
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("waypost.toml");
        std::fs::write(&config, configuration(&case)).unwrap();
        let ran = waypost(&["quota", config.to_str().unwrap(), "--replay"], &input);
        assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        let answers = ran.json_lines();
        assert_eq!(answers.len(), wanted.len(), "{name}");
        for (answer, (question, step, replies)) in answers.iter().zip(&wanted) {
            let texts = |key: &str| -> Vec<String> {
                let all = answer[key].as_array().cloned().unwrap_or_default();
                let text = |one: &Value| match one.as_str() {
                    Some(text) => text.to_owned(),
                    None => {
                        let recipient = one["recipient"].as_str().unwrap();
                        format!("{recipient} at {}", one["at"].as_f64().unwrap())
                    }
                };
                all.iter().map(text).collect()
            };
            let about = format!("{name} ({}), {}: {answer}", case.because, question["id"]);
            assert_eq!(answer["mail"], step.mail.as_deref().unwrap_or("250"), "{about}");
            assert_eq!(&texts("rcpt"), replies, "{about}");
            assert_eq!(texts("held"), step.held, "{about}");
            assert_eq!(texts("let_go"), step.let_go, "{about}");
        }
    }
    assert!(files.len() >= 15, "{} files", files.len());
    for requirement in ["D10", "D11", "D12", "D13"] {
        assert!(seen.contains(requirement), "no file proves {requirement}");
    }
}

/// The page for administrators shows what the program says.
#[test]
fn the_page_of_limits_shows_what_is_said() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/LIMITS.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let block = |kind: &str| -> String {
        let (_, rest) = page.split_once(&format!("```{kind}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("waypost.toml");
    std::fs::write(&config, block("toml")).unwrap();
    let config = config.to_str().unwrap();
    let ran = waypost(&["quota", config, "--replay"], &block("jsonl in"));
    let shown = format!("```jsonl out\n{}```", block("jsonl out"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let new = format!("```jsonl out\n{}```", ran.stdout);
        std::fs::write(&path, page.replace(&shown, &new)).unwrap();
        return;
    }
    assert_eq!(ran.stdout, block("jsonl out"), "write it anew with UPDATE_GOLDENS=1");
    let checked = waypost(&["check", config], "");
    assert_eq!(checked.status, 0, "{}", checked.stdout);
}
