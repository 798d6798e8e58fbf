//! `waypost received`: what single Received lines say about their client.

use std::io::{self, Write as _};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_inbound::{Place, Reading, TraceLine, Unreadable};
use waypost_types::HeaderBlock;

use crate::answer::{Answer, Failure};
use crate::messages::{self, Message};
use crate::progress::Progress;
use crate::source_ip::trail::{Line, delays};
use crate::{batch, dates, table};

/// Read the client's address from single Received lines (E4)
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Messages, headers or Received lines alone, mbox files, Maildir folders, folders of .eml files; `-` is
    /// stdin
    #[arg(value_name = "FILE", required_unless_present = "batch")]
    files: Vec<String>,
    /// Read JSON lines {"id", "line"} on stdin and answer {"id", "kind", "ip"}
    #[arg(long, conflicts_with = "files")]
    batch: bool,
    /// Answer one JSON object for each line; those of --batch are JSON in any case
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Question {
    line: String,
}

#[derive(Serialize)]
struct Reply {
    kind: &'static str,
    ip: Option<IpAddr>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    if arguments.batch {
        return batch::run(answer);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut progress = Progress::new(false);
    let ended = messages::each(&arguments.files, &mut progress, |message| {
        one_message(arguments.json, message, &mut out)
    })?;
    out.flush()?;
    Ok(ended)
}

/// What is said about one line of a message.
#[derive(Serialize)]
struct LineReply<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<u64>,
    place: &'static str,
    #[serde(flatten)]
    line: &'a Line,
}

fn one_message(json: bool, message: Message<'_>, out: &mut impl io::Write) -> Result<(), Failure> {
    let header = HeaderBlock::of(message.header);
    let mut lines = Vec::new();
    let mut places = Vec::new();
    for (field, number) in header.fields().filter(|field| field.is("Received")).zip(1..) {
        let read = TraceLine::of(field.raw);
        places.push(place(&read.reading));
        lines.push(Line::of(number, &read, None));
    }
    delays(&mut lines);
    let Message { file, number, .. } = message;
    if json {
        for (line, place) in lines.iter().zip(places) {
            batch::write_line(out, &LineReply { file, message: number, place, line })?;
        }
        return Ok(());
    }
    writeln!(out, "{}", message.place())?;
    if lines.is_empty() {
        writeln!(out, "  no Received lines\n")?;
        return Ok(());
    }
    let rows: Vec<_> = lines
        .iter()
        .zip(places)
        .map(|(line, place)| {
            [
                line.line.to_string(),
                line.kind.to_owned(),
                line.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
                place.to_owned(),
                line.names(),
                line.format.to_string(),
                line.delay.map_or_else(|| "-".to_owned(), dates::span),
            ]
        })
        .collect();
    let heading = ["line", "kind", "address", "found", "host", "format", "delay"];
    table::write(out, "  ", heading, &rows)?;
    writeln!(out)?;
    Ok(())
}

/// Where the address stands, or why there is none.
fn place(reading: &Reading) -> &'static str {
    match reading {
        Reading::By => "no hop",
        Reading::From(hop) => match hop.place {
            Place::ClientInformation => "client information",
            Place::Literal => "literal",
        },
        Reading::Unreadable(because) => match because {
            Unreadable::NoAddress => "no address",
            Unreadable::Masked => "masked",
            Unreadable::Ambiguous => "ambiguous",
            Unreadable::Unbalanced => "parentheses do not match",
            _ => "not understood",
        },
    }
}

fn answer(question: Question) -> Result<Reply, String> {
    let line = batch::bytes("line", &question.line)?;
    let reading = Reading::of(value(&line)?);
    let kind = match reading {
        Reading::From(_) => "from",
        Reading::By => "by",
        Reading::Unreadable(_) => "unreadable",
    };
    Ok(Reply { kind, ip: reading.ip() })
}

/// The value of a field named `Received`.
fn value(line: &[u8]) -> Result<&[u8], String> {
    let mut parts = line.splitn(2, |byte| *byte == b':');
    match (parts.next(), parts.next()) {
        (Some(name), Some(value)) if name.trim_ascii().eq_ignore_ascii_case(b"received") => {
            Ok(value)
        }
        _ => Err("`line` is no Received field (E4); begin it with `Received:`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_from_by_or_unreadable_e4() {
        for (line, want) in [
            ("Received: from a (b [192.0.2.1]) by c; date", Ok(("from", Some("192.0.2.1")))),
            (
                "received :\r\n from a (b [192.0.2.1])\r\n by c; date\r\n",
                Ok(("from", Some("192.0.2.1"))),
            ),
            ("Received: from a ([IPv6:2001:db8::1]) by c; d", Ok(("from", Some("2001:db8::1")))),
            ("Received: by 192.0.2.1 with SMTP id x; date", Ok(("by", None))),
            ("Received:", Ok(("by", None))),
            ("Received: from localhost by c; date", Ok(("unreadable", None))),
            ("Received: from a (b\u{e9} [192.0.2.1]) by c; date", Ok(("from", Some("192.0.2.1")))),
            ("X-Received: from a (b [192.0.2.1]) by c; date", Err("begin it with `Received:`")),
            ("Received: from a € by c", Err("U+20AC")),
            ("", Err("begin it with `Received:`")),
        ] {
            let got = answer(Question { line: line.to_owned() });
            match (got, want) {
                (Ok(reply), Ok((kind, ip))) => {
                    assert_eq!(
                        (reply.kind, reply.ip.map(|ip| ip.to_string()).as_deref()),
                        (kind, ip),
                        "{line}"
                    );
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{line}: {error}"),
                (got, _) => panic!("{line}: {:?}", got.map(|reply| reply.kind)),
            }
        }
    }
}
