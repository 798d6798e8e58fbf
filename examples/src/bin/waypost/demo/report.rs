//! What became of each letter, in one table.

use std::time::{Duration, Instant};

use waypost_config::policy::Explanation;
use waypost_types::Outcome;

use super::letters::Letter;
use super::receivers::Arrival;
use crate::answer::Failure;

/// One line of the table.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) feature: &'static str,
    message: String,
    mark: String,
    source: String,
    decision: String,
    because: String,
    letter: Option<Letter>,
    started: Instant,
    first_refusal: Option<String>,
    arrived: Vec<String>,
    took: Option<Duration>,
    wrong: Vec<String>,
}

impl Line {
    pub(super) fn new(
        letter: Letter,
        explanation: Explanation,
        outcomes: Vec<Outcome>,
        started: Instant,
    ) -> Self {
        let first_refusal = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Delivered { .. } => None,
            Outcome::Deferred(failure) | Outcome::Failed(failure) => {
                Some(failure.reply.to_string())
            }
        });
        Self {
            feature: letter.feature,
            message: letter.shows.to_owned(),
            mark: letter.mark(),
            source: explanation.source_ip.map_or("internal".to_owned(), |ip| ip.to_string()),
            decision: decision(&explanation, first_refusal.as_deref()),
            because: because(&explanation, first_refusal.as_deref()),
            letter: Some(letter),
            started,
            first_refusal,
            arrived: Vec::new(),
            took: None,
            wrong: Vec::new(),
        }
    }

    /// Mail that nobody expected.
    pub(super) fn stray(arrival: &Arrival) -> Self {
        let place = format!("{} at {}", arrival.recipient, arrival.system.name());
        Self {
            feature: "!",
            message: "mail that no letter explains".to_owned(),
            mark: String::new(),
            source: String::new(),
            decision: String::new(),
            because: String::new(),
            letter: None,
            started: arrival.at,
            first_refusal: None,
            arrived: vec![place.clone()],
            took: None,
            wrong: vec![format!("unexpected: {place}")],
        }
    }

    /// Whether an arrival is of this letter.
    pub(super) fn owns(&self, arrival: &Arrival) -> bool {
        !self.mark.is_empty() && arrival.message.contains(&self.mark)
    }

    /// Holds what arrived against what was to arrive.
    pub(super) fn judge(&mut self, arrivals: &[Arrival]) {
        let Some(letter) = &self.letter else { return };
        let mut ours: Vec<&Arrival> = arrivals.iter().filter(|one| self.owns(one)).collect();
        self.took = ours.iter().map(|one| one.at.duration_since(self.started)).max();
        self.arrived = ours.iter().map(|one| one.system.name().to_owned()).collect();
        self.arrived.dedup();
        let mut wrong = Vec::new();
        for expected in &letter.expected {
            let place = format!("{} at {}", expected.recipient, expected.system.name());
            let found = ours.iter().position(|one| {
                one.system == expected.system && one.recipient == expected.recipient
            });
            match found {
                None => wrong.push(format!("did not arrive: {place}")),
                Some(at) => {
                    let arrival = ours.swap_remove(at);
                    if !arrival.message.contains(expected.holding) {
                        wrong.push(format!("arrived without {:?}: {place}", expected.holding));
                    }
                }
            }
        }
        let left = ours.iter().map(|one| format!("{} at {}", one.recipient, one.system.name()));
        wrong.extend(left.map(|place| format!("unexpected: {place}")));
        match (letter.refused, &self.first_refusal) {
            (None, None) => {}
            (Some(wanted), Some(came)) if came.starts_with(wanted) => {}
            (wanted, came) => wrong.push(format!(
                "the reply was to be {}, and was {}",
                wanted.unwrap_or("250"),
                came.as_deref().unwrap_or("250")
            )),
        }
        self.wrong = wrong;
    }

    /// Whether all is as it should be.
    pub(super) fn is_well(&self) -> bool {
        self.wrong.is_empty()
    }

    fn arrived_at(&self) -> String {
        if self.arrived.is_empty() { "nowhere".to_owned() } else { self.arrived.join(" + ") }
    }

    fn cells(&self) -> [String; 8] {
        let took = self.took.map_or("-".to_owned(), |took| format!("{} ms", took.as_millis()));
        [
            self.feature.to_owned(),
            self.message.clone(),
            self.source.clone(),
            self.decision.clone(),
            self.because.clone(),
            self.arrived_at(),
            took,
            if self.is_well() { "ok" } else { "WRONG" }.to_owned(),
        ]
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "feature": self.feature,
            "message": self.message,
            "source_ip": self.source,
            "decision": self.decision,
            "because": self.because,
            "arrived": self.arrived,
            "milliseconds": self.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            "ok": self.is_well(),
            "wrong": self.wrong,
        })
    }
}

fn decision(explanation: &Explanation, refusal: Option<&str>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for delivery in &explanation.deliveries {
        let way = match &delivery.route {
            Some(route) => format!("route \"{route}\""),
            None => delivery.via.to_string(),
        };
        if !parts.contains(&way) {
            parts.push(way);
        }
    }
    if explanation.spam {
        parts.push("as spam".to_owned());
    }
    if let Some(reply) = refusal {
        let code: Vec<&str> = reply.split(' ').take(2).collect();
        parts.push(format!("refused {}", code.join(" ")));
    }
    parts.join(" + ")
}

fn because(explanation: &Explanation, refusal: Option<&str>) -> String {
    let mut rules: Vec<&str> = Vec::new();
    for rule in explanation.deliveries.iter().flat_map(|delivery| &delivery.because) {
        if !rules.contains(&&**rule) {
            rules.push(rule);
        }
    }
    if !rules.is_empty() {
        return rules.join(" + ");
    }
    match (explanation.deliveries.first(), explanation.refusals.first()) {
        (Some(delivery), _) => delivery.reason.clone(),
        (None, Some(refused)) => refused.because.clone(),
        (None, None) => refusal.unwrap_or_default().to_owned(),
    }
}

const HEADINGS: [&str; 8] =
    ["", "message", "source IP", "decision", "because", "arrived at", "after", ""];

/// The longest cell; what is longer is cut.
const WIDEST: usize = 44;

/// Prints the table, or JSON.
pub(super) fn print(lines: &[Line], json: bool) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if json {
        let lines: Vec<_> = lines.iter().map(Line::json).collect();
        writeln!(out, "{}", serde_json::Value::Array(lines))?;
        return Ok(());
    }
    let rows: Vec<[String; 8]> = lines.iter().map(|line| line.cells().map(cut)).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut write = |cells: &[String; 8]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end())
    };
    write(&HEADINGS.map(str::to_owned))?;
    write(&widths.map(|width| "-".repeat(width)))?;
    for row in &rows {
        write(row)?;
    }
    let wrong: Vec<_> = lines.iter().filter(|line| !line.is_well()).collect();
    for line in &wrong {
        writeln!(out, "\n{}: {}", line.message, line.wrong.join("; "))?;
    }
    match wrong.len() {
        0 => writeln!(out, "\n{} of {} letters arrived where they should", rows.len(), rows.len())?,
        bad => writeln!(out, "\n{bad} of {} letters did not arrive as they should", rows.len())?,
    }
    Ok(())
}

fn cut(cell: String) -> String {
    if cell.chars().count() <= WIDEST {
        return cell;
    }
    cell.chars().take(WIDEST - 1).chain(['…']).collect()
}
