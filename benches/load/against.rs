//! One table of everything that has a peer: ours, the peer's, and how many times better ours is.
//!
//! What goes in: the results that criterion left, and the JSON lines of the other measurements. What comes
//! out: a table in Markdown. What was not measured stands in it as such, so that nothing falls out unseen.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::table::{criterion, number, spread, time};
use crate::trouble::{Doing, Trouble};

/// What is done, the bench of ours, and each peer with its bench.
type Compared = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Benches that have a peer in the same run.
const BENCHES: &[Compared] = &[
    (
        "every hop of a header of eight",
        "hops of an 8-hop header: waypost-inbound",
        &[
            ("mail-parser", "hops of an 8-hop header: mail-parser, Received only"),
            ("a regex a line", "hops of an 8-hop header: a regex a line"),
        ],
    ),
    (
        "the first external hop of it",
        "first external hop of an 8-hop header: waypost-inbound",
        &[("mail-parser", "first external hop of an 8-hop header: mail-parser, Received only")],
    ),
    (
        "the rules of a recipient among 1,000, three match",
        "rules of a recipient: compiled, three match: 1000",
        &[("one rule after another", "rules of a recipient: one by one, three match: 1000")],
    ),
    (
        "the rules of a recipient among 10,000, none matches",
        "rules of a recipient: compiled, none matches: 10000",
        &[("one rule after another", "rules of a recipient: one by one, none matches: 10000")],
    ),
    (
        "reserve and commit a message of one recipient, 1,000 users",
        "reserve and commit a message: 1 recipients, 1000 users",
        &[("governor, one count", "count a message of a user: governor: 1000 users")],
    ),
    (
        "the same, 1,000,000 users",
        "reserve and commit a message: 1 recipients, 1000000 users",
        &[("governor, one count", "count a message of a user: governor: 1000000 users")],
    ),
    (
        "the same with 64 messages under way, 1,000,000 users",
        "reserve and commit a message, 64 under way: 1000000 users",
        &[("governor, one count", "count a message of a user: governor: 1000000 users")],
    ),
    (
        "read and compile 10,000 rules and 100,000 users",
        "reload, 10,000 rules, 100,000 users: whole",
        &[(
            "toml, reading alone",
            "reload, 10,000 rules, 100,000 users: peer: toml alone, main file and directory",
        )],
    ),
];

/// The table, from criterion's folder and from the file of [`crate::run::Run::json`] lines, if there is one.
pub(crate) fn table(results: &Path, runs: Option<&Path>) -> Result<String, Trouble> {
    let mut text =
        "| what | ours | peer | the peer's | ours is so many times better |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    let found: BTreeMap<String, [u64; 3]> = criterion(results)?.into_iter().collect();
    for (what, ours, peers) in BENCHES {
        let median = |bench: &str| found.get(bench).map(|[median, ..]| *median);
        for (peer, theirs) in *peers {
            let (ours, theirs) = (median(ours), median(theirs));
            let shown = |value: Option<u64>| value.map_or_else(|| "not measured".to_owned(), time);
            let ratio = match (ours, theirs) {
                (Some(ours), Some(theirs)) => number(theirs as f64 / ours as f64),
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "| {what} | {} | {peer} | {} | {ratio} |",
                shown(ours),
                shown(theirs)
            );
        }
    }
    if let Some(file) = runs {
        let lines =
            std::fs::read_to_string(file).doing(|| format!("reading {}", file.display()))?;
        text += &rows(&lines);
    }
    Ok(text)
}

/// The rows of the whole system: a median a case and program, in the order in which they were measured.
fn rows(lines: &str) -> String {
    let mut cases: Vec<(String, Unit, BTreeMap<String, Vec<f64>>)> = Vec::new();
    for line in lines.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let (Some((case, unit, value)), Some(program)) = (case(&line), line["program"].as_str())
        else {
            continue;
        };
        let at = cases.iter().position(|(known, ..)| *known == case).unwrap_or_else(|| {
            cases.push((case, unit, BTreeMap::new()));
            cases.len() - 1
        });
        if let Some((.., programs)) = cases.get_mut(at) {
            programs.entry(program.to_owned()).or_default().push(value);
        }
    }
    let mut text = String::new();
    for (case, unit, mut programs) in cases {
        let mut median = |name: &str| programs.remove(name).map(|all| spread(all)[0]);
        let (ours, theirs) = (median("serve"), median("postfix"));
        let shown = |value: Option<f64>| match value {
            Some(value) => format!("{} {}", number(value), unit.name()),
            None => "not measured".to_owned(),
        };
        let ratio = match (ours, theirs, unit) {
            (Some(ours), Some(theirs), Unit::KiB) => number(theirs / ours),
            (Some(ours), Some(theirs), _) => number(ours / theirs),
            _ => String::new(),
        };
        let _ =
            writeln!(text, "| {case} | {} | Postfix | {} | {ratio} |", shown(ours), shown(theirs));
    }
    text
}

/// What is counted; of memory less is better.
#[derive(Clone, Copy)]
enum Unit {
    Messages,
    Refused,
    Connections,
    KiB,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages/s",
            Self::Refused => "refused/s",
            Self::Connections => "connections/s",
            Self::KiB => "KiB",
        }
    }
}

/// What a line is about, and its value.
fn case(line: &Value) -> Option<(String, Unit, f64)> {
    let whole = |key: &str| line[key].as_u64();
    let sessions = || {
        whole("sessions").map(|count| match count {
            1 => "1 session".to_owned(),
            count => format!("{count} sessions"),
        })
    };
    let what = line["what"].as_str()?;
    if what == "idle" {
        let each = line["kib_each"].as_f64()?;
        return Some(("memory of an idle session".to_owned(), Unit::KiB, each));
    }
    let rate = line["rate"].as_f64()?;
    let each = format!("{}, {} a connection", sessions()?, whole("per_connection")?);
    Some(match what {
        "relay" | "starttls" => {
            let by = if what == "starttls" { "STARTTLS, " } else { "" };
            let size = match whole("size")? {
                size if size % 1024 == 0 => format!("{} KiB", size / 1024),
                size => format!("{size} octets"),
            };
            (format!("relay, {by}{size}, {each}"), Unit::Messages, rate)
        }
        "reject" => (format!("refused recipients, {each}"), Unit::Refused, rate),
        "connect" => (format!("connections, {}", sessions()?), Unit::Connections, rate),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_a_row_with_medians_and_their_ratio() {
        let run = |program: &str, rate: f64| {
            format!(
                "{{\"what\":\"relay\",\"program\":\"{program}\",\"size\":1024,\"sessions\":20,\
                 \"per_connection\":1,\"rate\":{rate}}}\n"
            )
        };
        let lines = [run("serve", 900.0), run("serve", 1000.0), run("serve", 5000.0)].concat()
            + &run("postfix", 250.0)
            + &run("direct", 9000.0)
            + "not JSON\n"
            + "{\"what\":\"idle\",\"program\":\"serve\",\"kib_each\":5.0}\n\
               {\"what\":\"idle\",\"program\":\"postfix\",\"kib_each\":1250.0}\n\
               {\"what\":\"connect\",\"program\":\"serve\",\"sessions\":1,\"per_connection\":1,\"rate\":10}\n";
        assert_eq!(
            rows(&lines),
            "| relay, 1 KiB, 20 sessions, 1 a connection | 1,000 messages/s | Postfix | 250 messages/s | 4.00 |\n\
             | memory of an idle session | 5.00 KiB | Postfix | 1,250 KiB | 250 |\n\
             | connections, 1 session | 10.0 connections/s | Postfix | not measured |  |\n"
        );
    }
}
