//! Sinks: peers of the test kit that go, come back and change their manners, and remember all that they took.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use waypost_net::test_kit::{self, Authority, Flaw, Identity, Peer, Received, Script};

use super::step::{self, Fault, Manner};
use super::support::sink::once_free;
use super::support::tls_sink;

/// Who signs certificates.
pub(crate) struct Authorities {
    pub(crate) kit: Authority,
    /// For certificates of any validity.
    by_params: tls_sink::Authority,
}

impl Authorities {
    pub(crate) fn new() -> Self {
        Self { kit: Authority::new().unwrap(), by_params: tls_sink::Authority::new("Another") }
    }

    /// Their certificates, for `roots`.
    pub(crate) fn pem(&self) -> String {
        format!("{}{}", self.kit.pem(), self.by_params.pem)
    }
}

pub(crate) struct SinkPeer {
    address: SocketAddr,
    manner: Manner,
    live: Option<Peer>,
    /// What earlier incarnations took, and their connections.
    past: Vec<Received>,
    past_connections: usize,
}

impl SinkPeer {
    pub(crate) fn start(
        address: SocketAddr,
        manner: Manner,
        authorities: &Authorities,
    ) -> Result<Self, String> {
        let mut sink = Self { address, manner, live: None, past: Vec::new(), past_connections: 0 };
        sink.open(authorities)?;
        Ok(sink)
    }

    pub(crate) fn become_another(
        &mut self,
        manner: Manner,
        authorities: &Authorities,
    ) -> Result<(), String> {
        self.close();
        self.manner = manner;
        self.open(authorities)
    }

    pub(crate) fn open(&mut self, authorities: &Authorities) -> Result<(), String> {
        // What is wrong with the manner is said before.
        script(&self.manner, authorities)?;
        let start = || {
            let script = script(&self.manner, authorities).map_err(io::Error::other)?;
            script.bind(self.address).start()
        };
        let live = once_free(start).map_err(|error| format!("{}: {error}", self.address))?;
        self.live = Some(live);
        Ok(())
    }

    /// Nobody listens any more, and all connections are cut.
    pub(crate) fn close(&mut self) {
        if let Some(peer) = self.live.take() {
            self.past.extend(peer.received());
            self.past_connections += peer.sessions().len();
        }
    }

    /// All that it took, ever.
    pub(crate) fn received(&self) -> Vec<Received> {
        let live = self.live.as_ref().map(Peer::received).unwrap_or_default();
        self.past.iter().cloned().chain(live).collect()
    }

    pub(crate) fn connections(&self) -> usize {
        self.past_connections + self.live.as_ref().map_or(0, |peer| peer.sessions().len())
    }
}

fn script(manner: &Manner, authorities: &Authorities) -> Result<Script, String> {
    let mut script = Script::new();
    let authority = &authorities.kit;
    if let Some((kind, name)) = &manner.tls {
        let flaw = match kind.as_str() {
            "good" | "lasting-a-day" => None,
            "expired" => Some(Flaw::Expired),
            "not-yet-valid" => Some(Flaw::NotYetValid),
            "wrong-name" => Some(Flaw::WrongName),
            "self-signed" => Some(Flaw::SelfSigned),
            "unknown-authority" => Some(Flaw::UnknownAuthority),
            _ => {
                return Err(format!(
                    "no certificate is `{kind}`; write good, lasting-a-day, expired, not-yet-valid, \
                     wrong-name, self-signed or unknown-authority"
                ));
            }
        };
        let identity = match flaw {
            None if kind == "lasting-a-day" => Ok(lasting_a_day(authorities, name)),
            None => authority.identity(name),
            Some(flaw) => authority.flawed(flaw, name),
        };
        script = script.starttls(&identity.map_err(|error| format!("{name}: {error}"))?);
    }
    let faults: Vec<(Fault, Mutex<Option<usize>>)> =
        manner.faults.iter().map(|fault| (fault.clone(), Mutex::new(fault.times))).collect();
    Ok(script.ask(move |phase, command| {
        faults.iter().find_map(|(fault, left)| {
            let fits = fault.phase == phase
                && fault.text.as_ref().is_none_or(|text| command.contains(text.as_str()));
            if !fits {
                return None;
            }
            let mut left = left.lock().unwrap();
            if let Some(left) = left.as_mut() {
                *left = left.checked_sub(1)?;
            }
            Some(act(&fault.act))
        })
    }))
}

/// A good one that runs out tomorrow.
fn lasting_a_day(authorities: &Authorities, name: &str) -> Identity {
    let mut params = tls_sink::params(&[name]);
    params.not_after = (SystemTime::now() + Duration::from_secs(86_400)).into();
    Identity::of(tls_sink::server(params, Some(&authorities.by_params)))
}

fn act(act: &step::Act) -> test_kit::Act {
    match act {
        step::Act::Says(text) => test_kit::Act::Reply(text.clone()),
        step::Act::SaysAndDrops(text) => test_kit::Act::ReplyAndDrop(text.clone()),
        step::Act::Drops => test_kit::Act::Drop,
        step::Act::Hangs => test_kit::Act::Stall,
        step::Act::Trickles(pause) => test_kit::Act::Trickle(*pause),
    }
}
