//! The format as data, included files, and the files that a configuration names.

use std::collections::HashMap;

use waypost_config::diagnostics::SourceFile;
use waypost_config::raw::{self, FileKind, KeyInfo, Kind, Need, RawConfig};

fn walk(keys: &[KeyInfo], above: &str, seen: &mut Vec<String>) {
    for key in keys {
        let path = format!("{above}{}", key.name);
        assert!(key.doc.ends_with('.'), "{path} has no documentation");
        let letter = key.rule.starts_with(|c: char| "ABCDEO".contains(c));
        assert!(letter && key.rule[1..].parse::<u8>().is_ok() || key.rule == "format", "{path}");
        match &key.kind {
            Kind::Table { keys, doc, .. } => {
                assert!(!doc.is_empty() && !matches!(key.need, Need::Default(_)), "{path}");
                walk(keys, &format!("{path}."), seen);
            }
            Kind::Leaf { expected, example, .. } => {
                assert!(!expected.is_empty() && !example.is_empty(), "{path}");
            }
        }
        seen.push(path);
    }
}

#[test]
fn every_key_is_documented_and_names_its_requirement() {
    let mut seen = Vec::new();
    walk(&RawConfig::keys(), "", &mut seen);
    assert!(seen.len() > 180, "{}", seen.len());
    for path in ["organization.route.auth.password_file", "organization.user.limits", "expect.via"]
    {
        assert!(seen.iter().any(|known| known == path), "{path}");
    }
}

#[test]
fn defaults_written_out_are_what_absence_means() {
    fn text(keys: &[KeyInfo]) -> String {
        let default = |key: &KeyInfo| match &key.need {
            Need::Default(value) => Some(format!("{} = {value}\n", key.name)),
            _ => None,
        };
        keys.iter().filter_map(default).collect()
    }
    let keys = RawConfig::keys();
    let Kind::Table { keys: server, .. } = &keys[0].kind else { panic!("no server") };
    let mut written = format!("[server]\nhostname = \"a.example\"\n{}", text(server));
    for key in server {
        // `record` is no section: it has no defaults as a whole.
        if let (Kind::Table { keys, .. }, Need::Section) = (&key.kind, &key.need) {
            written += &format!("[server.{}]\n{}", key.name, text(keys));
        }
    }
    let read = |text: &str| {
        let (config, mut report) = raw::read(SourceFile::new("a", text), Vec::new()).unwrap();
        let files = HashMap::<String, Vec<u8>>::new();
        let compiled = waypost_config::compile(&config, &files, &mut report);
        compiled.unwrap_or_else(|| panic!("{written}{}", report.render(false))).server
    };
    let absent = read("[server]\nhostname = \"a.example\"\n");
    assert_eq!(format!("{:?}", read(&written)), format!("{absent:?}"));
    assert_eq!(absent.limits, waypost_config::settings::Limits::default());
    assert_eq!(absent.timeouts, waypost_config::settings::Timeouts::default());
    assert_eq!(absent.retry, waypost_config::settings::Retry::default());
}

#[test]
fn included_files_add_organizations_and_their_errors_name_them() {
    let main = SourceFile::new(
        "waypost.toml",
        "[server]\nhostname = \"a.example\"\ninclude = [\"organizations/*.toml\"]\n",
    );
    let (config, report) = raw::read(main.clone(), Vec::new()).unwrap();
    assert_eq!(report.diagnostics().len(), 0);
    assert_eq!(config.includes(), ["organizations/*.toml"]);
    let more = "[[organization]]\nname = \"A\"\ndomains = [\"a.example\"]\n";
    let included = vec![
        SourceFile::new("organizations/a.toml", more),
        SourceFile::new("organizations/b.toml", format!("{more}[server]\n")),
    ];
    let (config, mut report) = raw::read(main, included).unwrap();
    assert_eq!(config.organization.items.len(), 2);
    let files = HashMap::<String, Vec<u8>>::new();
    assert!(waypost_config::compile(&config, &files, &mut report).is_none());
    let shown = report.render(false);
    assert!(shown.contains("there is no key `server`"), "{shown}");
    assert!(shown.contains("given at organizations/a.toml:2 already"), "{shown}");
    assert!(shown.contains("--> organizations/b.toml:3:12"), "{shown}");
}

#[test]
fn files_that_it_names() {
    let text = r#"
[server]
hostname = "a.example"
redis = "rediss://redis.a.example"
redis_ca = "ca.pem"
redis_certificate = "node.pem"
redis_key = "node.key"
[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:25"
tls = { certificate = "mx.pem", key = "mx.key" }
[[organization]]
name = "A"
domains = ["a.example"]
directory = "people.toml"
[[organization.route]]
name = "r"
host = "r.example"
roots = "roots.pem"
"#;
    let (config, mut report) = raw::read(SourceFile::new("a", text), Vec::new()).unwrap();
    let needed: Vec<_> = config
        .needed_files()
        .into_iter()
        .map(|file| (file.path.as_str().to_owned(), file.kind))
        .collect();
    let want = [
        ("ca.pem", FileKind::Roots),
        ("node.pem", FileKind::Certificate),
        ("node.key", FileKind::PrivateKey),
        ("mx.pem", FileKind::Certificate),
        ("mx.key", FileKind::PrivateKey),
        ("people.toml", FileKind::Directory),
        ("roots.pem", FileKind::Roots),
    ];
    assert_eq!(needed, want.map(|(path, kind)| (path.to_owned(), kind)));
    let people = b"[[user]]\naddress = \"p@a.example\"\nactiv = true\n".to_vec();
    let files = HashMap::from([("people.toml".to_owned(), people)]);
    assert!(waypost_config::compile(&config, &files, &mut report).is_none());
    let shown = report.render(false);
    assert!(shown.contains("people.toml:3:1"), "{shown}");
    assert_eq!(shown.matches("warning[unreadable-file]").count(), 4, "{shown}");
    assert_eq!(shown.matches("error[unreadable-file]").count(), 2, "A6: {shown}");
}

#[test]
fn all_mistakes_of_routes_are_told_at_once_with_their_cures_a1_a6() {
    let text = r#"
[server]
hostname = "a.example"
[[organization]]
name = "A"
domains = ["a.example"]
[[organization.route]]
name = ""
host = "r.example"
port = 465
[[organization.route]]
name = "twice"
primary = [{ host = "a.example", port = 26, load = 60 }, { host = "b.example", load = 30 }]
[[organization.route]]
name = "TWICE"
host = "192.0.2.1"
mx_lookup = true
roots = "gone.pem"
"#;
    let (config, mut report) = raw::read(SourceFile::new("a", text), Vec::new()).unwrap();
    let files = HashMap::<String, Vec<u8>>::new();
    assert!(waypost_config::compile(&config, &files, &mut report).is_none());
    let shown = report.render(false);
    for said in [
        "a route's name is empty",
        "465",
        "port 26",
        "90",
        "the route `TWICE` was given at a:12 already",
        "192.0.2.1",
        "the file `gone.pem` cannot be read",
    ] {
        assert!(shown.contains(said), "no {said} in\n{shown}");
    }
    let errors = shown.matches("\nerror[").count() + usize::from(shown.starts_with("error["));
    assert_eq!(shown.matches("= help: ").count(), shown.matches("= note: rule ").count());
    assert_eq!(errors, 7, "{shown}");
}

#[test]
fn how_often_tls_is_tested_a8() {
    let day = std::time::Duration::from_secs(86_400);
    for (written, want, said) in [
        ("", Some(Some(day)), ""),
        ("\"off\"", Some(None), ""),
        ("\"12h\"", Some(Some(day / 2)), ""),
        ("\"5m\"", Some(Some(day / 288)), "warning[frequent-tls-check]"),
        ("\"0s\"", None, "a test every no time at all never rests"),
        ("\"never\"", None, "write a span such as \"1d\", or \"off\""),
        ("86400", None, "write a span such as \"1d\", or \"off\""),
        ("false", None, "a span of time or \"off\""),
    ] {
        let line =
            if written.is_empty() { String::new() } else { format!("tls_check = {written}\n") };
        let text = format!("[server]\nhostname = \"a.example\"\n{line}");
        let (config, mut report) = raw::read(SourceFile::new("a", text), Vec::new()).unwrap();
        let files = HashMap::<String, Vec<u8>>::new();
        let compiled = waypost_config::compile(&config, &files, &mut report);
        let shown = report.render(false);
        assert_eq!(compiled.map(|compiled| compiled.server.tls_check), want, "{written}: {shown}");
        assert!(shown.contains(said), "{written}: {shown}");
    }
}
