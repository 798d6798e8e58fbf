//! Runs the binary.

#![allow(dead_code, reason = "no test program uses all of it")]

pub(crate) mod control;
pub(crate) mod dns;
pub(crate) mod exposition;
pub(crate) mod redis;
pub(crate) mod serving;
pub(crate) mod sink;
pub(crate) mod smtp_client;
pub(crate) mod tls_sink;
pub(crate) mod tmpfs;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a run of the binary left.
pub(crate) struct Ran {
    /// The exit status.
    pub(crate) status: i32,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
    /// What it wrote to stderr.
    pub(crate) stderr: String,
}

impl Ran {
    /// Stdout as JSON lines.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs `waypost` in the package's directory with these arguments and this on stdin.
pub(crate) fn waypost(arguments: &[&str], stdin: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = stdin.to_owned();
    // A child that needs no stdin may be gone before all of it is written.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    drop(writer.join().unwrap());
    Ran {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The longest wait without anything going on, and in all.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);

/// How long something is waited for: as long as there is progress, whatever the machine does beside.
pub(crate) struct Patience<T> {
    begun: Instant,
    last: (Option<T>, Instant),
}

impl<T: PartialEq> Patience<T> {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { begun: now, last: (None, now) }
    }

    /// Whether to go on waiting, when this is how far it has come.
    pub(crate) fn lasts(&mut self, come: T) -> bool {
        if self.last.0.as_ref() != Some(&come) {
            self.last = (Some(come), Instant::now());
        }
        self.last.1.elapsed() < PATIENCE && self.begun.elapsed() < LONGEST
    }
}

/// Held by tests that measure memory, time or shares: they come one after another, whatever
/// `--test-threads` says.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file of the workspace, as text.
pub(crate) fn file(path: &str) -> String {
    let root: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", path].iter().collect();
    std::fs::read_to_string(root).unwrap()
}
