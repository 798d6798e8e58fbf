//! What the program under test used, and what everyone else did meanwhile; from /proc.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// All processes of one program: it was started as the leader of a process group, which what it starts
/// belongs to as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(pub(crate) i32);

/// What a group has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, that of processes that have ended included.
    pub(crate) cpu: Duration,
    /// Octets that it made the disk write.
    pub(crate) written: u64,
    /// Octets in memory now; pages that several processes share count for each.
    pub(crate) resident: u64,
    /// Processes now.
    pub(crate) processes: usize,
}

struct Process {
    pid: i32,
    ticks: u64,
    pages: u64,
}

impl Group {
    fn processes(self) -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid: i32| self.process(pid)).collect()
    }

    fn process(self, pid: i32) -> Option<Process> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain anything; what follows its last bracket is numbers, beginning with field 3.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let group = fields.get(2)?.parse::<i32>().ok()?;
        if group != self.0 || fields.first() == Some(&"Z") {
            return None;
        }
        let ticks = (14..=17).filter_map(field).sum();
        Some(Process { pid, ticks, pages: field(24)? })
    }

    /// What it has used.
    pub(crate) fn usage(self) -> Usage {
        let mut usage = Usage::default();
        let mut ticks = 0;
        for process in self.processes() {
            ticks += process.ticks;
            usage.resident += process.pages * constant(SysconfVar::PAGE_SIZE, 4096);
            usage.processes += 1;
            usage.written += written(process.pid).unwrap_or_default();
        }
        usage.cpu = Duration::from_secs_f64(ticks as f64 / ticks_a_second());
        usage
    }

    /// Octets in memory.
    pub(crate) fn resident(self) -> u64 {
        let pages: u64 = self.processes().iter().map(|process| process.pages).sum();
        pages * constant(SysconfVar::PAGE_SIZE, 4096)
    }

    /// Octets in memory, those that several processes share counted in parts; and processes.
    pub(crate) fn proportional(self) -> (u64, usize) {
        let processes = self.processes();
        let octets = |process: &Process| {
            let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibi| kibi << 10)
        };
        (processes.iter().filter_map(octets).sum(), processes.len())
    }

    /// Ends it, in order if it does so within `grace`.
    pub(crate) fn end(self, grace: Duration) {
        let _ = killpg(Pid::from_raw(self.0), Signal::SIGTERM);
        let until = Instant::now() + grace;
        while !self.processes().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

fn written(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

fn constant(name: SysconfVar, otherwise: u64) -> u64 {
    sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(otherwise)
}

fn ticks_a_second() -> f64 {
    constant(SysconfVar::CLK_TCK, 100) as f64
}

/// Looks at a group's memory now and then.
pub(crate) struct Sampler {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Sampler {
    /// Begins.
    pub(crate) fn start(group: Option<Group>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = group.map(|group| {
            std::thread::spawn(move || {
                let mut most = 0;
                loop {
                    most = most.max(group.resident());
                    if told.load(Relaxed) {
                        return most;
                    }
                    std::thread::park_timeout(Duration::from_millis(500));
                }
            })
        });
        Self { over, thread }
    }

    /// Ends; the most that was seen, in octets.
    pub(crate) fn end(self) -> u64 {
        self.over.store(true, Relaxed);
        self.thread.map_or(0, |thread| {
            thread.thread().unpark();
            thread.join().unwrap_or_default()
        })
    }
}

/// What all processors did since the machine began, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    busy: u64,
    all: u64,
}

impl Machine {
    /// Now.
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> =
            line.split_ascii_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal
        let all = ticks.iter().take(8).sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self { busy: all - idle, all }
    }

    /// The share of the processors that was busy since then.
    pub(crate) fn busy_since(self, then: Self) -> f64 {
        (self.busy - then.busy) as f64 / (self.all - then.all).max(1) as f64
    }

    /// The share of the processors that went elsewhere since then, if `known` went where we know.
    pub(crate) fn others_since(self, then: Self, known: Duration) -> f64 {
        let share = known.as_secs_f64() * ticks_a_second() / (self.all - then.all).max(1) as f64;
        (self.busy_since(then) - share).max(0.0)
    }
}

/// User and system time of this process.
pub(crate) fn own_cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    let time = |value: nix::sys::time::TimeVal| {
        Duration::from_micros(
            u64::try_from(value.tv_sec() * 1_000_000 + value.tv_usec()).unwrap_or(0),
        )
    };
    usage.map_or(Duration::ZERO, |usage| time(usage.user_time()) + time(usage.system_time()))
}

/// The share of others that a quiet machine may have.
const QUIET: f64 = 0.05;

/// Waits until others leave the machine alone, for so long at most; whether they do.
pub(crate) fn wait_until_quiet(patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        if patience.is_zero() {
            return true;
        }
        let then = Machine::now();
        std::thread::sleep(Duration::from_millis(700));
        if Machine::now().busy_since(then) <= QUIET {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
    }
}
