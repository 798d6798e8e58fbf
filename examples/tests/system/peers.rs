//! Sinks: peers of the test kit that go, come back and change their manners, and remember all that they took.

use std::net::SocketAddr;
use std::sync::Mutex;

use waypost_net::test_kit::{self, Authority, Flaw, Peer, Received, Script};

use super::step::{self, Fault, Manner};

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
        authority: &Authority,
    ) -> Result<Self, String> {
        let mut sink = Self { address, manner, live: None, past: Vec::new(), past_connections: 0 };
        sink.open(authority)?;
        Ok(sink)
    }

    pub(crate) fn become_another(
        &mut self,
        manner: Manner,
        authority: &Authority,
    ) -> Result<(), String> {
        self.close();
        self.manner = manner;
        self.open(authority)
    }

    pub(crate) fn open(&mut self, authority: &Authority) -> Result<(), String> {
        let script = script(&self.manner, authority)?.bind(self.address);
        self.live = Some(script.start().map_err(|error| format!("{}: {error}", self.address))?);
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

fn script(manner: &Manner, authority: &Authority) -> Result<Script, String> {
    let mut script = Script::new();
    if let Some((kind, name)) = &manner.tls {
        let flaw = match kind.as_str() {
            "good" => None,
            "expired" => Some(Flaw::Expired),
            "not-yet-valid" => Some(Flaw::NotYetValid),
            "wrong-name" => Some(Flaw::WrongName),
            "self-signed" => Some(Flaw::SelfSigned),
            "unknown-authority" => Some(Flaw::UnknownAuthority),
            _ => {
                return Err(format!(
                    "no certificate is `{kind}`; write good, expired, not-yet-valid, wrong-name, \
                     self-signed or unknown-authority"
                ));
            }
        };
        let identity = match flaw {
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

fn act(act: &step::Act) -> test_kit::Act {
    match act {
        step::Act::Says(text) => test_kit::Act::Reply(text.clone()),
        step::Act::SaysAndDrops(text) => test_kit::Act::ReplyAndDrop(text.clone()),
        step::Act::Drops => test_kit::Act::Drop,
        step::Act::Hangs => test_kit::Act::Stall,
        step::Act::Trickles(pause) => test_kit::Act::Trickle(*pause),
    }
}
