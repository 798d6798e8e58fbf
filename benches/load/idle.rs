//! The memory of sessions that do nothing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::arguments::{Arguments, What};
use crate::message::Message;
use crate::program::{Needs, Program, Running};
use crate::sink::Sink;
use crate::source::{self, Plan, Task};
use crate::trouble::{Doing, Trouble};
use crate::{disk, files_for, programs};

/// How long a program may put things in order, before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// Opens sessions with each program; the table, and whether all stood.
pub(crate) fn measure(arguments: &Arguments) -> Result<(String, bool), Trouble> {
    let given = arguments.sessions.first().or(What::Idle.sessions().first());
    let sessions = given.copied().unwrap_or(1);
    files_for(sessions, 1)?;
    let folder = disk(&arguments.dir)?;
    let sink = Sink::start().doing(|| "starting the sink".to_owned())?;
    let mut text = "| program | sessions | processes | MiB before | MiB with them | KiB a session | failed |\n\
                    | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let mut clean = true;
    let mut json = crate::lines(arguments)?;
    for program in programs(arguments)? {
        let sessions = match &program {
            Program::Direct => continue,
            Program::Postfix(_) => sessions.min(arguments.idle_peer),
            Program::Serve(_) => sessions,
        };
        let needs = Needs {
            dir: folder.path().to_owned(),
            sink: sink.address,
            sessions,
            tls: None,
            strace: false,
        };
        let running = Running::start(&program, &needs)?;
        let message = Message::new(0, "", "");
        let plan = Plan {
            to: running.address,
            task: Task::Idle,
            sessions,
            count: sessions as u64,
            per_connection: 1,
            message: &message,
            run: 0,
            tls: None,
            patience: Duration::from_secs(arguments.patience),
        };
        std::thread::sleep(SETTLE);
        // Shared pages are shared out: the programs differ in how many processes they are.
        let memory = || running.group.map_or((0, 0), |group| group.proportional());
        let before = memory();
        let mut after = before;
        let report = source::run(&plan, &mut || {
            std::thread::sleep(SETTLE);
            after = memory();
        });
        let report = report.doing(|| format!("connecting to {}", running.name))?;
        if report.failed > 0 {
            clean = false;
            eprintln!("load: {}: {}", running.name, report.error.unwrap_or_default());
        }
        let mebi = |octets: u64| octets as f64 / f64::from(1 << 20);
        let each = after.0.saturating_sub(before.0) as f64 / 1024.0 / report.done.max(1) as f64;
        if let Some(file) = &mut json {
            let line = json!({ "what": "idle", "program": running.name, "kib_each": each });
            writeln!(file, "{line}").doing(|| "writing JSON".to_owned())?;
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.1} | {:.1} | {each:.1} | {} |",
            running.name,
            report.done,
            after.1,
            mebi(before.0),
            mebi(after.0),
            report.failed
        );
    }
    Ok((text, clean))
}
