//! `waypost test-tag`: which header lines an expression for a spam tag matches (E9).

use std::io::{self, Write as _};

use serde::Serialize;
use waypost_inbound::{SpamTag, TagMatch, TagNote, TagVerdict};
use waypost_types::HeaderBlock;

use crate::answer::{self, Answer, Failure};
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
    /// Messages, or headers alone; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// Answer one JSON object for each file
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Reply<'a> {
    file: &'a str,
    #[serde(flatten)]
    verdict: TagVerdict,
    matches: Vec<TagMatch>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let tag = SpamTag::new(&arguments.regex, arguments.score_at_least)
        .map_err(|error| Failure::Input(error.to_string()))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut ended = Answer::Done;
    for file in &arguments.files {
        match one_file(arguments, &tag, file, &mut out) {
            Err(Failure::Input(error)) => {
                out.flush()?;
                answer::tell(&error);
                ended = Answer::Unusable;
            }
            other => other?,
        }
    }
    out.flush()?;
    Ok(ended)
}

fn one_file(
    arguments: &Arguments,
    tag: &SpamTag,
    file: &str,
    out: &mut impl io::Write,
) -> Result<(), Failure> {
    let message = answer::read_file(file)?;
    let header = HeaderBlock::of(&message);
    let reply =
        Reply { file, verdict: tag.verdict(&header), matches: tag.matches(&header).collect() };
    if arguments.json {
        return batch::write_line(out, &reply);
    }
    let lines = header.fields().count();
    writeln!(out, "{file}: {}", verdict(&reply.verdict, arguments.score_at_least))?;
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
