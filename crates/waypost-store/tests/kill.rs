//! A process that is killed has lost nothing that it acknowledged (O1).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may say what they mean")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{accepted, body, done, id, messages};
use waypost_queue::Store;
use waypost_store::{Committer, CommitterOptions, FjallStore};

const SPOOL: &str = "WAYPOST_TEST_SPOOL";

/// Does nothing by itself: the other test runs it as a process of its own, and kills it.
#[test]
fn victim() {
    let Some(spool) = std::env::var_os(SPOOL) else { return };
    let spool = Path::new(&spool).to_owned();
    let store = FjallStore::open(&spool).unwrap();
    let reopen = move || FjallStore::open(&spool);
    let committer = Committer::start(store, reopen, CommitterOptions::default()).unwrap();
    let handle = committer.handle();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for number in 1.. {
            handle.commit(accepted(number)).await.unwrap();
            println!("acknowledged {number}");
            if number % 3 == 0 {
                println!("ended {number}");
                handle.commit_lazily(vec![done(number)].into()).await.unwrap();
            }
        }
    });
}

#[test]
fn kill_9_loses_nothing_acknowledged_o1() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(SPOOL, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut acknowledged, mut ended) = (Vec::new(), Vec::new());
    let mut take = |line: &str| {
        if let Some(number) = line.strip_prefix("acknowledged ") {
            acknowledged.push(number.parse::<u64>().unwrap());
        } else if let Some(number) = line.strip_prefix("ended ") {
            ended.push(number.parse::<u64>().unwrap());
        }
        acknowledged.len()
    };
    while take(&lines.next().unwrap().unwrap()) < 200 {}
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        take(&line);
    }

    let store = FjallStore::open(folder.path()).unwrap();
    let kept = messages(&store);
    for number in acknowledged {
        if !ended.contains(&number) {
            assert!(kept.contains(&number), "{number} was acknowledged and is lost");
            assert_eq!(store.body(id(number)), Ok(Some(body(number))));
        }
    }
}
