//! The record of envelopes: a line for each message, written beside the path of the mail.
//!
//! A session hands its line over and goes on. What waits to be written is bounded; what finds no room, or
//! cannot be written, is counted, logged, and said in the next line that is written (`lost`). Mail never
//! waits or fails for it.

mod file;

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arc_swap::ArcSwapOption;
use prometheus_client::metrics::counter::Counter;
use waypost_config::replay::{LocalPartKey, Recorded};
use waypost_config::settings::{LocalParts, RecordSettings, ServerSettings};

use file::RecordFile;

/// Octets of lines that may wait to be written.
const WAITING: usize = 8 << 20;
/// Octets that are written at once, of more than one line: less than the smallest size at which a file is put
/// aside, with room for what is said of lost lines.
const BATCH: usize = 63 << 10;

/// Where the key of hashed local parts is, or would be: what `[server] record` names, or `record.key`
/// in the spool. Relative paths begin at `base`.
#[must_use]
pub fn record_key_file(settings: &ServerSettings, base: &Path) -> PathBuf {
    let named = settings.record.as_ref().and_then(|record| record.key.as_deref());
    match named {
        Some(path) => base.join(path),
        None => base.join(&*settings.spool).join("record.key"),
    }
}

/// Writes down envelopes, if it is told to.
#[derive(Debug)]
pub(crate) struct Recorder {
    on: ArcSwapOption<On>,
    writer: Mutex<Option<Writer>>,
    waiting: Arc<Waiting>,
}

/// What a session needs to hand a line over.
#[derive(Debug)]
struct On {
    key: Option<LocalPartKey>,
    jobs: Sender<Job>,
}

#[derive(Debug)]
struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

/// What waits, and what was lost.
#[derive(Debug)]
struct Waiting {
    octets: AtomicUsize,
    /// Lines lost since the last one that was written.
    lost: AtomicU64,
    counters: Counters,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Lines written.
    pub(crate) lines: Counter,
    /// Lines lost.
    pub(crate) lost: Counter,
}

#[derive(Debug)]
enum Job {
    Line(String),
    /// From now on into this file, or nowhere.
    File(Option<RecordFile>),
    Reopen,
    End,
}

impl Recorder {
    /// One that is off.
    pub(crate) fn new(counters: Counters) -> Self {
        let (octets, lost) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self {
            on: ArcSwapOption::empty(),
            writer: Mutex::new(None),
            waiting: Arc::new(Waiting { octets, lost, counters }),
        }
    }

    /// Records as these settings say, from now on. The file is opened anew. A key that cannot be had
    /// is logged, and nothing is recorded then: never local parts as they are.
    pub(crate) fn configure(&self, settings: &ServerSettings, base: &Path) {
        let Some(record) = &settings.record else { return self.off() };
        let key = match record.local_parts {
            LocalParts::Plain => None,
            LocalParts::Hashed => {
                let path = record_key_file(settings, base);
                match key_in(&path) {
                    Ok(key) => Some(key),
                    Err(error) => {
                        tracing::error!(
                            path = %path.display(), %error,
                            "the key of the record cannot be read or made; nothing is recorded"
                        );
                        return self.off();
                    }
                }
            }
        };
        let Some(jobs) = self.writer() else { return self.off() };
        let _ = jobs.send(Job::File(Some(file_of(record, base))));
        self.on.store(Some(Arc::new(On { key, jobs })));
    }

    fn off(&self) {
        self.on.store(None);
        if let Some(writer) = &*self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writer.jobs.send(Job::File(None));
        }
    }

    /// The thread that writes, started when it is needed first.
    fn writer(&self) -> Option<Sender<Job>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &*writer {
            return Some(writer.jobs.clone());
        }
        let (jobs, todo) = mpsc::channel();
        let waiting = Arc::clone(&self.waiting);
        let started = std::thread::Builder::new().name("record".to_owned()).spawn(move || {
            write_lines(&todo, &waiting);
        });
        match started {
            Ok(thread) => {
                *writer = Some(Writer { jobs: jobs.clone(), thread });
                Some(jobs)
            }
            Err(error) => {
                tracing::error!(%error, "the system gives no thread; nothing is recorded");
                None
            }
        }
    }

    /// Opens the file anew: somebody else may have put it aside.
    pub(crate) fn reopen(&self) {
        if let Some(on) = &*self.on.load() {
            let _ = on.jobs.send(Job::Reopen);
        }
    }

    /// Whether anything is recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.on.load().is_some()
    }

    /// The key of local parts; the outer `None`: nothing is recorded.
    #[expect(clippy::option_option, reason = "off, plain and hashed are three things")]
    pub(crate) fn key(&self) -> Option<Option<LocalPartKey>> {
        self.on.load().as_ref().map(|on| on.key.clone())
    }

    /// Hands a line over. Never waits.
    pub(crate) fn write(&self, recorded: &Recorded) {
        let on = self.on.load();
        let Some(on) = &*on else { return };
        let line = recorded.to_line();
        let octets = line.len();
        let waiting = &self.waiting;
        if waiting.octets.fetch_add(octets, Ordering::Relaxed).saturating_add(octets) > WAITING {
            waiting.octets.fetch_sub(octets, Ordering::Relaxed);
            return waiting.lose(1);
        }
        if on.jobs.send(Job::Line(line)).is_err() {
            waiting.octets.fetch_sub(octets, Ordering::Relaxed);
            waiting.lose(1);
        }
    }

    /// Writes what waits, and ends. Blocking.
    pub(crate) fn close(&self) {
        self.on.store(None);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.jobs.send(Job::End);
            if writer.thread.join().is_err() {
                tracing::error!("the record's thread ended abnormally");
            }
        }
    }
}

impl Waiting {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.counters.lost.inc_by(lines);
    }
}

fn file_of(record: &RecordSettings, base: &Path) -> RecordFile {
    RecordFile::new(base.join(&*record.file), record.rotate, record.keep)
}

/// The key in a file; made if the file is missing.
fn key_in(path: &Path) -> io::Result<LocalPartKey> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let octets = bytes.len();
            let wrong = |_| io::Error::other(format!("it has {octets} octets, and a key has 16"));
            return bytes.try_into().map(LocalPartKey::new).map_err(wrong);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 16];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, &key)?;
    Ok(LocalPartKey::new(key))
}

/// The thread: writes lines as they come, several at once where they wait.
fn write_lines(todo: &Receiver<Job>, waiting: &Waiting) {
    let mut file: Option<RecordFile> = None;
    let mut fails = false;
    let mut next = todo.recv().ok();
    while let Some(job) = next {
        next = None;
        match job {
            Job::Line(line) => {
                let mut batch = vec![line];
                let mut octets = batch.iter().map(String::len).sum::<usize>();
                while next.is_none() {
                    match todo.try_recv() {
                        Ok(Job::Line(line)) if octets.saturating_add(line.len()) <= BATCH => {
                            octets += line.len();
                            batch.push(line);
                        }
                        Ok(other) => next = Some(other),
                        Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                    }
                }
                waiting.octets.fetch_sub(octets, Ordering::Relaxed);
                if let Some(file) = &mut file {
                    write_batch(file, &batch, waiting, &mut fails);
                }
            }
            Job::File(other) => {
                file = other;
                // A file that cannot be opened is told at once, not with the first message.
                if let Some(error) = file.as_mut().and_then(|file| file.open().err()) {
                    told(&mut fails, file.as_ref().map(RecordFile::path), &error);
                }
            }
            Job::Reopen => {
                if let Some(file) = &mut file {
                    file.close();
                }
            }
            Job::End => return,
        }
        if next.is_none() {
            next = todo.recv().ok();
        }
    }
}

fn write_batch(file: &mut RecordFile, batch: &[String], waiting: &Waiting, fails: &mut bool) {
    let lines = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    let lost = waiting.lost.swap(0, Ordering::Relaxed);
    let mut text = batch.concat();
    if lost > 0 && text.starts_with('{') {
        text.replace_range(..1, &format!("{{\"lost\":{lost},"));
    }
    match file.write(text.as_bytes()) {
        Ok(()) => {
            waiting.counters.lines.inc_by(lines);
            if std::mem::take(fails) {
                let path = file.path().display();
                tracing::info!(%path, lost, "the record of envelopes is written again");
            }
        }
        Err(error) => {
            waiting.lost.fetch_add(lost, Ordering::Relaxed);
            waiting.lose(lines);
            told(fails, Some(file.path()), &error);
        }
    }
}

/// Warns once, until it works again.
fn told(fails: &mut bool, path: Option<&Path>, error: &io::Error) {
    if !std::mem::replace(fails, true) {
        let path = path.map(|path| path.display().to_string()).unwrap_or_default();
        tracing::warn!(
            path, %error,
            "the record of envelopes cannot be written; mail goes on, and lines are lost until it can"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn recorder() -> (Recorder, Counters) {
        let counters = Counters::default();
        (Recorder::new(counters.clone()), counters)
    }

    fn on(recorder: &Recorder, path: PathBuf, rotate: u64, keep: usize) {
        let jobs = recorder.writer().unwrap();
        jobs.send(Job::File(Some(RecordFile::new(path, rotate, keep)))).unwrap();
        recorder.on.store(Some(Arc::new(On { key: None, jobs })));
    }

    fn line(id: &str) -> Recorded {
        Recorded { id: id.into(), ..Recorded::default() }
    }

    fn ids(path: &Path) -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(path).unwrap();
        let read = |line: &str| Recorded::read(line.as_bytes()).unwrap();
        let read = text.lines().map(read);
        read.map(|line| (line.id.as_str().unwrap().to_owned(), line.lost)).collect()
    }

    #[test]
    fn lines_are_written_in_order_with_mode_0640() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let (recorder, counters) = recorder();
        recorder.write(&line("nobody asked"));
        on(&recorder, path.clone(), 1 << 20, 3);
        for id in 0..500 {
            recorder.write(&line(&id.to_string()));
        }
        recorder.close();
        let want: Vec<_> = (0..500).map(|id| (id.to_string(), 0)).collect();
        assert_eq!(ids(&path), want);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!((counters.lines.get(), counters.lost.get()), (500, 0));
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said_in_the_next_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/r.jsonl");
        let (recorder, counters) = recorder();
        on(&recorder, path.clone(), 1 << 20, 3);
        for id in ["a", "b"] {
            recorder.write(&line(id));
        }
        // The thread has tried both before the folder is there.
        while counters.lost.get() < 2 {
            std::thread::yield_now();
        }
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        recorder.write(&line("c"));
        recorder.close();
        assert_eq!(ids(&path), [("c".to_owned(), 2)]);
        assert_eq!((counters.lines.get(), counters.lost.get()), (1, 2));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (recorder, counters) = recorder();
        let (jobs, todo) = mpsc::channel();
        recorder.on.store(Some(Arc::new(On { key: None, jobs })));
        let long = Recorded { message: "x".repeat(60_000), ..line("long") };
        for _ in 0..1000 {
            recorder.write(&long);
        }
        let kept = todo.try_iter().count();
        assert!(kept * 60_000 <= WAITING && kept > 100, "{kept}");
        assert_eq!(counters.lost.get(), 1000 - u64::try_from(kept).unwrap());
    }

    #[test]
    fn lines_that_waited_make_no_file_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let (recorder, counters) = recorder();
        let (jobs, todo) = mpsc::channel();
        jobs.send(Job::File(Some(RecordFile::new(path.clone(), 64 << 10, 9)))).unwrap();
        recorder.on.store(Some(Arc::new(On { key: None, jobs: jobs.clone() })));
        let long = Recorded { message: "x".repeat(14_000), ..line("long") };
        for _ in 0..24 {
            recorder.write(&long);
        }
        jobs.send(Job::End).unwrap();
        write_lines(&todo, &recorder.waiting);
        let sizes: Vec<u64> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert!(sizes.len() > 4 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
        assert_eq!((counters.lines.get(), counters.lost.get()), (24, 0));
    }

    #[test]
    fn a_key_is_made_once_and_is_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.key");
        let one = key_in(&path).unwrap().fingerprint();
        assert_eq!(key_in(&path).unwrap().fingerprint(), one);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(key_in(&path).unwrap_err().to_string().contains("5 octets"));
    }
}
