//! Where the messages of a mailbox came from, counted.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use waypost_inbound::{Because, Format};

use super::trail::{Role, Trail};
use crate::table;

/// Rows of each list.
const TOP: usize = 10;

/// Different names that are counted apart; more count as others, so that memory is bounded.
const MOST: usize = 100_000;

/// What is counted.
#[derive(Default)]
pub(super) struct Summary {
    messages: u64,
    because: HashMap<&'static str, u64>,
    networks: Counts<IpNet>,
    hosts: Counts<String>,
    not_understood: Counts<Format>,
}

struct Counts<K> {
    counts: HashMap<K, u64>,
    others: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { counts: HashMap::new(), others: 0 }
    }
}

impl<K: Clone + Eq + std::hash::Hash + ToString> Counts<K> {
    fn add(&mut self, key: K) {
        if self.counts.len() >= MOST && !self.counts.contains_key(&key) {
            self.others += 1;
        } else {
            *self.counts.entry(key).or_default() += 1;
        }
    }

    /// The largest counts, by count and name.
    fn top(&self) -> Vec<Counted> {
        let mut all: Vec<Counted> = self
            .counts
            .iter()
            .map(|(key, count)| Counted { name: key.to_string(), messages: *count })
            .collect();
        all.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.name.cmp(&b.name)));
        let rest = all.iter().skip(TOP).map(|one| one.messages).sum::<u64>() + self.others;
        all.truncate(TOP);
        if rest > 0 {
            all.push(Counted { name: "others".to_owned(), messages: rest });
        }
        all
    }
}

#[derive(Serialize)]
struct Counted {
    name: String,
    messages: u64,
}

/// The answer for machines.
#[derive(Serialize)]
struct Reply {
    messages: u64,
    because: Vec<Counted>,
    networks: Vec<Counted>,
    hosts: Vec<Counted>,
    not_understood: Vec<Counted>,
}

impl Summary {
    /// Counts a message.
    pub(super) fn add(&mut self, trail: &Trail) {
        self.messages += 1;
        *self.because.entry(trail.source.because.as_str()).or_default() += 1;
        if let Some(ip) = trail.source.ip {
            self.networks.add(network(ip));
            if let Some(line) = trail.source_line() {
                self.hosts.add(line.names());
            }
        }
        let unread = trail.trace.iter().find(|line| line.role == Some(Role::Unreadable));
        if let Some(line) = unread {
            self.not_understood.add(line.format);
        }
    }

    /// How many messages were counted.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    fn reply(&self) -> Reply {
        let mut because: Vec<Counted> = self
            .because
            .iter()
            .map(|(name, count)| Counted { name: (*name).to_owned(), messages: *count })
            .collect();
        because.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.name.cmp(&b.name)));
        Reply {
            messages: self.messages,
            because,
            networks: self.networks.top(),
            hosts: self.hosts.top(),
            not_understood: self.not_understood.top(),
        }
    }

    /// As one JSON object.
    pub(super) fn json(&self) -> impl Serialize + use<> {
        self.reply()
    }

    /// For people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let reply = self.reply();
        writeln!(out, "{} messages", reply.messages)?;
        for (title, rows) in [
            ("because", &reply.because),
            ("source network", &reply.networks),
            ("source host", &reply.hosts),
            ("line not understood, by format", &reply.not_understood),
        ] {
            if rows.is_empty() {
                continue;
            }
            writeln!(out)?;
            let cells: Vec<_> =
                rows.iter().map(|row| [row.messages.to_string(), row.name.clone()]).collect();
            table::write(out, "  ", ["messages", title], &cells)?;
        }
        Ok(())
    }
}

/// The network that an address is counted in: /24, or /48 for IPv6.
fn network(ip: IpAddr) -> IpNet {
    let length = if ip.is_ipv4() { 24 } else { 48 };
    IpNet::new(ip, length).map_or_else(|_| IpNet::from(ip), |net| net.trunc())
}

/// Why a source was chosen, in a sentence.
pub(super) fn sentence(because: Because) -> &'static str {
    match because {
        Because::NotFromGateway => "the client is no listed gateway, so it is the source (E3)",
        Because::FirstExternal => "the first public address from the top that is no gateway (E4)",
        Because::PreviousHop => "the hop before the gateway (E5)",
        Because::NothingReadable => "a line is missing or not understood: the client (E4, E5)",
        Because::Internal => "every line was understood and none is external (E4)",
        _ => "for a reason that this version has no word for",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_the_rest_is_counted() {
        let mut counts = Counts::default();
        for n in 0..20_u64 {
            (0..=n).for_each(|_| counts.add(n));
        }
        let top = counts.top();
        assert_eq!(top.len(), TOP + 1);
        assert_eq!((top[0].name.as_str(), top[0].messages), ("19", 20));
        assert_eq!((top[TOP].name.as_str(), top[TOP].messages), ("others", (1..=10).sum()));
    }

    #[test]
    fn memory_has_a_bound_e12() {
        let mut counts = Counts::default();
        (0..MOST + 500).for_each(|n| counts.add(n));
        counts.add(0);
        assert_eq!((counts.counts.len(), counts.others), (MOST, 500));
    }

    #[test]
    fn addresses_are_counted_by_network() {
        for (ip, want) in [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48")] {
            assert_eq!(network(ip.parse().unwrap()).to_string(), want);
        }
    }
}
