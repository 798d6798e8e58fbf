//! `waypost check`: what is wrong or doubtful in a configuration, and its own tests.

mod records;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;
use waypost_config::diagnostics::{Report, Severity};
use waypost_config::dns::{OrganizationFacts, judge};
use waypost_config::policy::Policy;
use waypost_config::{Tested, run_expectations};
use waypost_server::{LoadError, Loaded, load};

use crate::answer::{Answer, Failure};
use crate::{batch, configuration, table};

/// Columns for what came where it was expected.
const CAME_WIDTH: usize = 60;

/// Check a configuration: errors, warnings and its `[[expect]]` tests (O7)
///
/// Exit status: 0 usable, warnings included; 1 a rule is broken, a key is unknown or of the wrong
/// type, a file that a key names is of no use, or a test fails; 2 the configuration, or a part of it
/// that it includes, is missing, unreadable or not TOML.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration's main file
    #[arg(value_name = "CONFIG")]
    config: String,
    /// Compare the SPF and MX records of the domains with this server and its gateways (B4)
    #[arg(long)]
    dns: bool,
    /// Answer one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Reply<'a> {
    file: &'a str,
    usable: bool,
    version: Option<&'a str>,
    diagnostics: Box<RawValue>,
    expect: Vec<ExpectReply<'a>>,
    /// Only with `--dns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Vec<records::OrganizationReply<'a>>>,
}

#[derive(Serialize)]
struct ExpectReply<'a> {
    description: &'a str,
    ok: bool,
    expected: &'a str,
    came: &'a str,
    at: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    match load(Path::new(&arguments.config)) {
        Ok(loaded) => checked(arguments, loaded),
        Err(LoadError::NotToml(not_toml)) if arguments.json => {
            let reply = reply(&arguments.config, None, &not_toml.report, &[], None)?;
            batch::write_line(&mut io::stdout().lock(), &reply)?;
            Ok(Answer::Unusable)
        }
        Err(error) => Err(Failure::Input(configuration::unusable(&error))),
    }
}

fn checked(arguments: &Arguments, mut loaded: Loaded) -> Result<Answer, Failure> {
    let asked = loaded.policy.as_deref().filter(|_| arguments.dns);
    let found = asked.map(records::look).transpose()?;
    if let Some(found) = &found {
        judge(&loaded.raw, found, &mut loaded.report);
    }
    let loaded = &loaded;
    let policy = loaded.policy.as_deref();
    let tests = policy.map(|policy| run_expectations(policy, &loaded.raw)).unwrap_or_default();
    let mut out = io::stdout().lock();
    if arguments.json {
        let version = policy.map(Policy::version);
        let report = &loaded.report;
        let reply = reply(&arguments.config, version, report, &tests, found.as_deref())?;
        batch::write_line(&mut out, &reply)?;
    } else {
        let colour = out.is_terminal();
        let mut told = Vec::new();
        match &found {
            Some(found) => records::write_text(&mut told, found)?,
            None if arguments.dns => {
                told.extend_from_slice(b"The DNS was not asked: correct the errors first.\n\n");
            }
            None => {}
        }
        out.write_all(&told)?;
        out.write_all(text(&arguments.config, loaded, &tests, colour)?.as_bytes())?;
    }
    let usable = policy.is_some() && tests.iter().all(|test| test.passed);
    Ok(if usable { Answer::Done } else { Answer::No })
}

/// What is wrong or doubtful, and which tests fail: the same that `--json` writes.
///
/// # Errors
/// When it cannot be written as JSON.
pub(crate) fn json(
    path: &str,
    loaded: &Loaded,
    tests: &[Tested],
) -> Result<serde_json::Value, Failure> {
    let version = loaded.policy.as_deref().map(Policy::version);
    let reply = reply(path, version, &loaded.report, tests, None)?;
    let text = serde_json::to_string(&reply).map_err(io::Error::from)?;
    Ok(serde_json::from_str(&text).map_err(io::Error::from)?)
}

fn reply<'a>(
    file: &'a str,
    version: Option<&'a str>,
    report: &Report,
    tests: &'a [Tested],
    dns: Option<&'a [OrganizationFacts]>,
) -> Result<Reply<'a>, Failure> {
    Ok(Reply {
        file,
        usable: version.is_some() && tests.iter().all(|test| test.passed),
        version,
        diagnostics: RawValue::from_string(report.json()).map_err(io::Error::from)?,
        expect: tests
            .iter()
            .map(|test| ExpectReply {
                description: &test.description,
                ok: test.passed,
                expected: &test.expected,
                came: &test.came,
                at: report.locate(test.place),
            })
            .collect(),
        dns: dns.map(records::reply),
    })
}

/// What is wrong or doubtful, the tests as a table, and a line that sums it up.
///
/// # Errors
/// None that happens: a text takes everything.
pub(crate) fn text(
    path: &str,
    loaded: &Loaded,
    tests: &[Tested],
    colour: bool,
) -> io::Result<String> {
    let mut out = loaded.report.render(colour).into_bytes();
    if !tests.is_empty() {
        let rows: Vec<_> = tests.iter().map(|test| row(&loaded.report, test)).collect();
        table::write(&mut out, "", ["", "test", "expected", "came"], &rows)?;
        writeln!(out)?;
    }
    writeln!(out, "{path}: {}", summary(loaded, tests))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn row(report: &Report, test: &Tested) -> [String; 4] {
    let (mark, came) = match test.passed {
        true => ("ok", table::shown(test.came.as_bytes(), CAME_WIDTH)),
        false => ("FAILED", format!("{}  (test at {})", test.came, report.locate(test.place))),
    };
    [mark.to_owned(), test.description.to_string(), test.expected.clone(), came]
}

fn summary(loaded: &Loaded, tests: &[Tested]) -> String {
    let found = loaded.report.diagnostics();
    let errors = found.iter().filter(|one| one.severity == Severity::Error).count();
    let warnings = counted(found.len() - errors, "warning");
    let failed = tests.iter().filter(|test| !test.passed).count();
    match (errors, failed) {
        (0, 0) if tests.is_empty() => format!("usable; {warnings}, no [[expect]] tests"),
        (0, 0) => format!("usable; {warnings}, {} passed", counted(tests.len(), "test")),
        (0, _) => {
            format!("not usable; {failed} of {} failed, {warnings}", counted(tests.len(), "test"))
        }
        _ if loaded.raw.expect.items.is_empty() => {
            format!("not usable; {}, {warnings}", counted(errors, "error"))
        }
        _ => format!("not usable; {}, {warnings}, tests not run", counted(errors, "error")),
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
