//! `waypost serve` on a disk that fills and empties again: what cannot be stored is refused in time, nothing
//! acknowledged is lost, and intake resumes by itself. Needs root, for a file system of its own.

use crate::support;

use std::time::{Duration, Instant};

use support::serving::{Folder, Serve, marie_by, queue_id};
use support::sink::{Sink, reserved};
use support::smtp_client::{SmtpClient, stuff};
use support::tmpfs::Tmpfs;

const FROM: &str = "a@elsewhere.example";
const TO: &str = "marie@solarmora.com";
/// In MiB: room for the largest message twice, and for what the store keeps for itself.
const DISK: u32 = 96;
/// How soon after the disk has room again a message must be accepted.
const RESUME: Duration = Duration::from_secs(5);

fn to_hop(address: std::net::SocketAddr) -> String {
    format!(
        r#"
[server.limits]
message_size = "2MiB"

{}
"#,
        marie_by(address)
    )
}

fn text(number: usize, octets: usize) -> Vec<u8> {
    let line = format!("{}\r\n", "x".repeat(76));
    format!("X-Number: {number}\r\n\r\n{}", line.repeat(octets / line.len())).into_bytes()
}

/// Asks with MAIL until it is accepted, or refused; how long that took.
fn until_mail(serve: &Serve, wanted: &str) -> Duration {
    let begun = Instant::now();
    loop {
        let reply = serve.session("mx").say(&format!("MAIL FROM:<{FROM}>"));
        if reply.starts_with(wanted) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no {wanted}, still {reply}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Acknowledged(Vec<(usize, String)>);

impl Acknowledged {
    /// Sends a message; the reply to its final dot, or to the command that was refused.
    fn send(&mut self, client: &mut SmtpClient, number: usize, octets: usize) -> String {
        let mail = client.say(&format!("MAIL FROM:<{FROM}>"));
        if !mail.starts_with("250") {
            return mail;
        }
        client.ask(&format!("RCPT TO:<{TO}>"), "250");
        let reply = client.data(&text(number, octets));
        if reply.starts_with("250") {
            self.0.push((number, queue_id(&reply).to_owned()));
        }
        reply
    }

    /// Each came, whole.
    fn all_came(&self, sink: &Sink) {
        let has = |all: &[support::sink::Received], (number, id): &(usize, String)| {
            let number = format!("X-Number: {number}\r\n");
            all.iter().any(|one| one.text().contains(&number) && one.text().contains(id))
        };
        sink.wait_until("each acknowledged message", |all| self.0.iter().all(|one| has(all, one)));
    }
}

#[test]
fn o1_a_full_disk_refuses_in_time_loses_nothing_and_intake_resumes() {
    let hop = reserved();
    let folder = Folder::new(&to_hop(hop));
    let Some(disk) = Tmpfs::mount(&folder.path("spool"), DISK) else { return };
    let serve = folder.serve();
    let mut acknowledged = Acknowledged(Vec::new());
    let mut client = serve.session("mx");
    for number in 0..20 {
        let reply = acknowledged.send(&mut client, number, 20_000);
        queue_id(&reply);
    }

    // It fills between DATA and the final dot: refused before the 250, with 451 or 452.
    client.ask(&format!("MAIL FROM:<{FROM}>"), "250");
    client.ask(&format!("RCPT TO:<{TO}>"), "250");
    client.ask("DATA", "354");
    let message = stuff(&text(900, 1 << 20));
    let (first, last) = message.split_at(message.len() / 2);
    client.send(first);
    disk.fill();
    client.send(last);
    client.send(b".\r\n");
    let refused = client.reply();
    println!("the final dot on a full disk: {refused}");
    assert!(refused.starts_with("451 4.3.") || refused.starts_with("452 4.3.1"), "{refused}");

    // It is full: refused at MAIL.
    until_mail(&serve, "452 4.3.1");
    let full = serve.session("mx").say(&format!("MAIL FROM:<{FROM}> SIZE=100"));
    assert!(full.starts_with("452 4.3.1"), "{full}");
    for number in 100..150 {
        let reply = acknowledged.send(&mut client, number, 20_000);
        assert!(reply.starts_with("45"), "{reply}");
    }

    // It has room again: intake resumes by itself.
    disk.empty();
    let took = until_mail(&serve, "250");
    println!("accepted again after {took:?}");
    assert!(took < RESUME, "{took:?}");
    let mut client = serve.session("mx");
    let reply = acknowledged.send(&mut client, 200, 20_000);
    queue_id(&reply);

    // Nothing that was acknowledged is lost, not even when the process is killed; nothing refused comes.
    serve.kill();
    let serve = folder.serve();
    let sink = Sink::at(hop);
    acknowledged.all_came(&sink);
    serve.terminate();
    assert!(!sink.received().iter().any(|one| one.text().contains("X-Number: 900\r\n")));
}

/// The disk fills and empties under load, again and again, so that it ends at any point of the store's
/// work.
#[test]
fn o1_a_disk_that_fills_under_load_loses_nothing_acknowledged() {
    let hop = reserved();
    let folder = Folder::new(&to_hop(hop));
    let Some(disk) = Tmpfs::mount(&folder.path("spool"), DISK) else { return };
    let serve = folder.serve();
    let mut acknowledged = Acknowledged(Vec::new());
    let mut client = serve.session("mx");
    let (mut number, mut refused) = (1000, 0);
    for round in 0..4 {
        // 2 MiB at a time without MAIL being asked for space between: the commit itself meets the end.
        for _ in 0..4 {
            let reply = acknowledged.send(&mut client, number, 1 << 20);
            assert!(reply.starts_with("250"), "round {round}: {reply}");
            number += 1;
        }
        client.ask(&format!("MAIL FROM:<{FROM}>"), "250");
        disk.fill();
        client.ask(&format!("RCPT TO:<{TO}>"), "250");
        let reply = client.data(&text(number, 1 << 20));
        assert!(reply.starts_with("45"), "round {round}: {reply}");
        refused += 1;
        number += 1;
        until_mail(&serve, "452 4.3.1");
        disk.empty();
        let took = until_mail(&serve, "250");
        println!("round {round}: {reply}; accepted again after {took:?}");
        assert!(took < RESUME, "{took:?}");
        client = serve.session("mx");
    }
    let sink = Sink::at(hop);
    acknowledged.all_came(&sink);
    serve.terminate();
    println!("{} acknowledged and delivered, {refused} refused", acknowledged.0.len());
}
