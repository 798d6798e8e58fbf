//! The octets of a notice: multipart/report (RFC 3462) with message/delivery-status (RFC 3464).

use waypost_types::{Body, Delivery, Domain, Mailbox, QueueId};

use crate::notice::{Action, Kind, Line, Notice, Returned};

pub(crate) struct Report {
    pub(crate) bytes: Vec<u8>,
    pub(crate) header_size: u64,
    pub(crate) body: Body,
}

pub(crate) fn report(notice: &Notice, id: QueueId, hostname: &Domain, original: &[u8]) -> Report {
    // A message with lines that SMTP does not carry comes back as its header, with those lines folded.
    let whole = notice.returned() == Returned::Whole && !original.split(is_lf).any(is_long);
    let global = is_global(notice);
    let header = usize::try_from(notice.entry.header_size).unwrap_or(usize::MAX);
    let returned = match original.get(..header) {
        Some(header) if !whole => header,
        _ => original,
    };
    let (mut explanation, mut statuses) = (Lines::default(), Lines::default());
    statuses.utf8 = global;
    explain(&mut explanation, notice, hostname);
    delivery_status(&mut statuses, notice, hostname);
    let boundary = boundary(id, [&explanation.bytes, &statuses.bytes, returned]);

    let mut parts = Lines::default();
    parts.line(&format!("--{boundary}"));
    parts.line("Content-Type: text/plain; charset=utf-8");
    parts.eight_bit();
    parts.line("");
    parts.bytes.append(&mut explanation.bytes);
    parts.line(&format!("--{boundary}"));
    let status = if global { "global-delivery-status" } else { "delivery-status" };
    parts.line(&format!("Content-Type: message/{status}"));
    if global {
        parts.eight_bit();
    }
    parts.line("");
    parts.bytes.append(&mut statuses.bytes);
    if !returned.is_empty() {
        parts.line(&format!("--{boundary}"));
        let kind = match (whole, header_is_global(notice, returned)) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        parts.line(&format!("Content-Type: {kind}"));
        parts.eight_bit();
        parts.line("");
        for line in notice.entry.trace.lines() {
            parts.line(line);
        }
        parts.stuffed(returned);
    }
    parts.line(&format!("--{boundary}--"));

    let mut message = Lines::default();
    message.line(&format!("Date: {}", notice.at.rfc5322()));
    message.line(&format!("From: Mail delivery <mailer-daemon@{hostname}>"));
    message.line(&format!("To: <{}>", notice.to));
    let subject = match notice.action() {
        Action::Failed => "Not delivered: your message could not be delivered",
        Action::Delayed => "Delayed: your message waits to be delivered",
        Action::Relayed => "Relayed: your message was passed on",
        Action::Delivered => "Delivered: your message has arrived",
    };
    message.line(&format!("Subject: {subject}"));
    message.line(&format!("Message-ID: <{id}@{hostname}>"));
    message.line("Auto-Submitted: auto-replied");
    message.line("MIME-Version: 1.0");
    message.line(&format!("Content-Type: multipart/report; report-type={status};"));
    message.line(&format!("\tboundary=\"{boundary}\""));
    message.eight_bit();
    message.line("");
    let header_size = u64::try_from(message.bytes.len()).unwrap_or(u64::MAX);
    message.bytes.extend_from_slice(&parts.bytes);
    let body = if message.bytes.is_ascii() { Body::SevenBit } else { Body::EightBitMime };
    Report { bytes: message.bytes, header_size, body }
}

/// Whether an address in the report is not ASCII: then it takes the forms of RFC 6533.
fn is_global(notice: &Notice) -> bool {
    let deliveries = notice.lines.iter().filter_map(|line| delivery(notice, line));
    deliveries.into_iter().any(|delivery| delivery.recipient.needs_smtputf8())
}

/// Whether what is returned begins with a header that only SMTPUTF8 may carry.
fn header_is_global(notice: &Notice, returned: &[u8]) -> bool {
    let size = usize::try_from(notice.entry.header_size).unwrap_or(usize::MAX);
    let header = returned.get(..size).unwrap_or(returned);
    notice.entry.parameters.smtputf8 && !header.is_ascii()
}

/// A boundary that stands in none of the parts.
fn boundary(id: QueueId, parts: [&[u8]; 3]) -> String {
    let stands_in =
        |part: &[u8], text: &str| part.windows(text.len()).any(|window| window == text.as_bytes());
    let mut boundary = format!("=_{id}");
    // What others wrote cannot know the id but by guessing: at most a few turns.
    while parts.iter().any(|part| stands_in(part, &boundary)) && boundary.len() < 60 {
        boundary.push('_');
    }
    boundary
}

/// The part for people: for each delivery its address, the host, its reply, and what to do.
fn explain(out: &mut Lines, notice: &Notice, hostname: &Domain) {
    out.line(&format!("This is the mail server {hostname}."));
    out.line("");
    let accepted = notice.entry.accepted_at.rfc5322();
    for line in &notice.lines {
        let Some(delivery) = delivery(notice, line) else { continue };
        let (what, until) = match line.kind {
            Kind::Failed | Kind::Insecure => ("could not be delivered to", None),
            Kind::Expired => ("could not be delivered in time to", None),
            Kind::Delayed { until } => ("could not yet be delivered to", Some(until)),
            Kind::Relayed => ("was passed on, to a system that does not report, for", None),
            Kind::Delivered => ("was delivered to", None),
        };
        out.wrapped("", &format!("Your message of {accepted} {what}"));
        out.line("");
        out.line(&format!("    <{}>", delivery.original_recipient));
        if delivery.recipient != delivery.original_recipient {
            out.line(&format!("    (sent on to <{}>)", delivery.recipient));
        }
        out.line("");
        match &line.host {
            Some(host) => out.wrapped("", &format!("The server {host} said:")),
            None => out.wrapped("", &format!("On the way to {}:", delivery.destination)),
        }
        out.line("");
        out.wrapped("    ", &line.reply.to_string());
        out.line("");
        if let Some(until) = until {
            out.wrapped("", &format!("It is tried again until {}.", until.rfc5322()));
        }
        out.wrapped("", line.advice());
        out.line("");
    }
    out.wrapped("", &format!("The message is known here as {}.", notice.entry.id));
    out.line("");
}

fn delivery_status(out: &mut Lines, notice: &Notice, hostname: &Domain) {
    let entry = &notice.entry;
    if let Some(envid) = &entry.parameters.envid {
        out.field("Original-Envelope-Id", &decoded_xtext(envid));
    }
    out.field("Reporting-MTA", &format!("dns; {hostname}"));
    out.field("Arrival-Date", &entry.accepted_at.rfc5322());
    for line in &notice.lines {
        let Some(delivery) = delivery(notice, line) else { continue };
        out.line("");
        if let Some(orcpt) = &delivery.orcpt {
            let (kind, address) = orcpt.split_once(';').unwrap_or(("rfc822", orcpt));
            out.field("Original-Recipient", &format!("{kind}; {}", decoded_xtext(address)));
        }
        out.field("Final-Recipient", &recipient(&delivery.recipient, out.utf8));
        out.field("Action", line.kind.action().as_str());
        out.field("Status", &line.status().to_string());
        if let Some(host) = &line.host {
            let name = match host.host.ip() {
                Some(ip) => format!("[{ip}]"),
                None => host.host.to_string(),
            };
            out.field("Remote-MTA", &format!("dns; {name}"));
        }
        out.field("Diagnostic-Code", &format!("smtp; {}", line.reply));
        out.field("Last-Attempt-Date", &notice.at.rfc5322());
        if let Kind::Delayed { until } = line.kind {
            out.field("Will-Retry-Until", &until.rfc5322());
        }
    }
    out.line("");
}

fn delivery<'a>(notice: &'a Notice, line: &Line) -> Option<&'a Delivery> {
    notice.entry.deliveries.get(line.place).map(|owed| &owed.delivery)
}

/// An address with its type (RFC 6533 section 3): one that is not ASCII as it is where the report may
/// hold UTF-8, else in its 7-bit form.
fn recipient(mailbox: &Mailbox, utf8: bool) -> String {
    let text = mailbox.to_string();
    if text.is_ascii() {
        return format!("rfc822; {text}");
    }
    let mut out = String::from("utf-8; ");
    for c in text.chars() {
        match c {
            '!'..='~' if c != '\\' && c != '+' && c != '=' => out.push(c),
            c if utf8 && !c.is_ascii() && !c.is_control() && !c.is_whitespace() => out.push(c),
            c => out.push_str(&format!("\\x{{{:X}}}", u32::from(c))),
        }
    }
    out
}

/// What xtext stands for (RFC 3461 section 4), or itself when that is not printable ASCII.
fn decoded_xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let plain = match c {
            '+' => {
                let digits: String = rest.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).ok().map(char::from)
            }
            c => Some(c),
        };
        match plain {
            Some(c @ ' '..='~') => out.push(c),
            _ => return text.chars().filter(char::is_ascii_graphic).collect(),
        }
    }
    out
}

/// Writes dot-stuffed lines that end in CR LF.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Fields may hold UTF-8.
    utf8: bool,
}

const WIDTH: usize = 76;
/// Octets of the longest line that SMTP carries, CR LF not counted (RFC 5321 section 4.5.3.1.6).
const LONGEST: usize = 998;

fn is_lf(octet: &u8) -> bool {
    *octet == b'\n'
}

/// Whether a line, without its LF, is longer than SMTP carries.
fn is_long(line: &[u8]) -> bool {
    line.strip_suffix(b"\r").unwrap_or(line).len() > LONGEST
}

impl Lines {
    fn line(&mut self, text: &str) {
        if text.starts_with('.') {
            self.bytes.push(b'.');
        }
        self.bytes.extend(text.bytes().filter(|b| !matches!(b, b'\r' | b'\n' | 0)));
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn eight_bit(&mut self) {
        self.line("Content-Transfer-Encoding: 8bit");
    }

    /// Text broken at blanks; a word is never broken.
    fn wrapped(&mut self, indent: &str, text: &str) {
        for line in fill(text, WIDTH - indent.len()) {
            self.line(&format!("{indent}{line}"));
        }
    }

    /// A header field, in ASCII unless UTF-8 is allowed, folded at blanks.
    fn field(&mut self, name: &str, value: &str) {
        let ascii: String = value
            .chars()
            .map(|c| match c {
                ' '..='~' => c,
                c if c.is_whitespace() => ' ',
                c if self.utf8 && !c.is_ascii() && !c.is_control() => c,
                _ => '?',
            })
            .collect();
        for (place, line) in fill(&format!("{name}: {ascii}"), WIDTH).iter().enumerate() {
            let indent = if place == 0 { "" } else { " " };
            self.line(&format!("{indent}{line}"));
        }
    }

    /// Lines that are dot-stuffed already; an unended last one is ended, a long one is folded.
    fn stuffed(&mut self, text: &[u8]) {
        if text.split(is_lf).any(is_long) {
            for line in text.split_inclusive(is_lf) {
                for (place, piece) in line.chunks(LONGEST - 1).enumerate() {
                    // A piece that is only the line's end needs no line of its own.
                    if place > 0 && !matches!(piece, [b'\r', b'\n'] | [b'\n']) {
                        self.bytes.extend_from_slice(b"\r\n ");
                    }
                    self.bytes.extend_from_slice(piece);
                }
            }
        } else {
            self.bytes.extend_from_slice(text);
        }
        if !text.ends_with(b"\r\n") {
            self.bytes.extend_from_slice(b"\r\n");
        }
    }
}

fn fill(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
