//! The hop table: every Received line, newest first, and what became of it.

use std::io::{self, Write};
use std::net::IpAddr;

use waypost_inbound::{HopReport, Place, Reading, Skipped, Unreadable};
use waypost_types::HeaderBlock;

use crate::table;

/// Columns for a host's name.
const HOST_WIDTH: usize = 40;

/// Writes the lines with the hops that were looked at; a line without a report is none, the
/// receiving server's own, or further down than needed.
pub(super) fn write(
    out: &mut impl Write,
    client: IpAddr,
    header: &HeaderBlock<'_>,
    hops: &[HopReport],
) -> io::Result<()> {
    let mut reports = hops.iter();
    let mut first_hop = true;
    let received = header.fields().filter(|field| field.is("Received")).zip(1_u32..);
    let mut rows = Vec::new();
    for (field, number) in received {
        let reading = Reading::of(field.raw);
        let (address, place, hop) = match &reading {
            Reading::By => ("-".to_owned(), "-", false),
            Reading::From(hop) => (hop.ip.to_string(), place(hop.place), true),
            Reading::Unreadable(because) => ("-".to_owned(), unreadable(*because), true),
        };
        let own = first_hop && reading.ip() == Some(client);
        first_hop &= !hop;
        let (mark, verdict) = match (hop, own) {
            (false, _) => ("", "no hop: does not begin with `from`"),
            (true, true) => ("", "the receiving server's own line"),
            (true, false) => reports.next().map_or(("", "not looked at"), verdict),
        };
        let row = [mark, &number.to_string(), &host(field.raw), &address, place, verdict];
        rows.push(row.map(str::to_owned));
    }
    if rows.is_empty() {
        return writeln!(out, "  no Received lines");
    }
    writeln!(out)?;
    table::write(out, "  ", ["", "line", "received", "address", "found", "verdict"], &rows)?;
    writeln!(out)
}

fn verdict(report: &HopReport) -> (&'static str, &'static str) {
    match report.skipped {
        None => ("=>", "the source IP"),
        Some(Skipped::Gateway) => ("", "passed over: a listed gateway"),
        Some(Skipped::Private) => ("", "passed over: not public"),
        Some(Skipped::Unreadable) => ("", "passed over: not understood"),
        Some(_) => ("", "passed over"),
    }
}

fn place(place: Place) -> &'static str {
    match place {
        Place::ClientInformation => "client information",
        Place::Literal => "literal after from",
    }
}

fn unreadable(because: Unreadable) -> &'static str {
    match because {
        Unreadable::NoAddress => "no address",
        Unreadable::Masked => "masked",
        Unreadable::Ambiguous => "ambiguous",
        Unreadable::Unbalanced => "parentheses do not match",
        _ => "not understood",
    }
}

/// The first two words: `from host`, `by host`.
fn host(value: &[u8]) -> String {
    let mut words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let words: Vec<&[u8]> = words.by_ref().take(2).collect();
    table::shown(&words.join(&b' '), HOST_WIDTH)
}
