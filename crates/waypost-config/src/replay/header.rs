//! What of a header is recorded: no more than decisions depend on.

use std::borrow::Cow;
use std::collections::HashSet;

use waypost_inbound::{Reading, TraceLine};
use waypost_rules::FromField;
use waypost_types::{Domain, Field, HeaderBlock, Mailbox};

use super::local_parts::{LocalPartKey, domain_of};
use crate::policy::Policy;

/// The most octets of a header that are recorded; what is beyond is [cut](Kept::cut).
pub const MAX_HEADER: usize = 64 << 10;
/// From so many octets on, `Received` lines are written in their shortest form.
const LONG: usize = MAX_HEADER / 2;
/// The characters of one recorded line.
const LONGEST_LINE: usize = 998;
/// Addresses of one `From:` field.
const MOST_AUTHORS: usize = 100;
/// Lines that a spam tag matches.
const MOST_TAGGED: usize = 20;

/// What is recorded of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The fields, one line each, and the empty line behind them.
    pub text: String,
    /// Something did not find room.
    pub cut: bool,
}

/// The fields of a header that decisions depend on, or may once a spam tag is configured.
///
/// Kept are the addresses of `From:` without names; `Received:` lines, each on one line;
/// `DKIM-Signature:` with its domain, selector and list of signed fields alone; fields whose name is that of a filter's verdict (`X-Spam-Score`), at most 998 characters of each, but no
/// reports, which quote messages; and lines that a spam tag of `policy` matches. Never the subject,
/// nor the body. With a `key`, local parts are hashed, and a `Received:` line is written anew from
/// what is read in it, since names may stand anywhere; our own marks of loops are left out then, since
/// they are hashes of addresses without a key.
///
/// What a decision reads from the kept fields is what it reads from the whole header, unless
/// [`Kept::cut`] says otherwise or the field of a tag that is not configured yet is left out. Time is
/// linear in the header.
#[must_use]
pub fn kept_header(header: &HeaderBlock<'_>, policy: &Policy, key: Option<&LocalPartKey>) -> Kept {
    let mut kept = Keeping { text: String::new(), cut: false, key };
    let mut written = HashSet::new();
    for field in header.fields() {
        if field.is("from") {
            kept.from(&field);
        } else if field.is("received") {
            kept.received(&field);
        } else if field.is("dkim-signature") {
            kept.signature(&field);
        } else if is_of_interest(field.name) {
            let line = whole(&field);
            kept.add(&line);
            written.insert(line);
        }
    }
    let tags = policy.organizations().iter().filter_map(|organization| {
        organization.inbound_gateway.as_ref().and_then(|gateway| gateway.spam_tag())
    });
    for tag in tags {
        for found in tag.matches(header).take(MOST_TAGGED) {
            let name = found.line.split(':').next().unwrap_or_default();
            let known = ["from", "received", "dkim-signature"];
            let is_known = known.iter().any(|known| name.eq_ignore_ascii_case(known));
            if !is_known && !holds_subject(name) && written.insert(found.line.clone()) {
                kept.add(&found.line);
            }
        }
    }
    kept.text.push_str("\r\n");
    Kept { text: kept.text, cut: kept.cut }
}

struct Keeping<'k> {
    text: String,
    cut: bool,
    key: Option<&'k LocalPartKey>,
}

impl Keeping<'_> {
    /// Adds a line, its addresses hidden if they are to be.
    fn add(&mut self, line: &str) {
        match self.key {
            Some(key) => self.push(&key.hide(line)),
            None => self.push(line),
        }
    }

    fn push(&mut self, line: &str) {
        if self.text.len() + line.len() + 4 > MAX_HEADER {
            self.cut = true;
            return;
        }
        self.text.push_str(line);
        self.text.push_str("\r\n");
    }

    fn from(&mut self, field: &Field<'_>) {
        let one = |value: &str| FromField::read(&HeaderBlock::of(value.as_bytes()));
        let raw = String::from_utf8_lossy(field.raw);
        let read = one(&format!("From:{raw}\r\n\r\n"));
        let FromField::Domains(domains) = &read else { return self.push("From:") };
        self.cut |= domains.len() > MOST_AUTHORS;
        let domains = domains.get(..MOST_AUTHORS).unwrap_or(domains);
        let unfolded = field.unfolded();
        let text = String::from_utf8_lossy(&unfolded);
        let seen: Vec<Mailbox> = addresses(&text);
        let authors: Vec<Mailbox> = domains
            .iter()
            .filter_map(|domain| match domain {
                Some(domain) => {
                    let found = seen.iter().rfind(|one| one.domain() == Some(domain)).cloned();
                    found.or_else(|| somebody(domain))
                }
                None => "unknown@[0.0.0.0]".parse().ok(),
            })
            .collect();
        let line = |authors: &[Mailbox]| {
            let shown: Vec<String> = authors.iter().map(|author| self.shown(author)).collect();
            format!("From: {}", shown.join(", "))
        };
        let line_of = line(&authors);
        if one(&format!("{line_of}\r\n\r\n")) == read || self.cut {
            return self.push(&line_of);
        }
        let plain: Vec<Mailbox> = domains.iter().flatten().filter_map(somebody).collect();
        let line_of = line(&plain);
        self.push(&line_of);
    }

    fn shown(&self, address: &Mailbox) -> String {
        self.key.map_or_else(|| address.to_string(), |key| key.hashed(address).to_string())
    }

    fn received(&mut self, field: &Field<'_>) {
        let unfolded = field.unfolded();
        let text = String::from_utf8_lossy(&unfolded);
        let reading = Reading::of(field.raw);
        let brief = self.text.len() > LONG;
        let as_it_is = self.key.is_none() && !brief && text.len() <= 2 * LONGEST_LINE;
        if as_it_is && is_same(&Reading::of(text.as_bytes()), &reading) {
            return self.push(&format!("Received: {text}"));
        }
        let line = self.rebuilt(&reading, &TraceLine::of(field.raw), &text, brief);
        self.push(&format!("Received: {line}"));
    }

    /// A `Received` line that reads the same, of names, the address, `for` and the date alone.
    fn rebuilt(&self, reading: &Reading, line: &TraceLine<'_>, text: &str, brief: bool) -> String {
        let helo = name(line.helo);
        let marks = if self.key.is_none() { marks(text) } else { "" };
        let mut tail = marks.to_owned();
        if !brief {
            tail = format!(" by {}{marks}", name(line.by));
            if let Some(recipient) = for_clause(text) {
                tail.push_str(&format!(" for <{}>", self.shown(&recipient)));
            }
            if let Some(date) = line.date.and_then(date) {
                tail.push_str(&format!("; {date}"));
            }
        }
        let candidates = match reading {
            Reading::By => {
                vec![format!("by {}{}", name(line.by), date_of(&tail)), "by unknown".into()]
            }
            Reading::Unreadable(_) => vec![format!("from {helo}{tail}"), "from unknown".into()],
            Reading::From(hop) => {
                let ip = literal(hop.ip);
                vec![
                    format!("from {helo} ({} {ip}){tail}", name(line.host)),
                    format!("from {helo} ({ip}){tail}"),
                    format!("from unknown ({ip}){marks}"),
                    format!("from unknown ({ip})"),
                    format!("from {ip}"),
                ]
            }
        };
        let same = |line: &&String| is_same(&Reading::of(line.as_bytes()), reading);
        candidates.iter().find(same).or(candidates.last()).cloned().unwrap_or_default()
    }

    /// Domain, selector and the list of fields; the signature itself proves nothing here.
    fn signature(&mut self, field: &Field<'_>) {
        let unfolded = field.unfolded();
        let text = String::from_utf8_lossy(&unfolded);
        let tag = |wanted: &str| {
            text.split(';').find_map(|tag| {
                let (name, value) = tag.split_once('=')?;
                (name.trim() == wanted).then(|| value.split_ascii_whitespace().collect::<String>())
            })
        };
        let mut line = String::from("DKIM-Signature: v=1");
        for wanted in ["d", "s", "h"] {
            if let Some(value) = tag(wanted) {
                line.push_str(&format!("; {wanted}={}", short(&value)));
            }
        }
        self.add(&line);
    }
}

fn somebody(domain: &Domain) -> Option<Mailbox> {
    Mailbox::new("unknown", domain.clone()).ok()
}

/// The addresses in a text, as they are written.
fn addresses(text: &str) -> Vec<Mailbox> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('@').take(4 * MOST_AUTHORS) {
        let before = text.get(..at).unwrap_or_default();
        let local = before.len() - super::local_parts::local_part_of(before).len();
        let domain = domain_of(text.get(at + 1..).unwrap_or_default());
        let whole = text.get(local..at + 1 + domain.len());
        found.extend(whole.and_then(|whole| whole.parse().ok()));
    }
    found
}

fn is_same(one: &Reading, other: &Reading) -> bool {
    match (one, other) {
        (Reading::From(one), Reading::From(other)) => one.ip == other.ip,
        (Reading::By, Reading::By) | (Reading::Unreadable(_), Reading::Unreadable(_)) => true,
        _ => false,
    }
}

fn literal(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => format!("[{ip}]"),
        std::net::IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

/// A server's name, if it is one.
fn name(bytes: Option<&[u8]>) -> &str {
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let is_name = |text: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        !text.is_empty() && text.len() <= 255 && text.contains('.') && text.chars().all(plain)
    };
    text.filter(is_name).unwrap_or("unknown")
}

/// A date, as far as its characters tell.
fn date(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.split('(').next().unwrap_or_default().trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || " ,:+-".contains(c);
    (text.len() <= 40 && text.chars().all(plain)).then_some(text)
}

fn date_of(tail: &str) -> &str {
    tail.find("; ").and_then(|at| tail.get(at..)).unwrap_or_default()
}

fn for_clause(text: &str) -> Option<Mailbox> {
    let (_, behind) = text.split_once(" for <")?;
    behind.split('>').next()?.parse().ok()
}

fn whole(field: &Field<'_>) -> String {
    let name = String::from_utf8_lossy(field.name);
    let value = field.unfolded();
    let value: Cow<'_, str> = String::from_utf8_lossy(&value);
    short(&format!("{name}: {value}")).to_owned()
}

fn short(text: &str) -> &str {
    let end = text.char_indices().nth(LONGEST_LINE).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

/// The comment of our own marks in a trace line, with a blank before it; empty where there is none.
fn marks(text: &str) -> &str {
    let begin = text.find(" (waypost-mark ");
    let whole = begin.and_then(|begin| text.get(begin..)).unwrap_or_default();
    let end = whole.find(')').map_or(0, |end| end + 1);
    let marks = whole.get(..end).unwrap_or_default();
    let inside = marks.trim_start_matches(" (waypost-mark ").trim_end_matches(')');
    let plain = |c: char| c.is_ascii_hexdigit() || c == ' ';
    if inside.chars().all(plain) { marks } else { "" }
}

/// A name under which filters put their verdict.
fn is_of_interest(name: &[u8]) -> bool {
    const WORDS: [&str; 9] =
        ["spam", "virus", "phish", "malware", "junk", "bulk", "score", "-scl", "dnsbl"];
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let name = name.to_ascii_lowercase();
    let verdict = WORDS.iter().any(|word| name.contains(word));
    verdict && !name.contains("report") && !name.contains("preview") && !holds_subject(&name)
}

fn holds_subject(name: &str) -> bool {
    name.to_ascii_lowercase().contains("subject")
}
