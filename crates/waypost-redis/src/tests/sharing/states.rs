//! A Redis in an odd state: it counts as gone, the reason is told, and it is taken up again by itself; no
//! more is accepted than the limit while it has its counts (O5, D13).

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::TryRecvError;

use super::*;

const LIMIT: u32 = 5;

impl Node {
    /// One recipient; whether it was taken.
    async fn takes(&self) -> Result<bool, crate::Unavailable> {
        Ok(self.send(LIMIT, &to(1)).await? == 1)
    }

    /// Waits until it is gone for this reason.
    async fn gone_because(&self, want: &str) {
        let mut standing = self.ledger.standing();
        let gone = standing.wait_for(
            |standing| matches!(standing, Standing::Down { because } if because.contains(want)),
        );
        let found = tokio::time::timeout(LONG, gone).await.map(drop);
        assert!(found.is_ok(), "{want}: {:?}", self.ledger.standing().borrow());
    }
}

fn say(server: &mut redis::Connection, command: &str) {
    let mut words = command.split(' ');
    let mut says = redis::cmd(words.next().unwrap());
    let _: redis::Value = says.arg(words.collect::<Vec<_>>()).query(server).unwrap();
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn a_limit_holds_through_each_odd_state_and_back_o5() {
    for (name, enter, leave, want) in [
        (
            "out of memory",
            &["CONFIG SET maxmemory 1"][..],
            &["CONFIG SET maxmemory 0"][..],
            "its memory is full (OOM)",
        ),
        (
            "a replica",
            &["REPLICAOF 127.0.0.1 1"],
            &["REPLICAOF NO ONE"],
            "takes no writes (READONLY)",
        ),
        ("no script", &["SCRIPT FLUSH"], &[], "has lost the script (NOSCRIPT)"),
        ("emptied", &["FLUSHALL"], &[], "was emptied"),
        (
            "a password",
            &["CONFIG SET requirepass hush", "CLIENT KILL TYPE normal SKIPME yes"],
            &["CONFIG SET requirepass "],
            "asks for a password (NOAUTH)",
        ),
        (
            "no replicas",
            &["CONFIG SET min-replicas-to-write 1"],
            &["CONFIG SET min-replicas-to-write 0"],
            "lacks replicas (NOREPLICAS)",
        ),
        (
            "no rights",
            &["ACL SETUSER default -evalsha"],
            &["ACL SETUSER default +@all"],
            "(NOPERM)",
        ),
    ] {
        let server = Server::start();
        let node = Node::start(&server, 1, 1000).await;
        for _ in 0..3 {
            assert!(node.takes().await.unwrap(), "{name}");
        }
        assert!(node.ledger.flush(LONG).await, "{name}");
        let mut hand = server.connection();
        enter.iter().for_each(|command| say(&mut hand, command));
        // The script is loaded again so soon that the reason may be seen by the one who asked alone.
        let because = node.takes().await.expect_err(name).because;
        if !because.contains(want) {
            node.gone_because(want).await;
        }
        if !leave.is_empty() {
            assert!(node.takes().await.is_err(), "{name}: at once, and no place");
        }
        leave.iter().for_each(|command| say(&mut hand, command));
        assert!(node.ledger.ready(LONG).await, "{name}");
        let mut taken = 0;
        while node.takes().await.unwrap() {
            taken += 1;
        }
        assert_eq!(taken, 2, "{name}");
        assert!(node.ledger.flush(LONG).await, "{name}");
        assert_eq!(node.used().await, (LIMIT, 0), "{name}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn while_it_loads_its_data_it_counts_as_gone_o5() {
    let mut server = Server::start();
    let node = Node::start(&server, 1, 1000).await;
    for _ in 0..3 {
        assert!(node.takes().await.unwrap());
    }
    assert!(node.ledger.flush(LONG).await);
    let mut fill = redis::pipe();
    for number in 0..1500 {
        fill.set(format!("filler:{number}"), "x".repeat(100)).ignore();
    }
    let () = fill.query(&mut server.connection()).unwrap();
    say(&mut server.connection(), "SAVE");
    server.kill();
    node.down().await;
    // Two seconds or so, with a look at its clients now and then.
    server.restart(&[
        "--key-load-delay",
        "1500",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    node.gone_because("still loading its data (LOADING)").await;
    assert!(node.takes().await.is_err());
    assert!(node.ledger.ready(LONG).await);
    assert_eq!(node.used().await, (3, 0));
    assert!(node.takes().await.unwrap() && node.takes().await.unwrap());
    assert!(!node.takes().await.unwrap());
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn what_answers_nonsense_or_nothing_is_no_redis_o5() {
    let mut server = Server::start();
    let node = Node::start(&server, 1, 1000).await;
    assert!(node.takes().await.unwrap());
    assert!(node.ledger.flush(LONG).await);
    server.kill();
    let deep = "*1\r\n".repeat(100_000);
    let endless = "x".repeat(1_000_000);
    for (says, want) in [
        (Some("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "none of Redis"),
        (Some("220 mx.solarmora.com ESMTP\r\n"), "none of Redis"),
        (Some("\u{0}\u{1}\u{2}\r\n\r\n"), "none of Redis"),
        (Some("$99999999999999999999\r\n"), "none of Redis"),
        (Some("*-7\r\n"), "none of Redis"),
        (Some(":12\r\n:12\r\n:12\r\n:12\r\n:12\r\n:12\r\n"), "none of Redis"),
        (
            Some("-ERR hello 'hush'\r\n-ERR hello\r\n-ERR hello\r\n-ERR hello\r\n"),
            "the error ERR: hello",
        ),
        (Some(&*deep), "none of Redis"),
        (Some(&*format!("+{endless}")), "in time"),
        (Some("$1000000000000\r\nabc"), "in time"),
        (Some(""), "in time"),
        (None, "closed the connection"),
    ] {
        let listener = UnixListener::bind(server.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let says = says.map(str::to_owned);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let fake = std::thread::spawn(move || {
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                match (listener.accept(), &says) {
                    (Ok((mut stream, _)), Some(says)) => {
                        stream.set_nonblocking(false).unwrap();
                        let says = says.clone();
                        // To whatever it is asked, as often as it is asked.
                        std::thread::spawn(move || {
                            while stream.read(&mut [0; 65_536]).is_ok_and(|count| count > 0) {
                                let _ = stream.write_all(says.as_bytes());
                            }
                        });
                    }
                    (Ok(_), None) => {}
                    (Err(_), _) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        node.gone_because(want).await;
        assert!(node.takes().await.is_err());
        drop(stop);
        // Until then it may have been asked once more.
        fake.join().unwrap();
        std::fs::remove_file(server.socket()).unwrap();
    }
    server.restart(&[]);
    assert!(node.ledger.ready(LONG).await);
    node.waits_for(1, 0).await;
    for _ in 1..LIMIT {
        assert!(node.takes().await.unwrap());
    }
    assert!(!node.takes().await.unwrap());
}

#[tokio::test]
#[ignore = "needs redis-server: run scripts/redis"]
async fn after_a_failover_to_an_older_copy_what_it_lacks_is_told_o5() {
    let mut server = Server::start();
    let (one, other) = (Node::start(&server, 1, 1000).await, Node::start(&server, 2, 1000).await);
    for node in [&one, &other] {
        assert_eq!(node.send(1000, &to(2)).await.unwrap(), 2);
        assert!(node.ledger.flush(LONG).await);
    }
    say(&mut server.connection(), "SAVE");
    for _ in 0..3 {
        assert_eq!(one.send(1000, &to(1)).await.unwrap(), 1);
        assert_eq!(other.send(1000, &to(2)).await.unwrap(), 2);
    }
    assert!(one.ledger.flush(LONG).await && other.ledger.flush(LONG).await);
    assert_eq!(one.used().await, (13, 0));
    server.kill();
    one.down().await;
    other.down().await;
    server.restart(&[]);
    assert!(one.ledger.ready(LONG).await && other.ledger.ready(LONG).await);
    one.waits_for(13, 0).await;
    other.waits_for(13, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: run scripts/redis"]
async fn emptied_while_mail_flows_it_is_told_of_all_of_it_o5() {
    let server = Server::start();
    let nodes = [Node::start(&server, 1, 1000).await, Node::start(&server, 2, 1000).await];
    let nodes = nodes.map(Arc::new);
    let senders: Vec<_> = nodes
        .iter()
        .map(|node| {
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let (mut taken, begun) = (0, Instant::now());
                while begun.elapsed() < Duration::from_millis(1500) {
                    match node.send(100_000, &to(1)).await {
                        Ok(count) => taken += count,
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
                taken
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        say(&mut server.connection(), "FLUSHALL");
    }
    let mut taken = 0;
    for sender in senders {
        taken += u32::try_from(sender.await.unwrap()).unwrap();
    }
    assert!(taken > 10);
    for node in &nodes {
        node.waits_for_again(taken).await;
    }
}
