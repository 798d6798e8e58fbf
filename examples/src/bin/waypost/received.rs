//! `waypost received`: what single Received lines say about their client.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use waypost_inbound::Reading;

use crate::answer::{Answer, Failure};
use crate::batch;

/// Read the client's address from single Received lines (E4)
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Read JSON lines {"id", "line"} on stdin and answer {"id", "kind", "ip"}
    #[arg(long, required = true)]
    batch: bool,
    /// The answers are JSON in any case
    #[arg(long, hide = true)]
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
    let Arguments { batch: _, json: _ } = arguments;
    batch::run(answer)
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
