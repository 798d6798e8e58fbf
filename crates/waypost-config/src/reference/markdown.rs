//! The reference as Markdown.

use std::fmt::Write as _;

use super::{Section, exactly_one, is_required, sections, short_form};
use crate::raw::{self, KeyInfo, Kind, Need};

/// Longest line, in characters; code is never broken.
const WIDTH: usize = 112;

const HEAD: &str = "\
# Configuration

<!-- Written by `waypost config-reference` from the tables that read a file; a test refuses a stale one.
     UPDATE_GOLDENS=1 cargo test -p waypost-config --test reference -->

One TOML file ([toml.io](https://toml.io)). `waypost check FILE` tells everything that is wrong with it at once,
each with its place, the rule that it breaks and the cure; `serve` takes a changed file without a restart, whole or
not at all. An unknown key is an error. Ids such as A2 or C8 name the requirement that a key serves, and stand
in every error about it.

`waypost config-reference` prints this page, `--table organization.rule` a part of it, `--schema` a JSON Schema
for editors, which is [config.schema.json](config.schema.json): with Even Better TOML or taplo write
`#:schema config.schema.json`, with the path or address of that file, into the first line. Files that are included and
directory files have schemas of their own ([below](#other-files)). A schema knows less than `check`.

## How values are written

- **Spans of time**: one whole number and a unit, `ms`, `s`, `m`, `h` or `d`: `\"30s\"`, `\"5d\"`. At most 3650d. A bare
  number is refused, since nobody can know its unit.
- **Sizes**: a whole number and a unit, `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`: `\"50MiB\"`; or a number of octets.
- **Addresses of mail**: `local-part@domain`, compared without case; a plus tag is ordinary characters.
- **Domains and hosts**: in any script; compared in ASCII form (IDNA), without case. IPv6 addresses in full or short
  notation; with a port they stand in brackets: `\"[2001:db8::25]:587\"`.
- **Ranges**: `\"203.0.113.0/28\"`, `\"2001:db8::/64\"`, or one address.
- **Regular expressions**: the syntax of the Rust crate [regex](https://docs.rs/regex/latest/regex/#syntax): no
  look-around and no back references, and in return linear time. Single quotes spare the second backslash.
- **Names and texts**: one line, without control characters; a name is not blank, and blanks at its ends do not count.
- **Paths of files**: relative ones start at the directory of the main file.
- **Organizational units**: paths such as `\"/sales/emea\"`, without case; `/` is the root. They need no declaration.
";

/// What explains more, by table.
const MORE: &[(&str, &[(&str, &str)])] = &[
    ("server", &[("METRICS.md", "Metrics, health and logs"), ("SPOOL.md", "The spool")]),
    ("server.filter", &[("FILTER.md", "A filter for spam and malware")]),
    ("server.limits", &[("SCALING.md", "Scaling")]),
    ("server.retry", &[("SPOOL.md", "States of a message")]),
    ("listener", &[("PROXIES.md", "Behind proxies")]),
    ("organization", &[("OUTBOUND.md", "Outbound gateway")]),
    ("organization.route", &[("TLS.md", "TLS towards next hops")]),
    ("organization.route.auth", &[("TLS.md", "TLS towards next hops")]),
    ("organization.rule", &[("OUTBOUND.md", "A smart host by a rule")]),
    ("organization.rule.then.modify", &[("OUTBOUND.md", "What breaks a signature")]),
    ("organization.inbound_gateway", &[("INBOUND.md", "The inbound gateway")]),
    ("organization.inbound_gateway.spam_tag", &[("INBOUND.md", "The inbound gateway")]),
];

/// The reference as Markdown, for `docs/CONFIG.md`; of one table and those below it if one is named.
///
/// `None`: there is no such table.
#[must_use]
pub fn markdown(table: Option<&str>) -> Option<String> {
    let sections = sections();
    let Some(table) = table else {
        let mut text = HEAD.to_owned();
        contents(&mut text, &sections);
        sections.iter().for_each(|one| section(&mut text, one, &sections));
        other_files(&mut text);
        directory_file(&mut text);
        return Some(text);
    };
    let table = table.trim_matches(['[', ']']);
    let at = |path: &str| {
        path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut text = String::new();
    for one in &sections {
        if at(&one.path) || one.also.iter().any(|path| at(path)) {
            section(&mut text, one, &sections);
        }
    }
    (!text.is_empty()).then(|| text.trim_start().to_owned())
}

fn contents(text: &mut String, sections: &[Section]) {
    line(text, "\n## Tables\n");
    for one in sections {
        let indent = "  ".repeat(one.path.matches('.').count());
        let doc = one.doc.replace('\n', " ");
        let end = [". ", ": ", "; ", ", so", " ("].iter().filter_map(|stop| doc.find(stop)).min();
        let first = end.and_then(|end| doc.get(..end)).unwrap_or(doc.trim_end_matches('.'));
        line(text, &format!("{indent}- [`{}`](#{}): {first}", one.head, anchor(&one.path)));
    }
}

fn section(text: &mut String, one: &Section, all: &[Section]) {
    line(text, &format!("\n## `{}`\n", one.head));
    paragraph(text, &one.doc.replace('\n', " "), 0);
    if !one.also.is_empty() {
        let also: Vec<_> = one.also.iter().map(|path| format!("`{path}`")).collect();
        let those = if also.len() == 1 { "is the same table" } else { "are the same table" };
        line(text, "");
        paragraph(text, &format!("{} {those}.", also.join(" and ")), 0);
    }
    let choice = exactly_one(&one.path);
    if !choice.is_empty() {
        line(text, "");
        paragraph(text, &format!("Exactly one of {} must be there.", raw::listed(choice)), 0);
    }
    if let Some((_, pages)) = MORE.iter().find(|(table, _)| *table == one.path) {
        let links: Vec<_> =
            pages.iter().map(|(page, title)| format!("[{title}]({page})")).collect();
        line(text, "");
        paragraph(text, &format!("More: {}.", links.join(", ")), 0);
    }
    line(text, "");
    for key in &one.keys {
        paragraph(text, &item(key, one, all), 1);
    }
    if !one.example.is_empty() {
        line(text, &format!("\n```toml\n{}```", one.example));
    }
}

/// The entry of a key: what it takes, what holds without it, what it does, an example.
fn item(key: &KeyInfo, of: &Section, all: &[Section]) -> String {
    let path = format!("{}.{}", of.path, key.name);
    let short = short_form(&path).map(|name| format!("the `{name}` of a table, or "));
    let mut text = format!("- **`{}`**: {}{}", key.name, short.unwrap_or_default(), taken(key));
    match &key.need {
        Need::Default(value) => {
            let _ = write!(text, ", default `{value}`");
        }
        _ if is_required(&of.path, key) => text.push_str(", required"),
        _ => text.push_str(", optional"),
    }
    let rule = if key.rule == "format" { String::new() } else { format!(" ({})", key.rule) };
    let _ = write!(text, "{rule}. {}", key.doc.replace('\n', " "));
    if matches!(key.kind, Kind::Table { .. }) {
        let here = |one: &&Section| one.path == path || one.also.contains(&path);
        if let Some(one) = all.iter().find(here) {
            let _ = write!(text, " See [`{}`](#{}).", one.head, anchor(&one.path));
        }
    }
    if let Some(example) = key.example {
        let _ = write!(text, " Example: `{example}`");
    }
    text
}

/// What a key takes, in words.
fn taken(key: &KeyInfo) -> String {
    let is_list = key.need == Need::List;
    match &key.kind {
        Kind::Table { .. } if is_list => "tables".to_owned(),
        Kind::Table { .. } => "a table".to_owned(),
        Kind::Leaf { words, expected, .. } => {
            let one = match words.is_empty() {
                true => (*expected).to_owned(),
                false => {
                    words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(" | ")
                }
            };
            if is_list { format!("list, each {one}") } else { one }
        }
    }
}

/// Files beside the main one: key, what it names, what is in it.
const OTHER_FILES: &[(&str, &str, &str)] = &[
    (
        "`include` of [`[server]`](#server)",
        "any number, by pattern",
        "TOML: tables `[[organization]]` and `[[expect]]` as in the main file, in the order of the names; no other \
         table, and no further `include`. Schema: [include.schema.json](include.schema.json)",
    ),
    (
        "`directory` of [`[[organization]]`](#organization)",
        "one or several",
        "users and groups, in TOML or, where the name ends in `.csv`, in CSV: [below](#the-file-of-directory). \
         Schema: [directory.schema.json](directory.schema.json)",
    ),
    (
        "`certificate` and `key` of [`tls`](#listenertls)",
        "one each",
        "PEM: the chain, the server's own certificate first; the private key (PKCS#8, PKCS#1 or SEC1), without \
         a password",
    ),
    (
        "`roots` of [`[[organization.route]]`](#organizationroute)",
        "one",
        "PEM: the certificates that are trusted instead of the system's",
    ),
    (
        "`password_file` of [`auth`](#organizationrouteauth)",
        "one",
        "the password and nothing else; one line end behind it is left out; at most 4,096 octets",
    ),
];

fn other_files(text: &mut String) {
    line(text, "\n## Other files\n");
    paragraph(
        text,
        "What the main file names beside itself. Relative paths start at the directory of the main file, also \
         those in an included file. Each is read with it and watched like it: a change takes effect as one of \
         the main file does, and a fault is told with its own line.",
        0,
    );
    line(text, "\n| named by | how many | holds |\n| --- | --- | --- |");
    for (key, count, holds) in OTHER_FILES {
        line(text, &format!("| {key} | {count} | {holds} |"));
    }
}

fn directory_file(text: &mut String) {
    line(text, "\n## The file of `directory`\n");
    paragraph(
        text,
        "In TOML: tables `[[user]]` and `[[group]]`, with the keys of \
         [`[[organization.user]]`](#organizationuser) and \
         [`[[organization.group]]`](#organizationgroup), and nothing else.",
        0,
    );
    line(
        text,
        "\n```toml\n[[user]]\naddress = \"marie@solarmora.com\"\norg_unit = \"/sales\"\n\n\
         [[group]]\naddress = \"team@solarmora.com\"\nmembers = [\"marie@solarmora.com\"]\n```\n",
    );
    paragraph(
        text,
        "In CSV (RFC 4180), where the name ends in `.csv`: the first row names the columns, in any order; only \
         `address` must be there. Columns are divided by commas, or, where the first row has none, by semicolons \
         or tabs. A mark of the byte order, blank rows and blanks around a cell do not count.",
        0,
    );
    line(text, "\n| column | holds |\n| --- | --- |");
    for (column, holds) in raw::CSV_COLUMNS {
        line(text, &format!("| `{column}` | {holds} |"));
    }
    line(
        text,
        "\n```csv\nkind,address,aliases,org_unit,members\n\
         user,marie@solarmora.com,m.paul@solarmora.com,/sales,\n\
         group,team@solarmora.com,,,marie@solarmora.com leads@solarmora.com\n```",
    );
}

/// What a rendered page makes of a head: letters alone.
fn anchor(path: &str) -> String {
    path.replace('.', "")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Breaks a paragraph at blanks outside code, lines after the first indented twice `depth`.
fn paragraph(text: &mut String, paragraph: &str, depth: usize) {
    let leading = paragraph.len() - paragraph.trim_start().len();
    let (indent, told) = paragraph.split_at(leading);
    text.push_str(indent);
    let mut column = leading;
    for (place, word) in words(told).into_iter().enumerate() {
        let wide = word.chars().count();
        if place > 0 && column + 1 + wide > WIDTH {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
            column = 2 * depth;
        } else if place > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += wide;
    }
    text.push('\n');
}

/// What stands between blanks, with code in one piece.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut from, mut code) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        code ^= letter == '`';
        if letter == ' ' && !code {
            words.extend(text.get(from..at).filter(|word| !word.is_empty()));
            from = at + 1;
        }
    }
    words.extend(text.get(from..).filter(|word| !word.is_empty()));
    words
}
