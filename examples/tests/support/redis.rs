//! A real Redis of one's own.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server on a socket in a folder; dropped, it is killed.
pub(crate) struct Redis {
    child: Child,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts the one that `scripts/redis` names.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { child: spawn(folder.path()), folder }
    }

    /// One that speaks TLS on a port of 127.0.0.1 too, with this certificate and key, to a user of this
    /// name and password alone; and the port.
    pub(crate) fn start_with_tls(certificate: &Path, key: &Path, user: [&str; 2]) -> (Self, u16) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let redis = Self::start();
        let files = [certificate, key].map(|file| file.to_str().unwrap());
        let mut asks = UnixStream::connect(socket(redis.folder.path())).unwrap();
        let [name, password] = user;
        let commands = [
            format!("ACL SETUSER {name} on >{password} ~waypost:* +@all"),
            format!(
                "CONFIG SET bind 127.0.0.1 tls-cert-file {} tls-key-file {} tls-auth-clients no tls-port {port}",
                files[0], files[1]
            ),
            "ACL SETUSER default off".to_owned(),
            "QUIT".to_owned(),
        ];
        asks.write_all((commands.join("\r\n") + "\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        asks.read_to_string(&mut text).unwrap();
        assert_eq!(text, "+OK\r\n".repeat(4));
        (redis, port)
    }

    /// Its address, for `redis` in `[server]`.
    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}", socket(self.folder.path()).display())
    }

    /// How often the script was called.
    pub(crate) fn script_calls(&self) -> usize {
        let mut asks = UnixStream::connect(socket(self.folder.path())).unwrap();
        asks.write_all(b"INFO commandstats\r\nQUIT\r\n").unwrap();
        let mut text = String::new();
        asks.read_to_string(&mut text).unwrap();
        let calls = text.split("cmdstat_evalsha:calls=").nth(1);
        calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    /// SIGKILL; what it held is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, empty.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.folder.path());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn spawn(folder: &Path) -> Child {
    let program = std::env::var_os("REDIS_SERVER").expect("REDIS_SERVER; run scripts/redis");
    let socket = socket(folder);
    let _ = std::fs::remove_file(&socket);
    let child = Command::new(program)
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "Redis does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}
