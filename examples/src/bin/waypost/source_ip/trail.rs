//! A message's `Received` lines with what became of each, and the boundary of trust among them.

use std::net::IpAddr;

use serde::Serialize;
use waypost_inbound::{
    Because, Format, HopReport, Hops, InboundGateway, OwnLine, Reading, Skipped, Source, TraceLine,
};
use waypost_types::HeaderBlock;

use crate::{dates, table};

/// Lines of one message that are kept; of the rest there is a number.
const MOST: usize = 1000;

/// Characters of a name.
const NAME: usize = 255;

/// Characters of a name in a table.
const NAME_IN_TABLE: usize = 36;

/// Where a message came from, and by which way.
#[derive(Serialize)]
pub(super) struct Trail {
    #[serde(flatten)]
    pub(super) source: Source,
    /// The hops that were looked at, as the batch form tells them.
    hops: Vec<HopReport>,
    /// How many more hops were passed over.
    #[serde(skip_serializing_if = "is_zero")]
    more_hops: usize,
    /// All lines, newest first.
    pub(super) trace: Vec<Line>,
    /// How many more lines there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) more_lines: usize,
    /// So many of the lines, from the top, were written by the receiving server and by gateways that
    /// the list trusts; anybody may have written the others. Null for an internal message.
    pub(super) trusted_lines: Option<usize>,
}

/// One `Received` line.
#[derive(Serialize)]
pub(crate) struct Line {
    pub(crate) line: usize,
    pub(crate) kind: &'static str,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) host: Option<String>,
    pub(crate) helo: Option<String>,
    pub(crate) by: Option<String>,
    pub(crate) with: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) format: Format,
    /// Seconds since 1970.
    pub(crate) date: Option<i64>,
    /// Seconds since the next line below that has a date.
    pub(crate) delay: Option<i64>,
    /// What it is for the source IP, where one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
}

/// What a line is for the source IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    NoHop,
    Own,
    Gateway,
    Private,
    Unreadable,
    Source,
    NotLookedAt,
}

impl Trail {
    /// Follows a stored message's lines.
    pub(super) fn of(gateway: &InboundGateway, client: IpAddr, header: &HeaderBlock<'_>) -> Self {
        let (source, hops) = gateway.source_with_hops(client, OwnLine::FindOut, header);
        let Hops { listed, left_out, .. } = hops;
        let mut reports = listed.iter();
        let mut left_out_reports = left_out;
        let (mut trace, mut more_lines) = (Vec::new(), 0);
        let (mut own, mut chosen, mut first_hop) = (None, None, true);
        for (field, number) in header.fields().filter(|field| field.is("Received")).zip(1..) {
            let read = TraceLine::of(field.raw);
            let role = if read.reading == Reading::By {
                Role::NoHop
            } else if first_hop && read.reading.ip() == Some(client) {
                own = Some(number);
                Role::Own
            } else if reports.len() == 1 && left_out_reports > 0 {
                // The last report is of the one chosen, behind those that are not listed.
                left_out_reports -= 1;
                Role::NotLookedAt
            } else {
                reports.next().map_or(Role::NotLookedAt, Role::of)
            };
            first_hop &= read.reading == Reading::By;
            if role == Role::Source {
                chosen = Some(number);
            }
            if trace.len() < MOST {
                trace.push(Line::of(number, &read, Some(role)));
            } else {
                more_lines += 1;
            }
        }
        delays(&mut trace);
        let trusted_lines = match source.because {
            Because::Internal => None,
            Because::FirstExternal | Because::PreviousHop => chosen,
            _ => Some(own.unwrap_or(0)),
        };
        Self { source, hops: listed, more_hops: left_out, trace, more_lines, trusted_lines }
    }

    /// The line that names the source.
    pub(super) fn source_line(&self) -> Option<&Line> {
        let named = |line: &&Line| line.ip.is_some() && line.ip == self.source.ip;
        self.trace.iter().filter(|line| line.kind != "by").find(named)
    }
}

impl Line {
    pub(crate) fn of(number: usize, read: &TraceLine<'_>, role: Option<Role>) -> Self {
        let text = |part: Option<&[u8]>| part.map(|part| table::shown(part, NAME));
        Self {
            line: number,
            kind: match read.reading {
                Reading::From(_) => "from",
                Reading::By => "by",
                Reading::Unreadable(_) => "unreadable",
            },
            ip: read.reading.ip(),
            host: text(read.host),
            helo: text(read.helo),
            by: text(read.by),
            with: text(read.with),
            id: text(read.id),
            format: read.format,
            date: read.date.and_then(dates::seconds),
            delay: None,
            role,
        }
    }

    /// The client's names, each short enough for a table: the one that the server found out, and what
    /// the client called itself.
    pub(crate) fn names(&self) -> String {
        let short = |name: &Option<String>| {
            name.as_ref().map(|name| table::shown(name.as_bytes(), NAME_IN_TABLE))
        };
        let (host, helo) = (short(&self.host), short(&self.helo));
        let by = || short(&self.by).map_or_else(|| "-".to_owned(), |by| format!("by {by}"));
        match (self.kind, &host, &helo) {
            ("by", ..) => by(),
            ("unreadable", _, Some(first)) => format!("from {first}"),
            (_, Some(host), Some(helo)) if is_same(host, helo) => host.clone(),
            (_, Some(host), Some(helo)) => format!("{host} (HELO {helo})"),
            (_, Some(host), None) => host.clone(),
            (_, None, Some(helo)) => format!("HELO {helo}"),
            (_, None, None) => "-".to_owned(),
        }
    }
}

/// Whether two names are one: case and a dot at the end say nothing.
fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

impl Role {
    fn of(report: &HopReport) -> Self {
        match report.skipped {
            None => Self::Source,
            Some(Skipped::Gateway) => Self::Gateway,
            Some(Skipped::Private) => Self::Private,
            Some(_) => Self::Unreadable,
        }
    }
}

/// The time that the message spent before each line, since the next one below that has a date.
pub(crate) fn delays(lines: &mut [Line]) {
    let mut below = None;
    for line in lines.iter_mut().rev() {
        if let Some(date) = line.date {
            line.delay = below.map(|below: i64| date.saturating_sub(below));
            below = Some(date);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
