//! `waypost serve` on a spool with damaged values: they are set aside, and the rest is served.

use crate::support;

use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions};
use support::serving::{Folder, Serve, marie_by, queue_id};
use support::sink::Sink;
use waypost_types::QueueId;

/// Turns one bit of a stored value, beneath its checksum.
fn damage(spool: &Path, keyspace: &str, id: &str) -> String {
    let db = Database::builder(spool.join("db")).open().unwrap();
    let keyspace = db.keyspace(keyspace, KeyspaceCreateOptions::default).unwrap();
    let id: QueueId = id.parse().unwrap();
    let found = keyspace.prefix(id.number().to_be_bytes()).next().expect("such a value");
    let (key, value) = found.into_inner().unwrap();
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    let name = key.iter().map(|octet| format!("{octet:02x}")).collect();
    keyspace.insert(key, value).unwrap();
    name
}

#[test]
fn damaged_values_are_set_aside_and_the_rest_is_served() {
    // What it says is about each message: so each is tried.
    let busy = Sink::answering(|line| {
        line.starts_with("RCPT").then(|| "451 4.3.0 Try again later".to_owned())
    });
    let hop = busy.address;
    let folder = Folder::new(&marie_by(hop));
    let spool = folder.path("spool");
    let serve = folder.serve();
    let mut client = serve.session("mx");
    let ids: Vec<String> = ["entry", "body", "event", "whole"]
        .iter()
        .map(|name| {
            let text = format!("Subject: {name}\r\n\r\nHello\r\n");
            let from = "a@elsewhere.example";
            let reply = client.message(from, &["marie@solarmora.com"], text.as_bytes());
            queue_id(&reply).to_owned()
        })
        .collect();
    for id in &ids {
        serve.log.wait_for("deferred", |line| line.contains("deferred") && line.contains(id));
    }
    serve.terminate();
    let entry = damage(&spool, "entries", &ids[0]);
    let body = damage(&spool, "bodies", &ids[1]);
    let event = damage(&spool, "events", &ids[2]);

    let serve = folder.serve();
    let aside = |serve: &Serve, name: &str| {
        serve.log.wait_for(name, |line| line.contains("set aside") && line.contains(name));
        assert!(spool.join("corrupt").join(name).exists(), "{name}");
    };
    aside(&serve, &format!("entry-{entry}"));
    aside(&serve, &format!("event-{event}"));
    drop(busy);
    let sink = Sink::at(hop);
    let came = sink.wait(2);
    for name in ["event", "whole"] {
        let subject = format!("Subject: {name}\r\n");
        assert_eq!(came.iter().filter(|one| one.text().contains(&subject)).count(), 1, "{name}");
    }
    // The one without its bytes is held, not tried for ever.
    let held = serve.log.wait_text("it is held until someone removes it");
    assert!(held.contains(&ids[1]) && held.contains("checksum"), "{held}");
    aside(&serve, &format!("body-{body}"));
    assert!(spool.join("corrupt").join(format!("body-{entry}")).exists(), "to be saved by hand");
    serve.terminate();

    // And it stays held: the next start tells of one message, and sets nothing aside again.
    let serve = folder.serve();
    serve.log.wait_text("spool open messages=1");
    queue_id(&serve.session("mx").message(
        "a@elsewhere.example",
        &["marie@solarmora.com"],
        b"Subject: new\r\n\r\nHello\r\n",
    ));
    assert_eq!(sink.wait(3).len(), 3);
    assert!(!serve.log.holds("set aside") && !serve.log.holds("it is held until"));
    serve.terminate();
}
