//! The memory and the disk of messages that wait: they are accepted, and their next hop is down.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::message::Message;
use crate::program::{Needs, Program, Running, free_address};
use crate::source::{self, Plan, RECIPIENT, SENDER, Task};
use crate::trouble::{Doing, Trouble};
use crate::{disk, files_for, programs};

/// Messages that wait, unless the command line says otherwise.
const COUNT: u64 = 20_000;
const SESSIONS: usize = 20;
/// How long a program may put things in order, before it is looked at.
const SETTLE: Duration = Duration::from_secs(3);

/// Fills the queue of each program; the table, and whether all messages were taken.
pub(crate) fn measure(arguments: &Arguments) -> Result<(String, bool), Trouble> {
    files_for(SESSIONS, 1)?;
    let folder = disk(&arguments.dir)?;
    let count = arguments.count.unwrap_or(COUNT).max(1);
    let mut text =
        "| program | message | waiting | KiB of memory each | octets on disk per octet | failed |\n\
         | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    let mut clean = true;
    for &size in &arguments.sizes {
        for program in programs(arguments)? {
            if program == Program::Direct {
                continue;
            }
            let down = free_address().doing(|| "finding a free port".to_owned())?;
            let dir = folder.path().to_owned();
            let needs = Needs { dir, sink: down, sessions: SESSIONS, tls: None, strace: false };
            let running = Running::start(&program, &needs)?;
            let message = Message::new(size, SENDER, RECIPIENT);
            let plan = Plan {
                to: running.address,
                task: Task::Mail,
                sessions: SESSIONS,
                count,
                per_connection: 100,
                message: &message,
                run: 0,
                tls: None,
                patience: Duration::from_secs(arguments.patience),
            };
            let seen = || {
                std::thread::sleep(SETTLE);
                let memory = running.group.map_or(0, |group| group.proportional().0);
                (memory, running.folder().map_or(0, on_disk))
            };
            let before = seen();
            let report = source::run(&plan, &mut || {});
            let report = report.doing(|| format!("sending to {}", running.name))?;
            let after = seen();
            if report.failed > 0 {
                clean = false;
                eprintln!("load: {}: {}", running.name, report.error.unwrap_or_default());
            }
            let each = |after: u64, before: u64| {
                after.saturating_sub(before) as f64 / report.done.max(1) as f64
            };
            let _ = writeln!(
                text,
                "| {} | {} KiB | {} | {:.2} | {:.2} | {} |",
                running.name,
                size / 1024,
                report.done,
                each(after.0, before.0) / 1024.0,
                each(after.1, before.1) / message.size() as f64,
                report.failed
            );
        }
    }
    Ok((text, clean))
}

/// Octets that files below a folder take on disk.
fn on_disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => on_disk(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    each.sum()
}
