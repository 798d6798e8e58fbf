//! Tables in Markdown, and the blocks of documents that hold them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::arguments::{Arguments, What};
use crate::run::Run;
use crate::trouble::{Doing, Trouble};

/// All runs of one case, each with its round.
pub(crate) type Cell = Vec<(usize, Run)>;

/// Median, least and most.
pub(crate) fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let last = values.len().saturating_sub(1);
    let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
    [median, at(0), at(last)]
}

fn of(cell: &Cell, program: &str, value: impl Fn(&Run) -> f64) -> [f64; 3] {
    spread(
        cell.iter().filter(|(_, run)| run.program == program).map(|(_, run)| value(run)).collect(),
    )
}

/// Three digits that mean something, thousands set apart.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// The rate of `serve` as a multiple of another's, in the same rounds.
fn ratio(cell: &Cell, peer: &str) -> Option<String> {
    let theirs = |round| {
        let mut runs = cell.iter().filter(|(at, run)| *at == round && run.program == peer);
        runs.next().map(|(_, run)| run.rate)
    };
    let ours = cell.iter().filter(|(_, run)| run.program == "serve");
    let ratios: Vec<f64> =
        ours.filter_map(|(round, run)| Some(run.rate / theirs(*round)?)).collect();
    let [median, least, most] = spread(ratios);
    median.is_finite().then(|| format!("{median:.1} ({least:.1}-{most:.1})"))
}

/// The table of all cases.
pub(crate) fn runs(what: What, cells: &[Cell]) -> String {
    let mail = what.has_mail();
    let syncs = cells.iter().flatten().any(|(_, run)| run.syncs.is_some());
    let mut text = format!(
        "| case | program | {} | serve / peer | p50, p99 ms | CPU ms | RSS MiB |",
        what.unit()
    );
    let mut columns = 7;
    if mail {
        text += " written | lost, twice, damaged |";
        columns += 2;
    }
    if syncs {
        text += " syncs |";
        columns += 1;
    }
    text += " failed | others |\n";
    columns += 2;
    let _ = writeln!(text, "|{}", " --- |".repeat(columns));
    for cell in cells {
        let mut names: Vec<&str> = Vec::new();
        for (_, run) in cell {
            if !names.contains(&run.program) {
                names.push(run.program);
            }
        }
        for (row, name) in names.iter().enumerate() {
            let case = cell
                .first()
                .filter(|_| row == 0)
                .map_or_else(String::new, |(_, run)| run.case.to_string());
            let [rate, least, most] = of(cell, name, |run| run.rate);
            let ratio = match *name {
                "postfix" => ratio(cell, name).unwrap_or_default(),
                _ => String::new(),
            };
            let sum = |value: fn(&Run) -> u64| -> u64 {
                cell.iter().filter(|(_, run)| run.program == *name).map(|(_, run)| value(run)).sum()
            };
            let [p50, ..] = of(cell, name, |run| run.wait_ms[0]);
            let [p99, ..] = of(cell, name, |run| run.wait_ms[1]);
            let [cpu, ..] = of(cell, name, |run| run.cpu_ms);
            let [.., resident] = of(cell, name, |run| run.resident as f64 / f64::from(1 << 20));
            let [.., others] = of(cell, name, |run| run.others);
            let _ = write!(
                text,
                "| {case} | {name} | {} ({}-{}) | {ratio} | {}, {} | {} | {} |",
                number(rate),
                number(least),
                number(most),
                number(p50),
                number(p99),
                number(cpu),
                number(resident)
            );
            if mail {
                let [written, ..] = of(cell, name, |run| run.written);
                let _ = write!(
                    text,
                    " {} | {}, {}, {} |",
                    number(written),
                    sum(|run| run.lost),
                    sum(|run| run.again),
                    sum(|run| run.damaged)
                );
            }
            if syncs {
                let [syncs, ..] = of(cell, name, |run| run.syncs.unwrap_or(f64::NAN));
                let _ = write!(text, " {} |", number(syncs));
            }
            let _ = writeln!(text, " {} | {:.0} % |", sum(|run| run.failed), others * 100.0);
        }
    }
    text
}

/// What a table is to be read with.
pub(crate) fn conditions(arguments: &Arguments) -> String {
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let model = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let unknown = || "unknown".to_owned();
    let rounds = match (arguments.what, arguments.count) {
        (What::Idle | What::Queued | What::Benches | What::Against, _) => "once".to_owned(),
        (_, Some(count)) => format!("rounds: {}, of {count} each", arguments.rounds),
        (_, None) => format!("rounds: {}, of about {} s each", arguments.rounds, arguments.seconds),
    };
    format!(
        "{}, commit {}, {} processors ({}), Linux {}; {rounds}.",
        said("date", &["-u", "+%F"]).unwrap_or_else(unknown),
        said("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_else(unknown),
        std::thread::available_parallelism().map_or(1, usize::from),
        model.unwrap_or_else(unknown),
        said("uname", &["-r"]).unwrap_or_else(unknown),
    )
}

/// Puts a text between `<!-- name -->` and `<!-- /name -->` of a document.
pub(crate) fn put_into(file: &Path, name: &str, text: &str) -> Result<(), Trouble> {
    let shown = file.display();
    let old = std::fs::read_to_string(file).doing(|| format!("reading {shown}"))?;
    let none = || Trouble::NoBlock { file: file.to_owned(), name: name.to_owned() };
    let new = replaced(&old, name, text).ok_or_else(none)?;
    std::fs::write(file, new).doing(|| format!("writing {shown}"))
}

fn replaced(old: &str, name: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(&format!("<!-- {name} -->\n"))?;
    let end = format!("<!-- /{name} -->");
    let (_, after) = rest.split_once(&end)?;
    let text = text.trim_end();
    Some(format!("{before}<!-- {name} -->\n{text}\n{end}{after}"))
}

/// A table of what criterion found last, in a folder.
pub(crate) fn benches(results: &Path) -> Result<String, Trouble> {
    let found = criterion(results)?;
    let mut text =
        "| bench | median | 95 % confidence, from and to |\n| --- | --- | --- |\n".to_owned();
    for (name, [median, least, most]) in found {
        let _ = writeln!(text, "| {name} | {} | {}, {} |", time(median), time(least), time(most));
    }
    Ok(text)
}

/// What criterion found last, by name: median, and its confidence interval, in picoseconds.
pub(crate) fn criterion(results: &Path) -> Result<Vec<(String, [u64; 3])>, Trouble> {
    let mut found = Vec::new();
    collect(results, &mut found);
    if found.is_empty() {
        return Err(Trouble::NoResults(results.to_owned()));
    }
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<(String, [u64; 3])>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        match path.file_name() == Some("new".as_ref()) {
            true => found.extend(result(&path)),
            false => collect(&path, found),
        }
    }
}

fn result(folder: &Path) -> Option<(String, [u64; 3])> {
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()
    };
    let name = read("benchmark.json")?.get("full_id")?.as_str()?.replace('/', ": ");
    let estimates = read("estimates.json")?;
    let median = estimates.get("median")?;
    let interval = median.get("confidence_interval")?;
    let picoseconds = |value: Option<&Value>| Some((value?.as_f64()? * 1000.0) as u64);
    Some((
        name,
        [
            picoseconds(median.get("point_estimate"))?,
            picoseconds(interval.get("lower_bound"))?,
            picoseconds(interval.get("upper_bound"))?,
        ],
    ))
}

pub(crate) fn time(picoseconds: u64) -> String {
    let value = picoseconds as f64;
    match value {
        value if value < 1e6 => format!("{} ns", number(value / 1e3)),
        value if value < 1e9 => format!("{} µs", number(value / 1e6)),
        value => format!("{} ms", number(value / 1e9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_replaced_and_nothing_else() {
        let old =
            "a\n<!-- load:x -->\nold\n<!-- /load:x -->\nb\n<!-- load:y -->\n<!-- /load:y -->\n";
        let new = replaced(old, "load:x", "new\n").unwrap();
        assert_eq!(new, old.replace("old", "new"));
        assert_eq!(replaced(&new, "load:x", "old\n").unwrap(), old);
        assert!(
            replaced(old, "load:y", "z")
                .unwrap()
                .ends_with("<!-- load:y -->\nz\n<!-- /load:y -->\n")
        );
        for broken in ["", "<!-- load:x -->\n", "<!-- /load:x -->\n"] {
            assert_eq!(replaced(broken, "load:x", "new"), None, "{broken}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (999.9, "1,000"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(spread(vec![3.0, 1.0, 2.0]), [2.0, 1.0, 3.0]);
        assert_eq!(spread(vec![4.0, 1.0]), [2.5, 1.0, 4.0]);
    }
}
