//! `waypost test-tag`: which header lines an expression for a spam tag matches (E9).

use std::io::{self, Write as _};

use serde::Serialize;
use waypost_inbound::{SpamTag, TagMatch, TagNote, TagVerdict};
use waypost_types::HeaderBlock;

use crate::answer::{Answer, Failure};
use crate::messages::{self, Message};
use crate::progress::Progress;
use crate::{batch, table};

/// Show which header lines of messages a spam tag's expression matches, and the number taken (E9)
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The expression; each header field is matched as one line `Name: value`, with case
    #[arg(value_name = "REGEX")]
    regex: String,
    /// The number that the only capture group must reach; without it any match is spam
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    score_at_least: Option<f64>,
    /// Messages, headers alone, mbox files, Maildir folders, folders of .eml files; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Answer one JSON object for each message
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Reply<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<u64>,
    #[serde(flatten)]
    verdict: TagVerdict,
    matches: Vec<TagMatch>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let tag = SpamTag::new(&arguments.regex, arguments.score_at_least)
        .map_err(|error| Failure::Input(error.to_string()))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut progress = Progress::new(false);
    let ended = messages::each(&arguments.files, &mut progress, |message| {
        one_message(arguments, &tag, message, &mut out)
    })?;
    out.flush()?;
    Ok(ended)
}

fn one_message(
    arguments: &Arguments,
    tag: &SpamTag,
    message: Message<'_>,
    out: &mut impl io::Write,
) -> Result<(), Failure> {
    let Message { file, number, .. } = message;
    let header = HeaderBlock::of(message.header);
    let matches = tag.matches(&header).collect();
    let reply = Reply { file, message: number, verdict: tag.verdict(&header), matches };
    if arguments.json {
        return batch::write_line(out, &reply);
    }
    let lines = header.fields().count();
    writeln!(out, "{}: {}", message.place(), verdict(&reply.verdict, arguments.score_at_least))?;
    if reply.matches.is_empty() {
        writeln!(out, "  none of its {lines} header lines matches\n")?;
        return Ok(());
    }
    let rows: Vec<_> = reply.matches.iter().map(row).collect();
    table::write(out, "  ", ["number", "spam", "line"], &rows)?;
    writeln!(out, "  {} of {lines} header lines match\n", rows.len())?;
    Ok(())
}

fn verdict(verdict: &TagVerdict, limit: Option<f64>) -> String {
    let word = if verdict.spam { "spam" } else { "not spam" };
    match (verdict.score, limit) {
        (Some(score), Some(limit)) if verdict.spam => {
            format!("{word}, the largest number is {score}, {limit} or more is spam")
        }
        (Some(score), Some(limit)) => {
            format!("{word}, the largest number is {score}, less than {limit}")
        }
        _ => word.to_owned(),
    }
}

fn row(found: &TagMatch) -> [String; 3] {
    let number = match (&found.note, found.score) {
        (Some(TagNote::NotANumber(text)), _) => format!("`{}` is none", shown(text)),
        (_, Some(score)) => score.to_string(),
        (_, None) => "-".to_owned(),
    };
    let spam = match (found.spam, &found.note) {
        (true, _) => "yes",
        (false, None) => "no",
        (false, Some(_)) => "no match",
    };
    [number, spam.to_owned(), shown(&found.line)]
}

fn shown(text: &str) -> String {
    table::shown(text.as_bytes(), 120)
}
