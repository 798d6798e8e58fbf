//! Runs `waypost serve` on free ports in a folder of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::Patience;
use super::smtp_client::SmtpClient;

/// The name of the server under test.
pub(crate) const HOSTNAME: &str = "mx.solarmora.com";

/// The longest wait for a line of the log, a file, an exit.
const PATIENCE: Duration = Duration::from_secs(60);

/// An organization whose only user gets her mail by one next hop, in the clear.
pub(crate) fn marie_by(hop: SocketAddr) -> String {
    format!(
        r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250
mailbox_route = "mailboxes"

[[organization.user]]
address = "marie@solarmora.com"

[[organization.route]]
name = "mailboxes"
host = "{}"
port = {}
require_tls = false
"#,
        hop.ip(),
        hop.port()
    )
}

/// An organization whose only user may send from this machine; the caller says by which ways.
pub(crate) const MARIE_RELAYS: &str = r#"
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 250

[[organization.user]]
address = "marie@solarmora.com"

[[organization.relay]]
description = "Loopback"
allowed_senders = "my-domains"
addresses = [{ range = "127.0.0.1" }]
require_tls = false
"#;

/// Configuration, certificates, spool.
pub(crate) struct Folder {
    folder: TempDir,
    certificate: CertificateDer<'static>,
}

impl Folder {
    /// A folder with a certificate, and this configuration behind [`head`].
    pub(crate) fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed([HOSTNAME.to_owned()]).unwrap();
        let folder = Self { folder, certificate: made.cert.der().clone() };
        folder.write("mx.pem", &made.cert.pem());
        folder.write("mx.key", &made.signing_key.serialize_pem());
        folder.configure(configuration);
        folder
    }

    /// Replaces the configuration, in one step.
    pub(crate) fn configure(&self, configuration: &str) {
        self.write("waypost.toml", &format!("{}{configuration}", head()));
    }

    /// Writes a file, in one step: a server that looks at it never finds half of it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let half = self.path(&format!("{name}.half"));
        std::fs::write(&half, text).unwrap();
        std::fs::rename(half, self.path(name)).unwrap();
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration's path.
    pub(crate) fn configuration(&self) -> String {
        self.path("waypost.toml").to_string_lossy().into_owned()
    }

    /// Starts the server, and waits until it is ready.
    pub(crate) fn serve(&self) -> Serve {
        let serve = Serve::spawn(&self.configuration());
        serve.log.wait_for("ready", is_ready);
        serve
    }

    /// The certificate of the listeners.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Waits until a mailbox holds `count` messages; their texts, by name.
    pub(crate) fn mailbox(&self, address: &str, sub: &str, count: usize) -> Vec<String> {
        let (local, domain) = address.split_once('@').unwrap();
        let new = self.path("spool/maildir").join(domain).join(local).join(sub).join("new");
        let mut patience = Patience::new();
        loop {
            let files = files(&new);
            if files.len() >= count {
                let text =
                    |file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
                return files.iter().map(text).collect();
            }
            assert!(patience.lasts(files.len()), "{address}: {} of {count} came", files.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many messages a mailbox holds now.
    pub(crate) fn mailbox_size(&self, address: &str, sub: &str) -> usize {
        let (local, domain) = address.split_once('@').unwrap();
        files(&self.path("spool/maildir").join(domain).join(local).join(sub).join("new")).len()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// What every configuration begins with: the server, and listeners `mx` and `relay`. `[server]` is
/// open, so that a test may go on with its tables.
pub(crate) fn head() -> String {
    format!(
        r#"
[[listener]]
name = "mx"
role = "mx"
bind = "127.0.0.1:0"
tls = {{ certificate = "mx.pem", key = "mx.key" }}

[[listener]]
name = "relay"
role = "relay"
bind = "127.0.0.1:0"
tls = {{ certificate = "mx.pem", key = "mx.key" }}

[server]
hostname = "{HOSTNAME}"
spool = "spool"
retry = {{ delays = ["1s"] }}
"#
    )
}

/// A running server; dropped, it is killed.
pub(crate) struct Serve {
    child: Child,
    /// What it wrote to stderr.
    pub(crate) log: Log,
}

impl Serve {
    /// Starts the server, and does not wait.
    pub(crate) fn spawn(configuration: &str) -> Self {
        // Another build of it, if a long test is to measure that.
        let binary = std::env::var_os("WAYPOST_BINARY");
        let mut command = Command::new(binary.unwrap_or(env!("CARGO_BIN_EXE_waypost").into()));
        command.args(["serve", configuration]);
        Self::run(command)
    }

    /// Starts the server with further arguments, and does not wait.
    pub(crate) fn with_arguments(configuration: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        command.args(["serve", configuration]).args(arguments);
        Self::run(command)
    }

    /// Starts `waypost policy-server` with these addresses, and waits until it is ready.
    pub(crate) fn policy_server(configuration: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        command.args(["policy-server", configuration]).args(arguments);
        let server = Self::run(command);
        server.log.wait_for("ready", is_ready);
        server
    }

    /// Starts the server under `strace`, which writes these calls of all its threads into a
    /// file, each descriptor with its path.
    pub(crate) fn traced(configuration: &str, calls: &str, out: &Path) -> Self {
        let mut command = Command::new("strace");
        // `-D`: the server, not the tracer, is our child.
        command.args(["-D", "-f", "-y", "-s", "20000", "-e", calls, "-o"]).arg(out);
        command.args([env!("CARGO_BIN_EXE_waypost"), "serve", configuration]);
        Self::run(command)
    }

    /// Starts the server with these variables set, and waits until it is ready.
    pub(crate) fn with_environment(configuration: &str, set: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        command.args(["serve", configuration]).envs(set.iter().copied());
        let serve = Self::run(command);
        serve.log.wait_for("ready", is_ready);
        serve
    }

    /// Starts the server with at most this many open files.
    pub(crate) fn with_files(configuration: &str, files: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh"]);
        command.args([env!("CARGO_BIN_EXE_waypost"), "serve", configuration]);
        Self::run(command)
    }

    /// Starts the server with one or two sockets handed over, as a service manager does, and does not
    /// wait. `names` are those of the sockets, with a colon between.
    pub(crate) fn activated(configuration: &str, names: &str, sockets: Vec<OwnedFd>) -> Self {
        Self::activated_as(&["serve", configuration], names, sockets)
    }

    /// The same with another command of the program.
    pub(crate) fn activated_as(arguments: &[&str], names: &str, sockets: Vec<OwnedFd>) -> Self {
        // The shell has them as its input and output, gives them the numbers from 3 on, and becomes the
        // server: no other way lets a descriptor through that needs no unsafe code.
        let mut command = Command::new("sh");
        let second = if sockets.len() > 1 { "4>&1" } else { "" };
        let script =
            format!("export LISTEN_PID=$$; exec \"$@\" 3<&0 {second} </dev/null >/dev/null");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_waypost")]).args(arguments);
        command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
        let mut sockets = sockets.into_iter();
        command.stdin(sockets.next().map_or_else(Stdio::null, Stdio::from));
        command.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
        assert!(sockets.next().is_none(), "two at most");
        Self::watched(command)
    }

    /// Runs a command that becomes the server.
    pub(crate) fn run(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::watched(command)
    }

    fn watched(mut command: Command) -> Self {
        let mut child = command.env_remove("RUST_LOG").stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        let (kept, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                kept.push(line.unwrap());
            }
        });
        Self { child, log }
    }

    /// Where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let plain = format!("listening name=\"{listener}\" address=");
        let json = format!("\"listening\",\"name\":\"{listener}\",\"address\":\"");
        let line = self.log.wait_for(&plain, |line| line.contains(&plain) || line.contains(&json));
        let (_, rest) = line.split_once(&plain).or_else(|| line.split_once(&json)).unwrap();
        rest.split('"').next().unwrap().trim().parse().unwrap()
    }

    /// A session on a listener, past EHLO.
    pub(crate) fn session(&self, listener: &str) -> SmtpClient {
        SmtpClient::hello(self.address(listener), "client.elsewhere.example")
    }

    /// What it holds in memory, as Linux tells it.
    pub(crate) fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<usize>().unwrap() >> 10
        };
        Memory { resident: mib("VmRSS:"), peak: mib("VmHWM:") }
    }

    /// The value of a metric, whose labels are a part of its name; the page is on `admin`.
    pub(crate) fn metric(&self, name: &str) -> usize {
        use std::io::{Read as _, Write as _};
        let mut page = std::net::TcpStream::connect(self.address("admin")).unwrap();
        page.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        page.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits until it is gone; exit status 0.
    pub(crate) fn terminate(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log);
    }

    /// Its exit status, if it is gone.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it is gone.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end\n{}", self.log);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Resident memory in MiB, now and at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: usize,
    pub(crate) peak: usize,
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}---", self.log);
        }
    }
}

fn is_ready(line: &str) -> bool {
    line == "ready"
}

/// Lines that a server wrote, as they come.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn push(&self, line: String) {
        self.0.0.lock().unwrap().push(line);
        self.0.1.notify_all();
    }

    /// Waits for a line that fulfils a condition; the first one.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let lines = lines.join("\n");
                panic!("no line like {what}:\n{lines}");
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for a line that contains a text.
    pub(crate) fn wait_text(&self, text: &str) -> String {
        self.wait_for(text, |line| line.contains(text))
    }

    /// Whether all listeners accept.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.0.lock().unwrap().iter().any(|line| is_ready(line))
    }

    /// Whether a line contains all of these texts now.
    pub(crate) fn holds_all(&self, texts: &[String]) -> bool {
        let lines = self.0.0.lock().unwrap();
        lines.iter().any(|line| texts.iter().all(|text| line.contains(text)))
    }

    /// Whether a line contains a text now.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.0.0.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A test that failed while it waited for a line has the lock poisoned.
        let lines = self.0.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The queue id in a 250.
pub(crate) fn queue_id(reply: &str) -> &str {
    let id = reply.strip_prefix("250 2.0.0 Accepted as ");
    id.unwrap_or_else(|| panic!("not accepted: {reply}"))
}
