//! The reference and the schema: as fresh as the tables that read a file, and true of them.
#![allow(clippy::disallowed_methods, reason = "the goldens and the examples are files")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it means"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::raw::{self, FileKind, Kind};
use waypost_config::reference::{self, Document, Section};
use waypost_config::run_expectations;

fn crate_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn docs() -> PathBuf {
    crate_folder().join("../../docs")
}

#[test]
fn the_pages_in_docs_are_fresh() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let schemas = Document::ALL.map(|one| (one.file(), reference::schema(one)));
    let page = ("CONFIG.md", reference::markdown(None).unwrap());
    for (name, made) in schemas.into_iter().chain([page]) {
        let path = docs().join(name);
        if update {
            std::fs::write(&path, &made).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == made, "docs/{name} is stale: UPDATE_GOLDENS=1 rewrites it");
    }
}

#[test]
fn the_page_names_every_table_and_key() {
    let page = reference::markdown(None).unwrap();
    let sections = reference::sections();
    for one in &sections {
        assert!(page.contains(&format!("\n## `{}`\n", one.head)));
        let part = reference::markdown(Some(&one.path)).unwrap();
        for key in &one.keys {
            assert!(part.contains(&format!("- **`{}`**: ", key.name)), "{}.{}", one.path, key.name);
        }
    }
    assert_eq!(reference::markdown(Some("organization.rul")), None);
    assert_eq!(reference::markdown(Some("[[expect]]")), reference::markdown(Some("expect")));
    assert!(reference::markdown(Some("organization.limits")).unwrap().contains("user.limits"));
}

/// Reads and compiles; every file that is named is there.
fn compiled(text: &str) -> (bool, Report, Vec<waypost_config::Tested>) {
    let (config, mut report) = match raw::read(SourceFile::new("example", text), Vec::new()) {
        Ok(read) => read,
        Err(not_toml) => return (false, not_toml.report, Vec::new()),
    };
    let contents = |kind| match kind {
        FileKind::Roots => b"-----BEGIN CERTIFICATE-----\n".to_vec(),
        FileKind::Password => b"secret\n".to_vec(),
        _ => Vec::new(),
    };
    let files: HashMap<String, Vec<u8>> = config
        .needed_files()
        .into_iter()
        .map(|file| (file.path.as_str().to_owned(), contents(file.kind)))
        .collect();
    let compiled = waypost_config::compile(&config, &files, &mut report);
    let is_right = compiled.is_some();
    let tested = compiled.map(|compiled| run_expectations(&compiled.into_policy("1"), &config));
    (is_right, report, tested.unwrap_or_default())
}

/// A fragment of a configuration with what it takes to be a whole one.
fn whole(fragment: &str) -> String {
    let parts = [
        ("[server]", "hostname = \"mx.solarmora.com\"\n"),
        (
            "[[listener]]",
            "name = \"mx\"\nrole = \"mx\"\nbind = \"127.0.0.1:2525\"\n\
             [[listener]]\nname = \"relay\"\nrole = \"relay\"\nbind = \"127.0.0.1:2587\"\n\
             tls = { certificate = \"mx.pem\", key = \"mx.key\" }\n",
        ),
        (
            "[[organization]]",
            "name = \"Solarmora\"\ndomains = [\"solarmora.com\", \"solarmora.fr\"]\nlicences = 250\n",
        ),
        ("[[organization.user]]", "address = \"marie@solarmora.com\"\n"),
        ("[[organization.group]]", "address = \"team@solarmora.com\"\nmembers = []\n"),
        (
            "[[organization.route]]",
            "name = \"exchange\"\nhost = \"exchange.corp.example\"\n\
             [[organization.route]]\nname = \"edge\"\nhost = \"edge.corp.example\"\n\
             [[organization.route]]\nname = \"mailboxes\"\nhost = \"mail.corp.example\"\n",
        ),
    ];
    let has = |head: &str| fragment.lines().any(|line| line == head);
    let mut text = String::new();
    let mut behind = String::new();
    for (head, keys) in parts.iter().filter(|(head, _)| !has(head)) {
        let of_it = head.starts_with("[[organization.") && has("[[organization]]");
        (if of_it { &mut behind } else { &mut text }).push_str(&format!("{head}\n{keys}"));
    }
    text + fragment + &behind
}

/// What a table takes to be right beside the key of an example, which stands for `@`; lines of the
/// same key make room for it.
fn frame(path: &str, key: &str) -> String {
    let rule = "[[organization.rule]]\ndescription = \"R\"\naffects = [\"inbound\"]\n";
    let then = "then = { reject = \"no\" }\n";
    let text = match (path, key) {
        ("server", _) => "[server]\nhostname = \"a.example\"\n".to_owned(),
        ("listener", _) => {
            "[[listener]]\nname = \"new\"\nrole = \"mx\"\nbind = \"127.0.0.1:25\"\n".to_owned()
        }
        ("listener.tls", _) => "[[listener]]\nname = \"new\"\nrole = \"mx\"\nbind = \"127.0.0.1:25\"\n\
                                [listener.tls]\ncertificate = \"mx.pem\"\nkey = \"mx.key\"\n"
            .to_owned(),
        ("organization", _) => {
            "[[organization]]\nname = \"O\"\ndomains = [\"solarmora.com\"]\n".to_owned()
        }
        ("organization.user" | "organization.group", _) => {
            format!("[[{path}]]\naddress = \"jean@solarmora.com\"\n")
        }
        ("organization.user.limits", _) => "[organization.limits]\n".to_owned(),
        ("organization.org_unit", _) => format!(
            "{}{then}[[organization.org_unit]]\npath = \"/sales\"\n",
            rule.replace("\"R\"", "\"Archive\"")
        ),
        ("organization.route", "primary") => "[[organization.route]]\nname = \"r\"\n".to_owned(),
        ("organization.route", "secondary") => {
            "[[organization.route]]\nname = \"r\"\nprimary = [{ host = \"a.example\", load = 100 }]\n"
                .to_owned()
        }
        ("organization.route", _) => {
            "[[organization.route]]\nname = \"r\"\nhost = \"r.corp.example\"\n".to_owned()
        }
        ("organization.route.primary", key) => format!(
            "[[organization.route]]\nname = \"r\"\n[[{path}]]\nhost = \"b.example\"\nload = {}\n\
             [[{path}]]\nhost = \"c.example\"\nload = 100\n",
            if key == "load" { 40 } else { 0 }
        ),
        ("organization.route.auth", _) => {
            "[[organization.route]]\nname = \"r\"\nhost = \"r.example\"\n[organization.route.auth]\n\
             user = \"u\"\npassword_file = \"p\"\n"
                .to_owned()
        }
        ("organization.rule", _) => format!("{rule}{then}"),
        ("organization.rule.then", _) => format!("{rule}[organization.rule.then]\n"),
        ("organization.rule.envelope", _) => format!("{rule}{then}[organization.rule.envelope]\n"),
        ("organization.rule.envelope.senders", _) => format!("{rule}{then}[[{path}]]\n"),
        ("organization.rule.then.modify.add_headers", _) => {
            format!("{rule}[[{path}]]\nname = \"X-A\"\nvalue = \"1\"\n")
        }
        ("organization.rule.then.modify.also_deliver_to", _) => format!("{rule}[[{path}]]\n"),
        (path, _) if path.starts_with("organization.rule.then") => format!("{rule}[{path}]\n"),
        ("organization.inbound_gateway.spam_tag", _) => {
            format!("[organization.inbound_gateway]\n[{path}]\nregex = '^X-S: (\\d+)$'\n")
        }
        ("organization.inbound_gateway", _) => {
            "[organization.inbound_gateway]\naddresses = [\"2a00::25\"]\n".to_owned()
        }
        ("organization.relay", _) => {
            format!("[[{path}]]\ndescription = \"R\"\nallowed_senders = \"my-domains\"\nrequire_auth = true\n")
        }
        ("organization.relay.addresses", _) => {
            "[[organization.relay]]\ndescription = \"R\"\nallowed_senders = \"my-domains\"\n\
             require_auth = true\n[[organization.relay.addresses]]\nrange = \"203.0.113.7\"\n"
                .to_owned()
        }
        ("expect", "route" | "reply" | "via" | "quarantine") => {
            "[[expect]]\ndescription = \"x\"\nfrom = \"a@b.example\"\nto = \"marie@solarmora.com\"\n"
                .to_owned()
        }
        ("expect", _) => "[[expect]]\ndescription = \"x\"\nfrom = \"a@b.example\"\n\
                          to = \"marie@solarmora.com\"\nvia = \"mailbox\"\n"
            .to_owned(),
        ("server.filter", "address") => "[server.filter]\n".to_owned(),
        ("server.filter.spam_tag", _) => "[server.filter]\naddress = \"milter:a.example:1\"\n\
                                          [server.filter.spam_tag]\nregex = '^X-S: (\\d+)$'\n"
            .to_owned(),
        ("server.filter", _) => "[server.filter]\naddress = \"milter:127.0.0.1:11332\"\n".to_owned(),
        ("server.record", _) => "[server.record]\nfile = \"envelopes.jsonl\"\n".to_owned(),
        (path, _) => format!("[{path}]\n"),
    };
    // The last table is the one of the key.
    let begins = format!("{key} = ");
    let at = text.rfind("\n[").map_or(0, |at| at + 1);
    let (above, own) = text.split_at(at);
    let kept: Vec<_> = own.lines().filter(|line| !line.starts_with(&begins)).collect();
    format!("{above}{}\n@\n", kept.join("\n"))
}

#[test]
fn every_example_of_a_key_is_read_and_compiles() {
    let validator = validator();
    let mut wrong = Vec::new();
    let mut examples = 0;
    for Section { path, keys, .. } in reference::sections() {
        for key in keys {
            let Some(line) = key.example else {
                assert!(matches!(key.kind, Kind::Table { .. }), "{path}.{} lacks one", key.name);
                continue;
            };
            examples += 1;
            assert!(line.starts_with(&format!("{} = ", key.name)), "{path}: {line}");
            let text = whole(&frame(&path, key.name).replace("\n@\n", &format!("\n{line}\n")));
            let (is_right, report, _) = compiled(&text);
            if !is_right {
                wrong.push(format!("{path}: {line}\n{}", report.render(false)));
            }
            wrong.extend(validator.faults(&text).map(|fault| format!("{path}: {line}\n{fault}")));
        }
    }
    assert!(examples > 170, "{examples}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_of_a_table_is_a_configuration_whose_tests_pass() {
    let validator = validator();
    let mut wrong = Vec::new();
    for Section { path, example, .. } in reference::sections() {
        assert!(!example.is_empty(), "{path} has no example");
        let text = whole(&example);
        let (is_right, report, tested) = compiled(&text);
        if !is_right {
            wrong.push(format!("{path}\n{}", report.render(false)));
        }
        let failed = tested.iter().filter(|tested| !tested.passed);
        wrong.extend(failed.map(|tested| format!("{path}: {tested:?}")));
        wrong.extend(validator.faults(&text).map(|fault| format!("{path}\n{fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

fn validator() -> Validator {
    validator_of(Document::Main)
}

fn validator_of(document: Document) -> Validator {
    let schema: Value = serde_json::from_str(&reference::schema(document)).unwrap();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource(document.file(), schema).unwrap();
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile(document.file(), &mut schemas).unwrap();
    Validator { schemas, index }
}

impl Validator {
    /// What the schema says against a text.
    fn faults(&self, text: &str) -> Option<String> {
        let value: Value = toml::from_str(text).unwrap();
        let judged = self.schemas.validate(&value, self.index);
        judged.err().map(|error| format!("{error:#}"))
    }
}

/// Every configuration of the repository that is right.
fn configurations() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in ["testdata/sample.toml", "../../examples/waypost.toml"] {
        found.push((path.to_owned(), std::fs::read_to_string(crate_folder().join(path)).unwrap()));
    }
    let folder = crate_folder().join("testdata/errors");
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let golden = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        if path.extension().is_some_and(|found| found == "toml") && !golden.contains("error[") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), text));
        }
    }
    let folder = crate_folder().join("testdata/scenarios");
    for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|found| found != "scenario") {
            continue;
        }
        let scenario: Value = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if scenario["then"].get("configuration_refused").is_some() {
            continue;
        }
        let text = |key: &str| scenario[key].as_str().unwrap_or_default().to_owned();
        let given = scenario["given"].as_array().unwrap().iter().map(|part| {
            let part = folder.join("given").join(format!("{}.toml", part.as_str().unwrap()));
            std::fs::read_to_string(part).unwrap()
        });
        let given = given.collect::<String>().replacen("# settings", &text("settings"), 1);
        found.push((path.display().to_string(), given + &text("and")));
    }
    found
}

#[test]
fn included_files_and_directories_have_schemas_of_their_own() {
    let user = "address = \"marie@solarmora.com\"\n";
    let organization = "[[organization]]\nname = \"S\"\ndomains = [\"s.example\"]\n";
    for (document, text, right) in [
        (Document::Included, organization.to_owned(), true),
        (Document::Included, format!("{organization}[[organization.user]]\n{user}"), true),
        (Document::Included, "[server]\nhostname = \"mx.s.example\"\n".to_owned(), false),
        (Document::Included, format!("[[user]]\n{user}"), false),
        (Document::Directory, String::new(), true),
        (Document::Directory, format!("[[user]]\n{user}org_unit = \"/sales\"\n"), true),
        (
            Document::Directory,
            format!("[[user]]\n{user}limits = {{ messages_per_user_per_day = 5 }}\n"),
            true,
        ),
        (
            Document::Directory,
            "[[group]]\naddress = \"t@s.example\"\nmembers = [\"a@s.example\"]\n".to_owned(),
            true,
        ),
        (Document::Directory, "[[user]]\n".to_owned(), false),
        (Document::Directory, format!("[[user]]\n{user}colour = 1\n"), false),
        (Document::Directory, organization.to_owned(), false),
    ] {
        let faults = validator_of(document).faults(&text);
        assert_eq!(faults.is_none(), right, "{document:?}\n{text}\n{faults:?}");
        // The schema is true of what reads such a file.
        let mut report = Report::new(Vec::new());
        let is_read = match document {
            Document::Directory => {
                let _ = raw::read_directory(SourceFile::new("d", &text), &mut report);
                !report.has_errors()
            }
            _ => {
                let main = SourceFile::new("m", "[server]\nhostname = \"mx.s.example\"\n");
                let included = vec![SourceFile::new("i", &text)];
                raw::read(main, included).is_ok_and(|(_, report)| !report.has_errors())
            }
        };
        assert_eq!(is_read, right, "{document:?}\n{text}");
    }
}

/// Every column of the reference is read, and no other.
#[test]
fn the_columns_of_a_directory_in_csv_are_those_of_the_page() {
    let page = reference::markdown(None).unwrap();
    let (_, table) = page.split_once("| column | holds |\n| --- | --- |\n").unwrap();
    let names = table.lines().map_while(|line| line.strip_prefix("| `")?.split('`').next());
    let head = names.collect::<Vec<_>>().join(",");
    assert!(head.contains("address") && head.contains("members"), "{head}");
    for (head, right) in [(head.clone(), true), (format!("{head},colour"), false)] {
        let mut report = Report::new(Vec::new());
        let _ = raw::read_directory_csv(SourceFile::new("d.csv", format!("{head}\n")), &mut report);
        assert_eq!(!report.has_errors(), right, "{head}");
    }
}

#[test]
fn the_schema_refuses_nothing_that_is_right() {
    let validator = validator();
    let configurations = configurations();
    assert!(configurations.len() > 100, "{}", configurations.len());
    let wrong: Vec<_> = configurations
        .iter()
        .filter_map(|(name, text)| Some(format!("{name}\n{}", validator.faults(text)?)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let validator = validator();
    let rule = "[[organization.rule]]\ndescription = \"R\"\naffects = [\"inbound\"]\n";
    for (what, text) in [
        ("unknown key", "[server]\nhostname = \"a.example\"\nadmni = \"127.0.0.1:1\"\n".to_owned()),
        ("unknown table", whole("[servers]\na = 1\n")),
        ("wrong type", "[server]\nhostname = 7\n".to_owned()),
        ("missing required", "[server]\nspool = \"s\"\n".to_owned()),
        ("missing table", "[[organization]]\nname = \"O\"\ndomains = [\"a.example\"]\n".to_owned()),
        ("no domain", whole("[[organization]]\nname = \"O\"\ndomains = []\n")),
        ("wrong word", whole("[[listener]]\nname = \"n\"\nrole = \"mta\"\nbind = \"[::1]:25\"\n")),
        ("no port", whole("[[listener]]\nname = \"n\"\nrole = \"mx\"\nbind = \"[::1]\"\n")),
        ("a table for a list", whole("[organization.rule]\ndescription = \"R\"\n")),
        ("a bare number", whole("[server.retry]\nfirst = 5\n")),
        ("no unit", whole("[server.retry]\nfirst = \"5\"\n")),
        ("a size without unit", whole("[server.limits]\nmessage_size = \"50\"\n")),
        ("negative", whole("[server.limits]\nrecipients = -1\n")),
        ("a port too large", whole("[server]\nhostname = \"a.example\"\nmx_port = 65536\n")),
        (
            "a load too large",
            whole(
                "[[organization.route]]\nname = \"r\"\nprimary = [{ host = \"a\", load = 101 }]\n",
            ),
        ),
        (
            "host beside primary",
            whole(
                "[[organization.route]]\nname = \"r\"\nhost = \"h\"\nprimary = [{ host = \"a\", load = 100 }]\n",
            ),
        ),
        (
            "no affects",
            whole("[[organization.rule]]\ndescription = \"R\"\nthen = { reject = \"n\" }\n"),
        ),
        ("nothing then", whole(&format!("{rule}then = {{ }}\n"))),
        (
            "two things then",
            whole(&format!("{rule}then = {{ reject = \"a\", quarantine = \"b\" }}\n")),
        ),
        ("a blank name", whole(&rule.replace("\"R\"", "\"  \"")) + "then = { reject = \"n\" }\n"),
        (
            "an injected line",
            whole(&format!("{rule}then = {{ modify = {{ subject_prefix = \"a\\r\\nb\" }} }}\n")),
        ),
        (
            "two kinds of matcher",
            whole(&format!(
                "{rule}then = {{ reject = \"n\" }}\nenvelope = {{ senders = [{{ address = \"a@b.example\", pattern = \"x\" }}] }}\n"
            )),
        ),
        ("no switch", whole("[organization.inbound_gateway]\nrequire_tls = \"maybe\"\n")),
        ("no reject code", whole("[organization.inbound_gateway]\nreject_code = 451\n")),
        (
            "a password in clear text",
            whole("[[organization.user]]\naddress = \"a@solarmora.com\"\npassword = \"x\"\n"),
        ),
        (
            "no outcome",
            whole("[[expect]]\ndescription = \"x\"\nfrom = \"\"\nto = \"a@b.example\"\n"),
        ),
        (
            "no mailbox",
            whole("[[expect]]\ndescription = \"x\"\nfrom = \"\"\nto = \"a\"\nvia = \"mx\"\n"),
        ),
    ] {
        assert!(validator.faults(&text).is_some(), "{what}:\n{text}");
        assert!(!compiled(&text).0, "{what} is right:\n{text}");
    }
}

#[test]
fn the_schema_says_type_default_and_requirement_of_every_key() {
    let schema: Value = serde_json::from_str(&reference::schema(Document::Main)).unwrap();
    let tables = schema["$defs"].as_object().unwrap();
    assert_eq!(tables.len(), reference::sections().len());
    for (path, table) in tables {
        assert_eq!(table["additionalProperties"], false, "{path}");
        for (name, key) in table["properties"].as_object().unwrap() {
            let has = |word: &str| key.get(word).is_some();
            assert!(has("type") || has("$ref") || has("enum") || has("anyOf"), "{path}.{name}");
            assert!(has("description"), "{path}.{name}");
        }
    }
    let port = &tables["organization.route.primary"]["properties"]["port"];
    assert_eq!(port["default"], 25);
    assert_eq!(port["x-requirement"], "A3");
}
