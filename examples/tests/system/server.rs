//! A `waypost serve` that is killed, started again and told other things.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use super::loopback::{ADMIN, RELAY, SMTP};
use super::peers::Authorities;
use super::support::serving::{Folder, Log, Serve};
use super::support::tmpfs::Tmpfs;

/// The longest start.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    // Before the disk, so that it is gone when that is unmounted.
    running: Option<Serve>,
    pub(crate) disk: Option<Tmpfs>,
    pub(crate) folder: Folder,
    logs: Vec<Log>,
}

impl Server {
    /// A folder with a certificate that the authority signed.
    pub(crate) fn new(name: &str, ip: IpAddr, authorities: &Authorities) -> Self {
        let folder = Folder::new("");
        let identity = authorities.kit.identity(&format!("{name}.example")).unwrap();
        folder.write("mx.pem", identity.certificate_pem());
        folder.write("mx.key", identity.key_pem());
        folder.write("roots.pem", &authorities.pem());
        Self { name: name.to_owned(), ip, running: None, disk: None, folder, logs: Vec::new() }
    }

    /// Replaces the configuration, in one step. What its `[server]` says itself is left out of the head.
    pub(crate) fn configure(&self, text: &str, dns: Option<SocketAddr>) {
        let (name, ip) = (&self.name, self.ip);
        let dns = dns.unwrap_or_else(|| SocketAddr::new(ip, 9));
        let keys = [
            ("hostname", format!("\"{name}.example\"")),
            ("spool", "\"spool\"".to_owned()),
            ("admin", format!("\"{ip}:{ADMIN}\"")),
            ("dns", format!("[\"{dns}\"]")),
            ("mx_port", SMTP.to_string()),
            ("tls_check", "\"off\"".to_owned()),
            ("retry", "{ delays = [\"1s\"] }".to_owned()),
        ];
        let own: Vec<&str> = text.lines().take_while(|line| !line.starts_with('[')).collect();
        let mut head = String::new();
        for (listener, port) in [("mx", SMTP), ("relay", RELAY)] {
            head.push_str(&format!(
                "[[listener]]\nname = \"{listener}\"\nrole = \"{listener}\"\nbind = \"{ip}:{port}\"\n\
                 tls = {{ certificate = \"mx.pem\", key = \"mx.key\" }}\n\n"
            ));
        }
        head.push_str("[server]\n");
        for (key, value) in keys {
            let is_own = |line: &&str| line.split(['=', ' ']).next() == Some(key);
            if !own.iter().any(is_own) && !text.contains(&format!("[server.{key}]")) {
                head.push_str(&format!("{key} = {value}\n"));
            }
        }
        self.folder.write("waypost.toml", &format!("{head}{text}"));
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(&mut self, environment: &[(String, String)]) -> Result<(), String> {
        if self.running.is_some() {
            return Err(format!("{} runs already; kill or stop it first", self.name));
        }
        let binary = std::env::var_os("WAYPOST_BINARY");
        let mut command = Command::new(binary.unwrap_or(env!("CARGO_BIN_EXE_waypost").into()));
        command.args(["serve", &self.folder.configuration()]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut serve = Serve::run(command);
        self.logs.push(serve.log.clone());
        let until = Instant::now() + PATIENCE;
        while !serve.log.is_ready() {
            if let Some(status) = serve.ended() {
                return Err(format!("{} does not start: {status}\n{}", self.name, serve.log));
            }
            if Instant::now() > until {
                return Err(format!("{} is not ready in time\n{}", self.name, serve.log));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.running = Some(serve);
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.taken().map(Serve::kill)
    }

    pub(crate) fn stop(&mut self) -> Result<(), String> {
        self.taken().map(Serve::terminate)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn taken(&mut self) -> Result<Serve, String> {
        self.running.take().ok_or_else(|| format!("{} does not run; start it first", self.name))
    }

    /// Where one of its listeners listens.
    pub(crate) fn address(&self, listener: &str) -> Result<SocketAddr, String> {
        let port = match listener {
            "mx" => SMTP,
            "relay" => RELAY,
            _ => return Err(format!("no listener is `{listener}`; there are mx and relay")),
        };
        Ok(SocketAddr::new(self.ip, port))
    }

    /// The value of a metric; 0 where there is none.
    pub(crate) fn metric(&self, name: &str) -> Result<usize, String> {
        use std::io::{Read as _, Write as _};
        let wrong = |error: std::io::Error| format!("the metrics of {}: {error}", self.name);
        let mut page = std::net::TcpStream::connect((self.ip, ADMIN)).map_err(wrong)?;
        page.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").map_err(wrong)?;
        let mut text = String::new();
        page.read_to_string(&mut text).map_err(wrong)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or("0").parse().map_err(|_| format!("{name} is no whole number"))
    }

    /// Whether one line of any of its logs holds all of these.
    pub(crate) fn logs(&self, texts: &[String]) -> bool {
        self.logs.iter().any(|log| log.holds_all(texts))
    }
}
