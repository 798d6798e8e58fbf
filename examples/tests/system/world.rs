//! A scenario at work: its servers, sinks, name server, clock and mail.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::claim::Claim;
use super::clock::Clock;
use super::loopback::{DNS, Loopback, SMTP};
use super::peers::{Authorities, SinkPeer};
use super::post::{Load, Sent, Target};
use super::server::Server;
use super::step::{Ask, Mail, Placed, Step};
use super::support::Patience;
use super::support::control;
use super::support::dns::{Dns, Entry};
use super::support::redis::Redis;
use super::support::tmpfs::Tmpfs;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why a scenario does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This machine lacks something.
    Skipped(String),
    Failed(String),
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

pub(crate) struct World {
    // In the order in which they end.
    loads: BTreeMap<String, Load>,
    pub(crate) servers: BTreeMap<String, Server>,
    pub(crate) sinks: BTreeMap<String, SinkPeer>,
    pub(crate) sent: BTreeMap<String, Arc<Sent>>,
    dns: Option<Dns>,
    zone: Vec<Entry>,
    has_dns: bool,
    redis: Option<Redis>,
    /// How many servers were killed.
    pub(crate) kills: usize,
    clock: Option<Clock>,
    authorities: Authorities,
    root: CertificateDer<'static>,
    addresses: BTreeMap<String, IpAddr>,
    /// What was claimed for good, to be looked at again at the end.
    claims: Vec<(usize, Claim)>,
    _loopback: Loopback,
}

impl World {
    /// Addresses for all that the steps name.
    pub(crate) fn new(steps: &[Placed]) -> Result<Self, Stop> {
        let lacking = || Stop::Skipped("this system has no block of loopback addresses".to_owned());
        let mut loopback = Loopback::take().ok_or_else(lacking)?;
        let mut addresses = BTreeMap::from([("dns".to_owned(), loopback.next())]);
        for placed in steps {
            if let Step::Sink(name, _) | Step::Server(name, _) = &placed.step {
                addresses.entry(name.clone()).or_insert_with(|| loopback.next());
            }
        }
        let authorities = Authorities::new();
        let root = CertificateDer::from_pem_slice(authorities.kit.pem().as_bytes()).unwrap();
        Ok(Self {
            loads: BTreeMap::new(),
            servers: BTreeMap::new(),
            sinks: BTreeMap::new(),
            sent: BTreeMap::new(),
            dns: None,
            zone: Vec::new(),
            has_dns: steps.iter().any(|placed| matches!(placed.step, Step::Dns(_))),
            redis: None,
            kills: 0,
            clock: None,
            authorities,
            root,
            addresses,
            claims: Vec::new(),
            _loopback: loopback,
        })
    }

    /// Takes all steps, then looks once more at what must hold for good.
    pub(crate) fn run(&mut self, steps: &[Placed]) -> Result<(), Stop> {
        self.steps(steps)?;
        self.loads.clear();
        for server in self.servers.values_mut().filter(|server| server.is_running()) {
            server.stop()?;
        }
        for (line, claim) in std::mem::take(&mut self.claims) {
            self.check(&claim).map_err(|error| {
                Stop::Failed(format!("line {line} held, and no more at the end: {error}"))
            })?;
        }
        Ok(())
    }

    fn steps(&mut self, steps: &[Placed]) -> Result<(), Stop> {
        for placed in steps {
            let begun = Instant::now();
            self.step(placed).map_err(|stop| match stop {
                Stop::Failed(error) if !error.starts_with("line ") => {
                    Stop::Failed(format!("line {}: `{}`: {error}", placed.line, placed.text))
                }
                other => other,
            })?;
            if begun.elapsed() > Duration::from_secs(1) {
                println!("    {:>5.1} s  {}", begun.elapsed().as_secs_f64(), placed.text);
            }
        }
        Ok(())
    }

    fn step(&mut self, placed: &Placed) -> Result<(), Stop> {
        match &placed.step {
            Step::Dns(zone) => {
                let expanded = |(owner, kind, value): &Entry| {
                    Ok((self.expand(owner)?, *kind, self.expand(value)?))
                };
                self.zone = zone.iter().map(expanded).collect::<Result<_, String>>()?;
                self.open_dns();
            }
            Step::DnsCloses => self.dns = None,
            Step::DnsOpens => self.open_dns(),
            Step::Sink(name, manner) => {
                let at = SocketAddr::new(self.address(name)?, SMTP);
                match self.sinks.get_mut(name) {
                    Some(sink) => sink.become_another(manner.clone(), &self.authorities)?,
                    None => {
                        let sink = SinkPeer::start(at, manner.clone(), &self.authorities)?;
                        self.sinks.insert(name.clone(), sink);
                    }
                }
            }
            Step::SinkCloses(name) => known(&mut self.sinks, name, "sink")?.close(),
            Step::SinkOpens(name) => {
                known(&mut self.sinks, name, "sink")?.open(&self.authorities)?;
            }
            Step::Disk(name, mib) => {
                let server = self.server(name)?;
                let disk = Tmpfs::mount(&server.folder.path("spool"), *mib);
                let lacking = || Stop::Skipped("a tmpfs cannot be mounted here".to_owned());
                server.disk = Some(disk.ok_or_else(lacking)?);
            }
            Step::Fill(name, left) => self.disk(name)?.fill_but(*left),
            Step::Empty(name) => self.disk(name)?.empty(),
            Step::Clock => {
                let lacking = "there is no libfaketime; run scripts/scenarios, which fetches it";
                self.clock = Some(Clock::start().ok_or_else(|| Stop::Skipped(lacking.to_owned()))?);
            }
            Step::ClockSteps(seconds) => {
                let clock = self.clock.as_mut();
                clock
                    .ok_or_else(|| "no clock is set; write `given clock`".to_owned())?
                    .step(*seconds);
            }
            Step::Redis => {
                if std::env::var_os("REDIS_SERVER").is_none() {
                    let lacking = "there is no Redis; run scripts/scenarios, which fetches it";
                    return Err(Stop::Skipped(lacking.to_owned()));
                }
                self.redis = Some(Redis::start());
            }
            Step::File { server, path, text } => {
                let text = self.expand(text)?;
                let server = self.server(server)?;
                server.folder.write(path, &text);
                use std::os::unix::fs::PermissionsExt as _;
                let mode = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(server.folder.path(path), mode).unwrap();
            }
            Step::Server(name, text) => {
                self.configure(name, text)?;
                self.start(name)?;
            }
            Step::Configure(name, text) => self.configure(name, text)?,
            Step::Kill(name) => {
                self.server(name)?.kill()?;
                self.kills += 1;
            }
            Step::Stop(name) => self.server(name)?.stop()?,
            Step::Start(name) => self.start(name)?,
            Step::Reload { server, refused } => {
                let ran = control::ask(&self.server(server)?.folder, &["reload"]);
                let said = format!("{}{}", ran.stdout, ran.stderr);
                let fits = match refused {
                    None => ran.status == 0,
                    Some(text) => ran.status != 0 && said.contains(text.as_str()),
                };
                if !fits {
                    return Err(format!("exit status {}, and it says {said}", ran.status).into());
                }
            }
            Step::Waypost(ask) => self.asked(ask).map(drop)?,
            Step::Send(mail) => {
                let (sent, target) = self.mail(mail)?;
                sent.send(&target)?;
            }
            Step::Load(mail) => {
                let (sent, target) = self.mail(mail)?;
                self.loads.insert(mail.name.clone(), sent.load(&target));
            }
            Step::LoadStops(name) => {
                let load = self.loads.remove(name);
                load.ok_or_else(|| format!("no load `{name}` runs; begin one"))?.stop();
            }
            Step::LoadGot(name, more) => {
                let sent = self.sent(name)?;
                let want = sent.acknowledged().len() + more;
                let mut patience = Patience::new();
                loop {
                    let got = sent.acknowledged().len();
                    if got >= want {
                        break;
                    }
                    if !patience.lasts(got) {
                        return Err(format!("{got} got their 250, not {want}").into());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Step::Repeat(times, inner) => {
                for _ in 0..*times {
                    self.steps(inner)?;
                }
            }
            Step::Then(claim) => {
                let claim = self.expanded(claim)?;
                self.poll(&claim)?;
                if claim.holds_for_good() {
                    self.claims.push((placed.line, claim));
                }
            }
        }
        Ok(())
    }

    /// Looks until a claim holds. What it lacks tells whether it comes nearer.
    fn poll(&mut self, claim: &Claim) -> Result<(), String> {
        let mut patience = Patience::new();
        loop {
            match self.check(claim) {
                Ok(()) => return Ok(()),
                Err(error) if !claim.may_come_true() || !patience.lasts(error.clone()) => {
                    return Err(error);
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    fn open_dns(&mut self) {
        let at = SocketAddr::new(self.addresses["dns"], DNS);
        self.dns = None;
        // Nothing is kept, so that each question tells what is so now.
        self.dns = Some(Dns::at(at, self.zone.clone(), 0));
    }

    fn address(&self, name: &str) -> Result<IpAddr, String> {
        let known = || self.addresses.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let ip = self.addresses.get(name).copied();
        ip.ok_or_else(|| format!("nothing is called `{name}`; there are {}", known()))
    }

    /// The server of this name, which begins as an empty folder.
    pub(crate) fn server(&mut self, name: &str) -> Result<&mut Server, String> {
        let ip = self.address(name)?;
        let new = || Server::new(name, ip, &self.authorities);
        Ok(self.servers.entry(name.to_owned()).or_insert_with(new))
    }

    fn disk(&mut self, name: &str) -> Result<&Tmpfs, String> {
        let disk = self.server(name)?.disk.as_ref();
        disk.ok_or_else(|| format!("{name} has no disk; write `given disk of {name} is 96 MiB`"))
    }

    fn configure(&mut self, name: &str, text: &str) -> Result<(), String> {
        let text = self.expand(text)?;
        let dns = self.has_dns.then(|| SocketAddr::new(self.addresses["dns"], DNS));
        self.server(name)?.configure(&text, dns);
        Ok(())
    }

    fn start(&mut self, name: &str) -> Result<(), String> {
        let environment = self.clock.as_ref().map(Clock::environment).unwrap_or_default();
        self.server(name)?.start(&environment)
    }

    fn mail(&mut self, mail: &Mail) -> Result<(Arc<Sent>, Target), String> {
        let server = self.server(&mail.server)?;
        let target = Target {
            address: server.address(&mail.listener)?,
            host: format!("{}.example", mail.server),
            root: self.root.clone(),
        };
        let mut mail = mail.clone();
        mail.from = self.expand(&mail.from)?;
        mail.to = mail.to.iter().map(|to| self.expand(to)).collect::<Result<_, _>>()?;
        let new = || Arc::new(Sent::new(mail.clone()));
        let sent = Arc::clone(self.sent.entry(mail.name.clone()).or_insert_with(new));
        Ok((sent, target))
    }

    pub(crate) fn sent(&self, name: &str) -> Result<Arc<Sent>, String> {
        let known = || self.sent.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let sent = self.sent.get(name).map(Arc::clone);
        sent.ok_or_else(|| format!("no mail `{name}` was sent; there are {}", known()))
    }

    /// What a command says; its exit status must be 0.
    pub(crate) fn asked(&mut self, ask: &Ask) -> Result<String, String> {
        let arguments: Vec<String> =
            ask.arguments.iter().map(|word| self.expand(word)).collect::<Result<_, _>>()?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = control::ask(&self.server(&ask.server)?.folder, &arguments);
        match ran.status {
            0 => Ok(ran.stdout),
            status => Err(format!("exit status {status}: {}{}", ran.stdout, ran.stderr)),
        }
    }

    /// With placeholders filled in: `{NAME}` is an address, `{NAME.id}` the queue id of the first message.
    pub(crate) fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            out.push_str(before);
            let inside = behind.split_once('}').filter(|(inside, _)| is_name(inside));
            let Some((inside, behind)) = inside else {
                out.push('{');
                rest = behind;
                continue;
            };
            out.push_str(&self.placeholder(inside)?);
            rest = behind;
        }
        Ok(out + rest)
    }

    fn placeholder(&self, name: &str) -> Result<String, String> {
        if let Some(mail) = name.strip_suffix(".id") {
            let id = self.sent(mail)?.acknowledged().into_values().next();
            return id.ok_or_else(|| format!("no message of {mail} got a queue id"));
        }
        match (name, &self.redis) {
            ("redis", Some(redis)) => Ok(redis.address()),
            _ => self.address(name).map(|ip| ip.to_string()),
        }
    }

    fn expanded(&self, claim: &Claim) -> Result<Claim, String> {
        let mut claim = claim.clone();
        let texts = |texts: &mut Vec<String>| {
            texts.iter_mut().try_for_each(|text| {
                *text = self.expand(text)?;
                Ok::<_, String>(())
            })
        };
        match &mut claim {
            Claim::Logs { texts: all, .. } | Claim::NeverLogs { texts: all, .. } => texts(all)?,
            Claim::Says(ask) => texts(&mut ask.holds)?,
            Claim::Has(has) => texts(&mut has.holding)?,
            _ => {}
        }
        Ok(claim)
    }
}

/// What a placeholder may hold: TOML has no such table.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b"-.".contains(&b))
}

fn known<'a, T>(
    all: &'a mut BTreeMap<String, T>,
    name: &str,
    what: &str,
) -> Result<&'a mut T, String> {
    let names = all.keys().cloned().collect::<Vec<_>>().join(", ");
    all.get_mut(name).ok_or_else(|| format!("no {what} is called `{name}`; there are {names}"))
}
