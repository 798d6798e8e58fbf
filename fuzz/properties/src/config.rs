//! Configuration texts.

use std::collections::BTreeSet;

use waypost_config::diagnostics::{CATALOGUE, Report, Severity, SourceFile};
use waypost_config::policy::{DryRun, Policy};
use waypost_config::raw::{self, RawConfig};
use waypost_config::{Files, compile, run_expectations};
use waypost_types::TlsState;

/// Any text, read and compiled as a configuration; form feeds part the main file from one that it
/// includes, and that from what every file holds that they name.
///
/// Nothing panics. Whatever is found wrong stands inside its file, on character boundaries, has an id of
/// the list and says message, rule and cure, in both forms of the report; reading again finds the
/// same. What has no error compiles, and plays its tests. A key that nobody knows neither hides nor
/// brings an error of another line, but for those that say that its table lacks something.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\x0c');
    let main = parts.next().unwrap_or_default();
    let included = parts.next().map(|text| SourceFile::new("more.toml", text));
    let files = Named(parts.next());
    let read = |main: &str| read(main, included.as_ref(), &files);

    let (config, policy, report) = read(main);
    each_has_its_place(&report);
    let shown = report.render(false);
    assert_eq!(read(main).2.render(false), shown);
    assert_eq!(shown.is_empty(), report.diagnostics().is_empty());
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
    assert!(report.render(true).len() >= shown.len());
    let Some(config) = config else { return };
    assert_eq!(policy.is_none(), report.has_errors(), "{shown}");
    if let Some(policy) = policy {
        plays(&policy, &config);
    }
    if let Some((line, without)) = without_unknown(main, &report) {
        let (before, after) = (errors(&report, Some(line)), errors(&read(&without).2, None));
        let gone: Vec<_> = before.difference(&after).collect();
        assert!(gone.is_empty(), "an unknown key brings {gone:?}");
    }
}

/// What every file holds that a configuration names, if it can be read.
struct Named<'a>(Option<&'a str>);

impl Files for Named<'_> {
    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        self.0
            .map(|text| text.as_bytes().to_vec())
            .ok_or_else(|| "there is no such file".to_owned())
    }
}

fn read(
    main: &str,
    included: Option<&SourceFile>,
    files: &Named<'_>,
) -> (Option<RawConfig>, Option<Policy>, Report) {
    let main = SourceFile::new("waypost.toml", main);
    match raw::read(main, included.cloned().into_iter().collect()) {
        Ok((config, mut report)) => {
            let compiled = compile(&config, files, &mut report);
            let policy = compiled.map(|compiled| compiled.into_policy("1"));
            (Some(config), policy, report)
        }
        Err(not_toml) => {
            assert!(not_toml.report.has_errors(), "not TOML, and nothing said");
            assert!(!not_toml.to_string().is_empty());
            (None, None, not_toml.report)
        }
    }
}

fn each_has_its_place(report: &Report) {
    for found in report.diagnostics() {
        let file = usize::try_from(found.place.file).unwrap();
        let source = &report.sources()[file];
        let place =
            usize::try_from(found.place.start).unwrap()..usize::try_from(found.place.end).unwrap();
        assert!(source.text.get(place.clone()).is_some(), "{place:?} is no text: {found:?}");
        let words = [found.id, found.message.as_str(), found.rule, found.cure.as_str()];
        assert!(words.iter().all(|text| !text.is_empty()), "{found:?}");
        assert!(CATALOGUE.iter().any(|known| known.id == found.id), "{} is not listed", found.id);
    }
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    let list = json.as_array().unwrap();
    assert_eq!(list.len(), report.diagnostics().len());
    for one in list {
        assert!(one["line"].as_u64() > Some(0) && one["column"].as_u64() > Some(0), "{one}");
        assert!(one["id"].is_string() && one["file"].is_string(), "{one}");
    }
}

fn plays(policy: &Policy, config: &RawConfig) {
    for tested in run_expectations(policy, config) {
        assert!(!tested.came.is_empty() || !tested.passed, "{tested:?}");
    }
    for organization in policy.organizations().iter().take(2) {
        for domain in organization.domains.iter().take(2) {
            let to = format!("marie@{domain}");
            let run = DryRun {
                client_ip: [203, 0, 113, 1].into(),
                listener: None,
                helo: None,
                auth: None,
                tls: TlsState::Clear,
                mail_from: "a@b.example",
                rcpt_to: vec![&to],
                message: b"Received: (waypost-mark 0123456789abcdef)\r\nFrom: a@b.example\r\n\r\n",
            };
            if let Ok(explanation) = policy.explain(&run) {
                assert_eq!(explanation.replies.rcpt.len(), 1);
            }
        }
    }
}

/// The first line of the main file that holds an unknown key and nothing else, and the text without.
fn without_unknown(main: &str, report: &Report) -> Option<(usize, String)> {
    let found = report.diagnostics();
    let unknown = found.iter().find(|one| one.id == "unknown-key" && one.place.file == 0)?;
    let (_, line, column) = report.position(unknown.place)?;
    let text = main.split('\n').nth(line - 1)?;
    let (key, value) = text.split_once('=')?;
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if column != 1 || !plain(key.trim()) || !plain(value.trim()) {
        return None;
    }
    let mut lines: Vec<_> = main.split('\n').collect();
    lines[line - 1] = "";
    Some((line, lines.join("\n")))
}

/// The errors, but those on a line.
fn errors(report: &Report, without: Option<usize>) -> BTreeSet<(&'static str, String, usize)> {
    let errors = report.diagnostics().into_iter().filter(|one| one.severity == Severity::Error);
    errors
        .filter_map(|one| {
            let (_, line, _) = report.position(one.place)?;
            let kept = one.place.file != 0 || Some(line) != without;
            kept.then(|| (one.id, one.message.clone(), line))
        })
        .collect()
}
