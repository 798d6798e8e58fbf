//! `waypost serve` under `strace`: for each 250 the journal was synced between the write of the message into
//! it and the write of the 250 to the client (O1), and sessions share their syncs.
//!
//! `scripts/trace-sync` runs this with more messages, and fails where `strace` is missing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use support::serving::{Folder, Serve, marie_by, queue_id};
use support::sink::Sink;
use support::smtp_client::SmtpClient;

const CALLS: &str = "trace=write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync";

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |number| number.parse().unwrap())
}

/// One system call, by the lines of the trace on which it began and ended.
struct Call {
    begun: usize,
    ended: usize,
    name: String,
    /// What stands in the brackets, as far as it was known when it began.
    arguments: String,
    /// What stands behind ` = `.
    result: String,
}

impl Call {
    fn is_sync(&self) -> bool {
        matches!(&*self.name, "fsync" | "fdatasync")
    }

    /// The journal that it is about.
    fn journal(&self) -> Option<&str> {
        let path = self.arguments.split_once('<')?.1.split_once('>')?.0;
        path.ends_with(".jnl").then_some(path)
    }
}

/// The calls in the order in which they began; those that never ended are left out.
fn calls(trace: &str) -> Vec<Call> {
    let mut all: Vec<Call> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (place, line) in trace.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let result = |text: &str| text.rsplit_once(" = ").map(|(_, result)| result.to_owned());
        if call.starts_with("<... ") {
            if let (Some(at), Some(result)) = (open.remove(thread), result(call)) {
                (all[at].ended, all[at].result) = (place, result);
            }
        } else if let Some((name, arguments)) = call.split_once('(') {
            let unfinished = arguments.ends_with("<unfinished ...>");
            if unfinished {
                open.insert(thread, all.len());
            }
            all.push(Call {
                begun: place,
                ended: if unfinished { usize::MAX } else { place },
                name: name.to_owned(),
                arguments: arguments.to_owned(),
                result: if unfinished {
                    String::new()
                } else {
                    result(arguments).unwrap_or_default()
                },
            });
        }
    }
    all.retain(|call| call.ended != usize::MAX);
    all
}

/// Checks each message; how many, and how many syncs of the journal there were meanwhile.
fn check(trace: &str, ids: &HashMap<String, usize>) -> Result<(usize, usize), String> {
    let calls = calls(trace);
    let (mut first, mut last) = (usize::MAX, 0);
    for (id, number) in ids {
        let token = format!("X-Number: {number}\\r\\n");
        let written = calls
            .iter()
            .find(|call| call.journal().is_some() && call.arguments.contains(&token))
            .ok_or(format!("message {number} was never written to the journal"))?;
        let told = format!("250 2.0.0 Accepted as {id}");
        let answered = calls
            .iter()
            .find(|call| call.arguments.contains(&told))
            .ok_or(format!("the 250 of {id} is not in the trace"))?;
        let synced = calls.iter().any(|call| {
            call.is_sync()
                && call.journal() == written.journal()
                && call.result == "0"
                && written.ended < call.begun
                && call.ended < answered.begun
        });
        if !synced {
            return Err(format!(
                "no sync between line {}, where message {number} was written to the journal, and line {}, \
                 its 250",
                written.ended + 1,
                answered.begun + 1
            ));
        }
        (first, last) = (first.min(written.begun), last.max(answered.begun));
    }
    let meanwhile = |call: &&Call| {
        call.is_sync() && call.journal().is_some() && call.begun > first && call.ended < last
    };
    Ok((ids.len(), calls.iter().filter(meanwhile).count()))
}

#[test]
fn the_check_finds_a_250_before_its_sync() {
    let write = r#"1 write(9</s/db/0.jnl>, "X-Number: 7\r\n", 13) = 13"#;
    let sync = "1 fsync(9</s/db/0.jnl>) = 0";
    let begun = "1 fsync(9</s/db/0.jnl> <unfinished ...>";
    let ended = "1 <... fsync resumed>) = 0";
    let told = r#"2 sendto(5<socket:[1]>, "250 2.0.0 Accepted as ID7\r\n", 27, 0, NULL, 0) = 27"#;
    let other = "1 fsync(8</s/db/other>) = 0";
    let failed = "1 fsync(9</s/db/0.jnl>) = -1 EIO (Input/output error)";
    for (lines, right) in [
        (&[write, sync, told][..], true),
        (&[write, begun, ended, told], true),
        (&[write, told, sync], false),
        (&[write, begun, told, ended], false),
        (&[sync, write, told], false),
        (&[begun, write, ended, told], false),
        (&[write, other, told], false),
        (&[write, failed, told], false),
        (&[sync, told], false),
    ] {
        let ids = HashMap::from([("ID7".to_owned(), 7)]);
        assert_eq!(check(&lines.join("\n"), &ids).is_ok(), right, "{lines:?}");
    }
}

fn configuration(sink: &Sink) -> String {
    format!(
        r#"
[server.limits]
connections_per_client_per_minute = 100000

{}
"#,
        marie_by(sink.address)
    )
}

fn may_trace(out: &Path) -> bool {
    let mut probe = std::process::Command::new("strace");
    let probe = probe.args(["-D", "-f", "-o"]).arg(out).arg("true").output();
    probe.is_ok_and(|done| done.status.success())
}

#[test]
fn o1_each_message_is_synced_before_its_250_and_sessions_share_syncs() {
    let _alone = support::alone();
    let (sessions, each) = (number("WAYPOST_TRACE_SESSIONS", 20), number("WAYPOST_TRACE_EACH", 5));
    let sink = Sink::start();
    let folder = Folder::new(&configuration(&sink));
    let out = folder.path("trace");
    if !may_trace(&out) {
        assert!(std::env::var_os("WAYPOST_TRACE_MUST").is_none(), "strace is missing");
        eprintln!("skipped: strace is not there, or may not trace");
        return;
    }
    let serve = Serve::traced(&folder.configuration(), CALLS, &out);
    serve.log.wait_text("ready");
    let address = serve.address("mx");
    let threads: Vec<_> = (0..sessions)
        .map(|session| {
            std::thread::spawn(move || {
                let mut client = SmtpClient::hello(address, "client.elsewhere.example");
                let send = |place| {
                    let number = session * each + place;
                    let text = format!("X-Number: {number}\r\n\r\n{}\r\n", "x".repeat(70));
                    let from = "a@elsewhere.example";
                    let reply = client.message(from, &["marie@solarmora.com"], text.as_bytes());
                    (queue_id(&reply).to_owned(), number)
                };
                (0..each).map(send).collect::<Vec<_>>()
            })
        })
        .collect();
    let ids: HashMap<String, usize> =
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let process = serve.id().to_string();
    serve.terminate();
    // The tracer may outlive the server by a moment. Threads that end before the process say the same.
    let is_end = |line: &str| {
        line.split_once(' ')
            .is_some_and(|(id, rest)| id == process && rest.trim_start().starts_with("+++ exited"))
    };
    let until = Instant::now() + Duration::from_secs(60);
    let trace = loop {
        let trace = String::from_utf8_lossy(&std::fs::read(&out).unwrap()).into_owned();
        if trace.lines().any(is_end) {
            break trace;
        }
        assert!(Instant::now() < until, "the trace has no end");
        std::thread::sleep(Duration::from_millis(20));
    };
    let (messages, syncs) = check(&trace, &ids).unwrap_or_else(|error| {
        let kept = std::env::temp_dir().join("waypost-trace-sync.txt");
        std::fs::write(&kept, &trace).unwrap();
        panic!("{error} of {}", kept.display())
    });
    assert_eq!(messages, sessions * each);
    #[expect(clippy::cast_precision_loss, reason = "it is printed with two digits")]
    let share = syncs as f64 / messages as f64;
    println!(
        "{sessions} sessions, {messages} messages: each synced before its 250; {syncs} syncs of the \
         journal, {share:.2} a message"
    );
    assert!(sessions < 20 || share < 1.0, "{share} syncs a message: they are not shared");
}
