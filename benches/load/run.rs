//! One measurement: of one program, in one case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::message::Message;
use crate::program::Running;
use crate::sink::{MOST, Sink};
use crate::source::{self, Plan, RECIPIENT, SENDER, Task};
use crate::trouble::{Doing, Trouble};
use crate::usage::{Machine, Sampler, Usage, own_cpu};

/// What is the same for all programs that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// What sessions do.
    pub(crate) task: Task,
    /// Octets of a message.
    pub(crate) size: usize,
    /// Sessions at a time.
    pub(crate) sessions: usize,
    /// Messages or recipients on one connection.
    pub(crate) per_connection: u64,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.task == Task::Mail {
            match self.size {
                size if size % 1024 == 0 => write!(f, "{} KiB, ", size / 1024)?,
                size => write!(f, "{size} octets, ")?,
            }
        }
        let s = if self.sessions == 1 { "" } else { "s" };
        write!(f, "{} session{s}", self.sessions)?;
        match self.task {
            Task::Mail | Task::Reject => write!(f, ", {} a connection", self.per_connection),
            Task::Connect | Task::Idle => Ok(()),
        }
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Which program.
    pub(crate) program: &'static str,
    /// In which case.
    pub(crate) case: Case,
    /// Messages, recipients or connections.
    pub(crate) count: u64,
    /// From the first connect until the last message was at the sink, or the last reply came.
    pub(crate) seconds: f64,
    /// Of them a second.
    pub(crate) rate: f64,
    /// Acknowledged a second, from the first connect until the last reply.
    pub(crate) acknowledged: f64,
    /// Milliseconds that half of the replies, and 99 of 100, took at most.
    pub(crate) wait_ms: [f64; 2],
    /// Milliseconds of the program's processor time for each.
    pub(crate) cpu_ms: f64,
    /// Octets in memory, at most.
    pub(crate) resident: u64,
    /// Octets that it made the disk write for each octet of mail.
    pub(crate) written: f64,
    /// Calls that sync for each, if they were counted.
    pub(crate) syncs: Option<f64>,
    /// Acknowledged, and not at the sink.
    pub(crate) lost: u64,
    /// At the sink more than once.
    pub(crate) again: u64,
    /// At the sink, and not as they were sent: shorter, or not ours.
    pub(crate) damaged: u64,
    /// Not acknowledged.
    pub(crate) failed: u64,
    /// The first failure.
    pub(crate) error: Option<String>,
    /// Connections that the program made to the sink.
    pub(crate) to_the_sink: u64,
    /// Share of the processors that others had meanwhile.
    pub(crate) others: f64,
    /// Milliseconds of processor time of source and sink for each.
    pub(crate) tools_ms: f64,
}

impl Run {
    /// Whether all is as it should be.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.again + self.damaged + self.failed == 0
    }

    /// As a JSON line.
    pub(crate) fn json(&self, what: &str, round: usize) -> Value {
        let Case { size, sessions, per_connection, .. } = self.case;
        json!({
            "what": what, "program": self.program, "round": round,
            "size": size, "sessions": sessions, "per_connection": per_connection,
            "count": self.count, "seconds": self.seconds, "rate": self.rate,
            "acknowledged_rate": self.acknowledged,
            "p50_ms": self.wait_ms[0], "p99_ms": self.wait_ms[1], "cpu_ms": self.cpu_ms,
            "resident": self.resident, "written_per_octet": self.written, "syncs": self.syncs,
            "lost": self.lost, "again": self.again, "damaged": self.damaged,
            "failed": self.failed, "error": self.error, "to_the_sink": self.to_the_sink,
            "others": self.others, "tools_cpu_ms": self.tools_ms,
        })
    }
}

/// What measurements are made with.
pub(crate) struct Bench<'a> {
    /// The sink of this program.
    pub(crate) sink: &'a Sink,
    /// For STARTTLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Without progress for so long, it is given up.
    pub(crate) patience: Duration,
}

/// Measures; `number` tells this run from all others.
pub(crate) fn run(
    running: &Running,
    bench: &Bench<'_>,
    case: Case,
    count: u64,
    number: u32,
) -> Result<Run, Trouble> {
    let count = count.clamp(1, MOST);
    let message = Message::new(case.size, SENDER, RECIPIENT);
    let arrivals = &bench.sink.arrivals;
    arrivals.begin(number, message.size());
    let plan = Plan {
        to: running.address,
        task: case.task,
        sessions: case.sessions,
        count,
        per_connection: case.per_connection,
        message: &message,
        run: number,
        tls: bench.tls.clone(),
        patience: bench.patience,
    };
    let used = || running.group.map_or_else(Usage::default, |group| group.usage());
    let (usage, machine, tools, syncs) = (used(), Machine::now(), own_cpu(), running.syncs());
    let sampler = Sampler::start(running.group);
    let report = source::run(&plan, &mut || {}).doing(|| format!("sending to {}", running.name))?;
    let mut ended = report.ended;
    let mut lost = 0;
    if case.task == Task::Mail {
        lost = wait_for(|| arrivals.missing(&report.acknowledged), bench.patience);
        ended = ended.max(arrivals.last());
    }
    let (after, now) = (used(), Machine::now());
    let tools = own_cpu().saturating_sub(tools);
    let cpu = after.cpu.saturating_sub(usage.cpu);
    let counts = arrivals.counts();
    let seconds = (ended - report.began).as_secs_f64();
    let each = |total: f64| total / count as f64;
    let rate = |of: u64, seconds: f64| of as f64 / seconds.max(1e-6);
    let mail = case.task == Task::Mail;
    Ok(Run {
        program: running.name,
        case,
        count,
        seconds,
        rate: rate(if mail { counts.unique } else { report.done }, seconds),
        acknowledged: rate(report.done, (report.ended - report.began).as_secs_f64()),
        wait_ms: [report.wait_ms(0.5), report.wait_ms(0.99)],
        cpu_ms: each(cpu.as_secs_f64() * 1000.0),
        resident: sampler.end(),
        written: each((after.written.saturating_sub(usage.written)) as f64) / message.size() as f64,
        syncs: running.syncs().zip(syncs).map(|(after, before)| each((after - before) as f64)),
        lost,
        again: counts.again,
        damaged: counts.short + counts.strange,
        failed: report.failed,
        error: report.error,
        to_the_sink: counts.connections,
        others: now.others_since(machine, cpu + tools),
        tools_ms: each(tools.as_secs_f64() * 1000.0),
    })
}

/// Waits until nothing is missing, or nothing has come for so long; what is missing then.
fn wait_for(missing: impl Fn() -> u64, patience: Duration) -> u64 {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let now = missing();
        if now == 0 || since.elapsed() > patience {
            return now;
        }
        if now < least {
            (least, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many make a measurement of about this long; the runs that find it out warm the program up, too.
pub(crate) fn pilot(
    running: &Running,
    bench: &Bench<'_>,
    case: Case,
    seconds: f64,
    number: &mut u32,
) -> Result<u64, Trouble> {
    let mut count = (20 * case.sessions as u64).clamp(50, 2000);
    loop {
        *number += 1;
        let run = run(running, bench, case, count, *number)?;
        let long = run.seconds > (seconds / 4.0).min(1.0);
        if long || !run.is_clean() || count == MOST {
            let wanted = (run.rate * seconds) as u64;
            return Ok(wanted.clamp(50, MOST));
        }
        count = (count * 4).min(MOST);
    }
}
