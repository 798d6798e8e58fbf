//! The programs under test: started in a folder of their own, greeted, ended.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use tempfile::TempDir;

use crate::trouble::{Doing, Trouble};
use crate::usage::Group;
use crate::{postfix, serve};

/// How long a program may take to greet.
const START: Duration = Duration::from_secs(30);
/// How long a program may take to end in order.
const END: Duration = Duration::from_secs(5);

/// Which program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// `waypost serve`, the binary at this path.
    Serve(PathBuf),
    /// Postfix, below this root.
    Postfix(PathBuf),
    /// None: the source talks to the sink. What source and sink can do together is the limit of what can
    /// be measured with them.
    Direct,
}

impl Program {
    /// Its name in tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::Postfix(_) => "postfix",
            Self::Direct => "direct",
        }
    }
}

/// What a program is to be configured for.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// Where folders are made.
    pub(crate) dir: PathBuf,
    /// Where all mail goes.
    pub(crate) sink: SocketAddr,
    /// Sessions at a time.
    pub(crate) sessions: usize,
    /// Certificate and key, where STARTTLS is to be offered.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Count system calls that sync: the program runs under `strace`, and slowly.
    pub(crate) strace: bool,
}

/// A running program; dropped, it is ended.
pub(crate) struct Running {
    /// Which.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its processes; none with [`Program::Direct`].
    pub(crate) group: Option<Group>,
    child: Option<Child>,
    folder: Option<TempDir>,
}

/// What is to be ended and removed when this program is interrupted.
struct Ours {
    groups: Vec<Group>,
    folder: Option<PathBuf>,
}

static OURS: Mutex<Ours> = Mutex::new(Ours { groups: Vec::new(), folder: None });

fn ours() -> std::sync::MutexGuard<'static, Ours> {
    OURS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Signals that end this program.
fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// From here on, what was started is ended when this program is interrupted. To be called before there
/// is a second thread.
pub(crate) fn end_with_signals() -> Result<(), Trouble> {
    signals().thread_block().doing(|| "blocking signals".to_owned())?;
    std::thread::spawn(|| {
        let _ = signals().wait();
        let mut ours = ours();
        for group in ours.groups.drain(..) {
            group.end(Duration::ZERO);
        }
        if let Some(folder) = &ours.folder {
            let _ = fs::remove_dir_all(folder);
        }
        std::process::exit(130);
    });
    Ok(())
}

/// A folder for all that is made, which any user may enter.
pub(crate) fn folder_in(dir: &Path) -> Result<TempDir, Trouble> {
    let folder = tempfile::Builder::new()
        .prefix("waypost-load-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(dir)
        .doing(|| format!("making a folder in {}", dir.display()))?;
    ours().folder = Some(folder.path().to_owned());
    Ok(folder)
}

impl Running {
    /// Starts a program, and waits for its greeting.
    pub(crate) fn start(program: &Program, needs: &Needs) -> Result<Self, Trouble> {
        let name = program.name();
        if *program == Program::Direct {
            return Ok(Self { name, address: needs.sink, group: None, child: None, folder: None });
        }
        let folder = tempfile::Builder::new().prefix(name).tempdir_in(&needs.dir);
        let folder = folder.doing(|| format!("making a folder in {}", needs.dir.display()))?;
        let address = free_address().doing(|| "finding a free port".to_owned())?;
        let command = match program {
            Program::Postfix(root) => postfix::prepare(root, folder.path(), address, needs)?,
            Program::Serve(binary) => serve::prepare(binary, folder.path(), address, needs)?,
            Program::Direct => unreachable!("returned above"),
        };
        let mut command = match needs.strace {
            true => traced(&command, folder.path()),
            false => command,
        };
        let log = fs::File::create(log_of(folder.path()));
        let log = log.doing(|| format!("making a log in {}", folder.path().display()))?;
        let second = log.try_clone().doing(|| "sharing the log".to_owned())?;
        command.stdin(Stdio::null()).stdout(log).stderr(second).process_group(0);
        // What is blocked here would be blocked there.
        let _ = signals().thread_unblock();
        let child = command.spawn();
        let _ = signals().thread_block();
        let child = child.doing(|| format!("starting {command:?}"))?;
        let group = Group(i32::try_from(child.id()).unwrap_or(i32::MAX));
        ours().groups.push(group);
        let mut running =
            Self { name, address, group: Some(group), child: Some(child), folder: Some(folder) };
        running.greeted()?;
        Ok(running)
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Calls that sync, so far.
    pub(crate) fn syncs(&self) -> Option<u64> {
        let text = fs::read_to_string(self.folder()?.join("syncs")).ok()?;
        Some(
            text.lines().filter(|line| line.contains("sync(") && !line.contains("resumed")).count()
                as u64,
        )
    }

    /// What it wrote last.
    pub(crate) fn tail(&self) -> String {
        let Some(folder) = self.folder() else { return String::new() };
        let text = fs::read(log_of(folder)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn greeted(&mut self) -> Result<(), Trouble> {
        let until = Instant::now() + START;
        loop {
            if greets(self.address) {
                return Ok(());
            }
            let log = self.folder().map(log_of).unwrap_or_default();
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                let tail = self.tail();
                return Err(Trouble::Ended {
                    name: self.name,
                    status: status.to_string(),
                    log,
                    tail,
                });
            }
            if Instant::now() > until {
                let (name, address, seconds) = (self.name, self.address, START.as_secs());
                return Err(Trouble::Silent { name, address, seconds, log, tail: self.tail() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(group) = self.group else { return };
        // The leader is reaped here, so that it counts as gone.
        let child = self.child.take();
        let reaped = std::thread::spawn(move || child.map(|mut child| child.wait()));
        group.end(END);
        let _ = reaped.join();
        ours().groups.retain(|other| other.0 != group.0);
    }
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut greeting = [0; 3];
    let greeted = stream.read_exact(&mut greeting).is_ok() && greeting == *b"220";
    let _ = stream.write_all(b"QUIT\r\n");
    let _ = stream.read(&mut [0; 256]);
    greeted
}

/// An address of loopback on which nothing listens.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn traced(command: &Command, folder: &Path) -> Command {
    let mut traced = Command::new("strace");
    // `-D`: the program, not the tracer, is our child.
    traced.args(["-D", "-f", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,msync", "-o"]);
    traced.arg(folder.join("syncs")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    if let Some(dir) = command.get_current_dir() {
        traced.current_dir(dir);
    }
    traced
}
