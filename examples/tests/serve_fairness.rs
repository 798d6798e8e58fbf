//! `waypost serve`: slow and dead destinations beside others, rests, and intake at the next hop's pace.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use support::serving::{Folder, Serve, queue_id};
use support::sink::{Sink, reserved};

/// The longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Routes `r0`, `r1`, …: what is for `x0.…@solarmora.com` goes by the first, and so on.
fn organization(routes: &[(SocketAddr, &str)]) -> String {
    let head = r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]

[[organization.user]]
address = "marie@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
"#;
    let mut text = head.to_owned();
    for (number, (address, more)) in routes.iter().enumerate() {
        text.push_str(&format!(
            r#"
[[organization.route]]
name = "r{number}"
host = "{}"
port = {}
require_tls = false
{more}

[[organization.rule]]
description = "By route {number}"
affects = ["inbound"]
accounts = ["unrecognized"]
then = {{ modify = {{ route = "r{number}" }} }}
[organization.rule.envelope]
recipients = [{{ pattern = '^x{number}\.' }}]
"#,
            address.ip(),
            address.port()
        ));
    }
    text
}

fn send(client: &mut support::smtp_client::SmtpClient, route: usize, message: usize) -> String {
    let to = format!("x{route}.{message}@solarmora.com");
    let text = format!("From: a@elsewhere.example\r\nSubject: {message}\r\n\r\nx\r\n");
    let reply = client.message("a@elsewhere.example", &[&to], text.as_bytes());
    queue_id(&reply).to_owned()
}

/// Polls until a condition holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn of_a_hundred_destinations_the_dead_and_the_slow_delay_no_other() {
    let _alone = support::alone();
    const EACH: usize = 2;
    const FIRST: usize = 120;
    let healthy: Vec<Sink> = (0..97).map(|_| Sink::start()).collect();
    // Nobody listens; the system takes connections and nobody answers; each answer takes five seconds.
    let (dead, mute) = (reserved(), TcpListener::bind("127.0.0.1:0").unwrap());
    let slow = Sink::answering(|_| {
        std::thread::sleep(Duration::from_secs(5));
        None
    });
    let hanging = [dead, mute.local_addr().unwrap(), slow.address];
    let sinks = healthy.iter().map(|sink| sink.address);
    let routes: Vec<_> = hanging.into_iter().chain(sinks).map(|at| (at, "")).collect();
    assert_eq!(routes.len(), 100);
    let folder = Folder::new(&organization(&routes));
    let serve = folder.serve();
    let address = serve.address("mx");
    let hello = || support::smtp_client::SmtpClient::hello(address, "client.elsewhere.example");
    // Hundreds for the three come first.
    std::thread::scope(|scope| {
        for route in 0..3 {
            let mut client = hello();
            scope.spawn(move || (0..FIRST).for_each(|n| drop(send(&mut client, route, n))));
        }
    });
    std::thread::scope(|scope| {
        for part in 0..3 {
            let mut client = hello();
            scope.spawn(move || {
                for route in (3..100).filter(|route| route % 3 == part) {
                    (0..EACH).for_each(|n| drop(send(&mut client, route, n)));
                }
            });
        }
    });
    for sink in &healthy {
        assert_eq!(sink.wait(EACH).len(), EACH);
    }
    assert!(slow.received().len() < FIRST, "the slow one is still at it");
    let open = slow.connections();
    assert!((1..=20).contains(&open), "at most twenty at a time: {open}");
    // The dead one is still owed all, and so is the one that never answers.
    assert!(owed(&serve, &folder) >= 2 * FIRST);
}

/// Ends the server and asks the spool how many messages it holds.
fn owed(serve: &Serve, folder: &Folder) -> usize {
    serve.signal("KILL");
    let again = loop {
        let again = Serve::spawn(&folder.configuration());
        until("it starts", || again.log.is_ready() || again.log.holds("in use"));
        if again.log.is_ready() {
            break again;
        }
    };
    let line = again.log.wait_text("spool open");
    line.split("messages=").nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn o2_a_route_whose_host_rests_counts_no_attempt_and_its_mail_still_expires() {
    let _alone = support::alone();
    let dead = reserved();
    let retry = "retry = { delays = [\"1s\"], lifetime = \"5s\" }";
    let folder = Folder::new(&organization(&[(dead, retry)]));
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let ids: Vec<_> = (0..8)
        .map(|n| {
            let to = format!("x0.{n}@solarmora.com");
            let text = b"From: a@elsewhere.example\r\n\r\nx\r\n";
            queue_id(&client.message("marie@solarmora.com", &[&to], text)).to_owned()
        })
        .collect();
    let reports = folder.mailbox("marie@solarmora.com", "", 8);
    for report in &reports {
        assert!(report.contains("Status: 5.4.7\n"), "{report}");
        assert!(report.contains("Action: failed\n"), "{report}");
    }
    let refused = reports.iter().filter(|report| report.contains("refused")).count();
    assert!(refused >= 1, "{reports:?}");
    // The host's first pause is 15 s: nobody tried twice in the 5 s.
    for id in ids {
        let again = format!("id={id} ");
        let second = |line: &str| line.contains(&again) && line.contains("attempt=2");
        assert!(!serve.log.to_string().lines().any(second), "{}", serve.log);
    }
    serve.terminate();
}

fn metric(address: SocketAddr, name: &str) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0, |value| value.parse().unwrap())
}

#[test]
fn intake_goes_at_the_pace_of_a_sink_that_is_slower_than_the_source() {
    let _alone = support::alone();
    const SESSIONS: usize = 8;
    const MESSAGES: usize = 20;
    // 16 MiB may wait for one destination: 64 of these.
    const BOUND: usize = 64;
    let text = {
        let line = format!("{}\r\n", "x".repeat(1022));
        format!("From: a@elsewhere.example\r\n\r\n{}", line.repeat(256))
    };
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let held = Arc::clone(&gate);
    let slow = Sink::answering(move |command| {
        if command == "." {
            let open = held.0.lock().unwrap();
            drop(held.1.wait_while(open, |open| !*open).unwrap());
        }
        None
    });
    let other = Sink::start();
    let admin = reserved();
    let folder = Folder::new("");
    let routes = organization(&[(slow.address, ""), (other.address, "")]);
    folder.configure(&format!("admin = \"{admin}\"\n{routes}"));
    let serve = folder.serve();
    let address = serve.address("mx");
    let hello = || support::smtp_client::SmtpClient::hello(address, "client.elsewhere.example");
    let (accepted, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let (mut client, text) = (hello(), text.as_bytes());
            let (accepted, most, slow) = (&accepted, &most, &slow);
            scope.spawn(move || {
                for message in 0..MESSAGES {
                    let to = format!("x0.{session}.{message}@solarmora.com");
                    queue_id(&client.message("a@elsewhere.example", &[&to], text));
                    // In this order: what came is no less than what had come when it was accepted.
                    let accepted = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                    let waiting = accepted.saturating_sub(slow.received().len());
                    most.fetch_max(waiting, Ordering::SeqCst);
                }
            });
        }
        // One may wait twice, and a 250 may be on its way to its client.
        until("all sessions wait", || {
            metric(admin, "waypost_intake_waits_total") >= SESSIONS
                && accepted.load(Ordering::SeqCst) >= BOUND
        });
        let stood = accepted.load(Ordering::SeqCst);
        assert!(
            (BOUND..=BOUND + 5 + SESSIONS).contains(&stood),
            "five run, the rest wait: {stood}"
        );
        // Mail for others comes in and goes out meanwhile.
        send(&mut hello(), 1, 0);
        other.wait(1);
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
    });
    slow.wait(SESSIONS * MESSAGES);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= BOUND + 20 + SESSIONS, "what waits, what runs, what comes in: {most}");
    serve.terminate();
}
