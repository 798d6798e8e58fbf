//! The store on a disk that is really full. Needs root, for a file system of its own.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may say what they mean")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{accepted, body, id, messages};
use waypost_queue::{Durability, Store, StoreError};
use waypost_store::{Committer, CommitterOptions, FjallStore, free_octets};

struct Mounted(PathBuf);

impl Mounted {
    fn new(path: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={mib}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "waypost-test"])
            .arg(path)
            .status();
        if mount.is_ok_and(|status| status.success()) {
            return Some(Self(path.to_owned()));
        }
        eprintln!("skipped: a tmpfs cannot be mounted");
        None
    }

    /// Leaves so many octets.
    fn fill_but(&self, octets: u64) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        let zeros = vec![0; 64 << 10];
        while free_octets(&self.0).unwrap() > octets + (64 << 10) {
            file.write_all(&zeros).unwrap();
        }
        while free_octets(&self.0).unwrap() > octets && file.write(&zeros[..4096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The journal cannot be extended, a table cannot be written, the store cannot be opened anew: wherever
/// the space ends, what was synced is there when there is space again.
#[test]
fn wherever_the_space_ends_nothing_synced_is_lost_o1() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::new(&folder.path().join("disk"), 64) else { return };
    let spool = disk.0.join("spool");
    let mut number = 0;
    let mut synced = Vec::new();
    // Little is left for the journal; for the journal and a part of a table; nothing at all.
    for left in [200 << 10, 9 << 20, 12 << 20, 4096, 0] {
        let store = FjallStore::open(&spool).unwrap();
        disk.fill_but(left);
        let until = Instant::now() + Duration::from_secs(30);
        let error = loop {
            number += 1;
            let mut record = accepted(number);
            record.bodies[0].1 = vec![b'x'; 40_000].into();
            match store.commit(&[record], Durability::Synced) {
                Ok(()) => synced.push(number),
                Err(error) => break error,
            }
            assert!(Instant::now() < until, "it goes on with {left} octets left");
        };
        assert!(matches!(error, StoreError::Failed { .. }), "{error}");
        drop(store);
        // Asked again and again while it is full, as the committer does: nothing gets worse.
        let opened = (0..5).filter(|_| FjallStore::open(&spool).is_ok()).count();
        println!("{left} octets left: {} synced, {error}; {opened} of 5 openings", synced.len());
        disk.empty();
    }
    let store = FjallStore::open(&spool).unwrap();
    let kept = messages(&store);
    for number in &synced {
        assert!(kept.contains(number), "{number} was synced and is lost");
        assert_eq!(store.body(id(*number)).unwrap().unwrap().len(), 40_000);
    }
    println!("{} synced, {} kept", synced.len(), kept.len());
}

#[test]
fn the_committer_resumes_when_there_is_space_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::new(&folder.path().join("disk"), 64) else { return };
    let spool = disk.0.join("spool");
    let store = FjallStore::open(&spool).unwrap();
    let reopen = {
        let spool = spool.clone();
        move || FjallStore::open(&spool)
    };
    let committer = Committer::start(store, reopen, CommitterOptions::default()).unwrap();
    let handle = committer.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        handle.commit(accepted(1)).await.unwrap();
        disk.fill_but(0);
        // Outcomes are kept meanwhile.
        let large = |number| {
            let mut record = accepted(number);
            record.bodies[0].1 = vec![b'x'; 1 << 20].into();
            record
        };
        assert!(handle.commit(large(2)).await.is_err());
        handle.commit_lazily(vec![common::done(1)].into()).await.unwrap();
        // Until it could not be opened anew either, more than once.
        let until = Instant::now() + Duration::from_secs(60);
        let mut number = 3;
        while handle.counts().failures < 3 {
            assert!(Instant::now() < until, "{:?}", handle.counts());
            assert!(handle.commit(large(number)).await.is_err());
            number += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        disk.empty();
        let until = Instant::now() + Duration::from_secs(60);
        while handle.commit(accepted(number)).await.is_err() {
            assert!(Instant::now() < until, "it does not open again");
            number += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Within five seconds of there being space: no pause is longer.
        assert!(CommitterOptions::default().longest_pause < Duration::from_secs(5));
        assert_eq!(handle.body(id(number)), Ok(Some(body(number))));
        assert_eq!(handle.body(id(1)), Ok(None), "the outcome was written");
        for refused in 2..number {
            assert_eq!(handle.body(id(refused)), Ok(None), "{refused} was refused");
        }
    });
    committer.shutdown().unwrap();
}
