//! `waypost diff`: which messages would go elsewhere under another configuration (C9, A12).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use waypost_config::policy::Policy;
use waypost_config::replay::{
    Compared, Comparison, Group, Groups, LocalPartKey, MAX_GROUPS, MAX_LINE, MessageChange,
    Recorded,
};
use waypost_server::{Loaded, record_key_file};

use crate::answer::{self, Answer, Failure};
use crate::progress::Progress;
use crate::{batch, configuration, table};

/// Characters of an address or id in an answer for people.
const WIDTH: usize = 300;

/// Bad lines that are told one by one; further ones are counted.
const TOLD: u64 = 100;

/// List the messages whose fate would change with another configuration (C9)
///
/// Replays recorded messages (`record` in `[server]` writes them) under both configurations. Identical
/// changes are summed up, with three examples of each. Exit status: 0 nothing changes, 1 something
/// does, 2 unusable input, which bad lines are too: they are told, and the rest goes on.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration that stands
    #[arg(value_name = "OLD")]
    old: String,
    /// The configuration that is to come
    #[arg(value_name = "NEW")]
    new: String,
    /// Recorded messages, one JSON object a line; `-` is stdin
    #[arg(long, value_name = "FILE")]
    messages: String,
    /// List every message that changes, with its line, instead of three examples of each change
    #[arg(long)]
    all: bool,
    /// Answer one JSON object a changed message; the summary goes to stderr
    #[arg(long)]
    json: bool,
    /// The key of hashed local parts [default: `record.key` in the spool of OLD, or else of NEW]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// A changed message, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    #[serde(flatten)]
    change: &'a MessageChange,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let (old, old_key) = side(&arguments.old)?;
    let (new, new_key) = side(&arguments.new)?;
    let mut comparison = Comparison::new(&old, &new);
    if let Some(key) = key(arguments.key.as_deref(), &[old_key, new_key])? {
        comparison = comparison.with_key(&key);
    }
    let out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut differing = Differing {
        comparison,
        arguments,
        out,
        groups: Groups::default(),
        messages: 0,
        bad: 0,
        seen: Seen::default(),
    };
    let mut progress = Progress::new(!arguments.all && !arguments.json);
    if arguments.messages == "-" {
        differing.read(&mut io::stdin().lock(), &mut progress)?;
    } else {
        let file = File::open(&arguments.messages).map_err(|error| {
            let file = &arguments.messages;
            Failure::Input(format!(
                "{file}: cannot be read: {error}; name a file that can, or - for stdin"
            ))
        })?;
        progress.expect(file.metadata().map_or(0, |metadata| metadata.len()));
        differing.read(&mut BufReader::with_capacity(1 << 18, file), &mut progress)?;
    }
    progress.finish();
    differing.end()
}

/// A configuration, and where it has its key of hashed local parts.
fn side(path: &str) -> Result<(Arc<Policy>, PathBuf), Failure> {
    let loaded: Loaded = configuration::loaded(path)?;
    let base = loaded.base.clone();
    let policy = configuration::usable(path, loaded)?;
    let key = record_key_file(&policy.server, &base);
    Ok((policy, key))
}

/// The key of hashed local parts: the one that is named, which must be there, or the first of these
/// that is.
fn key(named: Option<&Path>, others: &[PathBuf]) -> Result<Option<LocalPartKey>, Failure> {
    let read = |path: &Path| -> Result<LocalPartKey, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let octets = bytes.len();
        let key =
            bytes.try_into().map_err(|_| format!("it has {octets} octets, and a key has 16"))?;
        Ok(LocalPartKey::new(key))
    };
    match named {
        Some(path) => match read(path) {
            Ok(key) => Ok(Some(key)),
            Err(error) => Err(Failure::Input(format!(
                "{}: the key cannot be read: {error}; name the file `record.key` of the server's spool",
                path.display()
            ))),
        },
        None => Ok(others.iter().find_map(|path| read(path).ok())),
    }
}

/// What the messages as a whole showed.
#[derive(Default)]
struct Seen {
    unresolved: u64,
    unauthenticated: u64,
    cut: u64,
    lost: u64,
}

struct Differing<'a, Output: Write> {
    comparison: Comparison<'a>,
    arguments: &'a Arguments,
    out: Output,
    groups: Groups,
    messages: u64,
    bad: u64,
    seen: Seen,
}

impl<Output: Write> Differing<'_, Output> {
    fn read(&mut self, input: &mut impl BufRead, progress: &mut Progress) -> Result<(), Failure> {
        let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(2);
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            number += 1;
            let name = &self.arguments.messages;
            let failed = |error| Failure::Input(format!("{name}: cannot be read: {error}"));
            let read = input.by_ref().take(most).read_until(b'\n', &mut line).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            progress.advance(read);
            if !line.ends_with(b"\n") && line.len() > MAX_LINE {
                // The rest of it is passed over, a piece at a time.
                progress.advance(skip_line(input).map_err(failed)?);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let recorded = Recorded::read(&line).map_err(|error| error.to_string());
            let compared = recorded.and_then(|recorded| {
                let compared = self.comparison.compare(&recorded);
                compared.map(|compared| (recorded, compared)).map_err(|error| error.to_string())
            });
            match compared {
                Ok((recorded, compared)) => self.take(number, &recorded, &compared)?,
                Err(error) => self.tell_bad(number, &error),
            }
        }
    }

    fn tell_bad(&mut self, number: u64, error: &str) {
        self.bad += 1;
        if self.bad <= TOLD {
            answer::tell(&format!("{}:{number}: {error}", self.arguments.messages));
        }
    }

    fn take(
        &mut self,
        number: u64,
        recorded: &Recorded,
        compared: &Compared,
    ) -> Result<(), Failure> {
        self.messages += 1;
        let seen = &mut self.seen;
        seen.unresolved += u64::from(compared.unresolved);
        seen.unauthenticated += u64::from(compared.unauthenticated);
        seen.cut += u64::from(recorded.cut);
        seen.lost = seen.lost.saturating_add(recorded.lost);
        let Some(change) = &compared.change else { return Ok(()) };
        self.groups.add(number, change);
        if self.arguments.json {
            batch::write_line(&mut self.out, &Line { line: number, change })?;
        } else if self.arguments.all {
            self.write_message(number, recorded, change)?;
        }
        Ok(())
    }

    fn write_message(
        &mut self,
        number: u64,
        recorded: &Recorded,
        change: &MessageChange,
    ) -> Result<(), Failure> {
        let out = &mut self.out;
        let id = match &change.id {
            serde_json::Value::String(id) => id.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let time = recorded.time.as_deref().unwrap_or("-");
        let from = shown(&change.mail_from);
        writeln!(out, "line {number}  {}  {}  from <{from}>", shown(&id), shown(time))?;
        for one in &change.changes {
            let to = one.recipient.as_deref().unwrap_or("(nobody)");
            writeln!(out, "  to {}{}", shown(to), by(&one.rules))?;
            sides(
                out,
                (one.before_in_words(), &one.before.because),
                (one.after_in_words(), &one.after.because),
            )?;
        }
        writeln!(out)?;
        Ok(())
    }

    /// The groups, the summary, and what could not be judged.
    fn end(mut self) -> Result<Answer, Failure> {
        if !self.arguments.json && !self.arguments.all {
            for group in self.groups.sorted() {
                write_group(&mut self.out, group)?;
            }
            if self.groups.ungrouped() > 0 {
                writeln!(
                    self.out,
                    "{}, of further kinds than {MAX_GROUPS}; --all lists them\n",
                    messages(self.groups.ungrouped())
                )?;
            }
        }
        let notes = self.notes();
        let summary = self.summary();
        if self.arguments.json {
            self.out.flush()?;
            let mut errors = io::stderr().lock();
            for line in notes.iter().chain([&summary]) {
                let _ = writeln!(errors, "{line}");
            }
        } else {
            for note in &notes {
                writeln!(self.out, "{note}")?;
            }
            if !notes.is_empty() {
                writeln!(self.out)?;
            }
            writeln!(self.out, "{summary}")?;
            self.out.flush()?;
        }
        if self.bad > TOLD {
            answer::tell(&format!("{} bad lines in all", self.bad));
        }
        Ok(match (self.bad, self.groups.messages()) {
            (0, 0) => Answer::Done,
            (0, _) => Answer::No,
            _ => Answer::Unusable,
        })
    }

    fn summary(&self) -> String {
        let changed = self.groups.messages();
        let mut summary =
            format!("{} of {} would go elsewhere", grouped(changed), messages(self.messages));
        if changed > 0 {
            let turns = self.groups.turns();
            let turns =
                turns.iter().map(|(turn, count)| format!("{} {}", grouped(*count), turn.as_str()));
            summary.push_str(&format!(": {}", turns.collect::<Vec<_>>().join(", ")));
        }
        if self.bad > 0 {
            summary.push_str(&format!("; {} lines could not be used", grouped(self.bad)));
        }
        summary
    }

    /// What the replay could not see or judge, each once.
    fn notes(&self) -> Vec<String> {
        let seen = &self.seen;
        let mut notes: Vec<String> = Vec::new();
        for what in self.comparison.unseen() {
            notes.push(format!("not replayed  differs: {what}"));
        }
        if seen.unauthenticated > 0 {
            notes.push(format!(
                "not judged    SPF and DMARC of {}: what they said was not recorded",
                messages(seen.unauthenticated)
            ));
        }
        if seen.unresolved > 0 {
            for rule in self.comparison.unjudged_patterns() {
                notes.push(format!(
                    "not judged    {rule} looks at local parts, which are hashed in {}",
                    messages(seen.unresolved)
                ));
            }
        }
        if seen.cut > 0 {
            let cut = messages(seen.cut);
            notes.push(format!("not certain   {cut} had more header than is recorded"));
        }
        if seen.lost > 0 {
            let lost = messages(seen.lost);
            notes.push(format!("not recorded  {lost} among these lines: the record had no room"));
        }
        notes
    }
}

/// Passes over the rest of a line; how many octets it had.
fn skip_line(input: &mut impl BufRead) -> io::Result<usize> {
    let mut passed = 0;
    loop {
        let piece = input.fill_buf()?;
        if piece.is_empty() {
            return Ok(passed);
        }
        let end = memchr::memchr(b'\n', piece);
        let used = end.map_or(piece.len(), |end| end + 1);
        input.consume(used);
        passed += used;
        if end.is_some() {
            return Ok(passed);
        }
    }
}

fn write_group(out: &mut impl Write, group: &Group) -> io::Result<()> {
    writeln!(out, "{}{}", messages(group.messages), by(&group.rules))?;
    sides(out, (&group.before, &group.before_because), (&group.after, &group.after_because))?;
    for example in &group.examples {
        writeln!(out, "  {}", shown(example))?;
    }
    if group.messages > u64::try_from(group.examples.len()).unwrap_or(u64::MAX) {
        writeln!(out, "  …")?;
    }
    writeln!(out)
}

type Side<'a> = (&'a [String], &'a [String]);

fn sides(out: &mut impl Write, before: Side<'_>, after: Side<'_>) -> io::Result<()> {
    for (name, (what, because)) in [("before", before), ("after", after)] {
        let mut head = name;
        for one in what {
            writeln!(out, "  {head:8}{}", shown(one))?;
            head = "";
        }
        for one in because {
            writeln!(out, "          because: {}", shown(one))?;
        }
    }
    Ok(())
}

fn by(rules: &[Box<str>]) -> String {
    let quoted: Vec<String> = rules.iter().map(|rule| format!("\"{rule}\"")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => format!("  by rule {one}"),
        several => format!("  by rules {}", several.join(", ")),
    }
}

fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        count => format!("{} messages", grouped(count)),
    }
}

/// A number with its thousands apart: `48,210`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn shown(text: &str) -> String {
    table::shown(text.as_bytes(), WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_their_thousands_apart() {
        for (number, want) in
            [(0, "0"), (12, "12"), (999, "999"), (48_210, "48,210"), (1_000_000, "1,000,000")]
        {
            assert_eq!(grouped(number), want);
        }
        assert_eq!(messages(1), "1 message");
    }

    #[test]
    fn the_rest_of_a_long_line_is_passed_over() {
        let mut input = &b"xxx\nyyy"[..];
        assert_eq!(skip_line(&mut input).unwrap(), 4);
        assert_eq!(skip_line(&mut input).unwrap(), 3);
        assert_eq!(skip_line(&mut input).unwrap(), 0);
    }
}
