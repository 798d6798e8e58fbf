//! A Redis of one's own, on a socket in a folder that is removed with it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that is killed when it is dropped.
pub(super) struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(super) fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { child: spawn(&folder.path().join("socket"), more), folder }
    }

    /// With TLS on a port of 127.0.0.1 besides; files and what else there is of it as given.
    pub(super) fn start_with_tls(more: &[&str]) -> (Self, u16) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = port.to_string();
        let listens = ["--bind", "127.0.0.1", "--tls-port", &text];
        (Self::start_with(&[&listens[..], more].concat()), port)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(super) fn address(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub(super) fn connection(&self) -> redis::Connection {
        redis::Client::open(self.address()).unwrap().get_connection().unwrap()
    }

    /// Stops it from running, as a machine that hangs.
    pub(super) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(super) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Starts it again, with nothing in it but what it saved.
    pub(super) fn restart(&mut self, more: &[&str]) {
        self.child = spawn(&self.socket(), more);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(socket: &std::path::Path, more: &[&str]) -> Child {
    let program = std::env::var_os("REDIS_SERVER").expect("REDIS_SERVER; run scripts/redis");
    let mut child = Command::new(program)
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(socket)
        .arg("--dir")
        .arg(socket.parent().unwrap())
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the server does not listen");
        assert!(child.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}
