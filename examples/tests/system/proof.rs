//! Whether a claim holds at this moment.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{Claim, Has, Often, Place, Relation, What};
use super::post::{Sent, marked};
use super::step::Ask;
use super::world::World;

/// A message that arrived somewhere.
struct Arrived {
    place: String,
    from: String,
    to: Vec<String>,
    is_tls: bool,
    text: Vec<u8>,
}

impl Arrived {
    fn what(&self) -> What {
        let is_report = self.from.is_empty() && contains(&self.text, "multipart/report");
        if is_report { What::Bounce } else { What::Message }
    }
}

/// What arrived, by number.
type Arrivals = BTreeMap<usize, Vec<Arrived>>;

impl Claim {
    /// Whether it is worth while to look again.
    pub(crate) fn may_come_true(&self) -> bool {
        !matches!(
            self,
            Self::Nothing { .. }
                | Self::Duplicates { .. }
                | Self::NeverLogs { .. }
                | Self::Connections { .. }
                | Self::Count { relation: Relation::AtMost, .. }
                | Self::None { .. }
                | Self::Replies { .. }
                | Self::Unbroken(_)
        )
    }

    /// Whether it must still hold at the end.
    pub(crate) fn holds_for_good(&self) -> bool {
        matches!(
            self,
            Self::Has(_)
                | Self::Nothing { is_for_good: true, .. }
                | Self::None { .. }
                | Self::Duplicates { .. }
                | Self::NeverLogs { .. }
                | Self::Connections { .. }
                | Self::Count { relation: Relation::AtMost, .. }
        )
    }
}

impl Relation {
    fn holds(self, is: usize, value: usize) -> bool {
        match self {
            Self::Is => is == value,
            Self::AtLeast => is >= value,
            Self::AtMost => is <= value,
        }
    }
}

impl World {
    pub(crate) fn check(&mut self, claim: &Claim) -> Result<(), String> {
        match claim {
            Claim::Has(has) => self.has(has),
            Claim::Nothing { places, name, .. } => {
                let all = self.arrivals(places, name, What::Message)?;
                let count = all.values().flatten().count();
                let first = all.values().flatten().next();
                match first {
                    None => Ok(()),
                    Some(first) => Err(format!("{count} of {name} came to {}", first.place)),
                }
            }
            Claim::None { places, name, holding, lacking } => {
                let all = self.arrivals(places, name, What::Message)?;
                let fits = |one: &&Arrived| {
                    holding.iter().all(|text| contains(&one.text, text))
                        && !lacking.iter().any(|text| contains(&one.text, text))
                };
                match all.values().flatten().find(fits) {
                    None => Ok(()),
                    Some(one) => Err(String::from_utf8_lossy(&one.text).into_owned()),
                }
            }
            Claim::Duplicates { places, name, most, each_kill } => {
                let most = if *each_kill { most * self.kills } else { *most };
                let mut twice = 0;
                for all in self.arrivals(places, name, What::Message)?.values() {
                    let mut each: BTreeMap<&String, usize> = BTreeMap::new();
                    all.iter()
                        .flat_map(|one| &one.to)
                        .for_each(|to| *each.entry(to).or_default() += 1);
                    twice += each.values().map(|count| count - 1).sum::<usize>();
                }
                println!("    {twice} duplicates of {name}, at most {most} may be");
                at_most(twice, most, "duplicates")
            }
            Claim::Replies { name, code } => {
                let replies = self.sent(name)?.replies();
                match replies.iter().find(|(_, reply)| !reply.starts_with(code.as_str())) {
                    None if replies.is_empty() => Err("nothing was answered".to_owned()),
                    None => Ok(()),
                    Some((number, reply)) => Err(format!("{name}-{number} got {reply}")),
                }
            }
            Claim::Unbroken(name) => match self.sent(name)?.broken().first() {
                None => Ok(()),
                Some(error) => Err(format!("a session broke: {error}")),
            },
            Claim::Logs { server, texts } => match self.server(server)?.logs(texts) {
                true => Ok(()),
                false => Err(format!("no line of the log of {server} holds {texts:?}")),
            },
            Claim::NeverLogs { server, texts } => match self.server(server)?.logs(texts) {
                true => Err(format!("a line of the log of {server} holds {texts:?}")),
                false => Ok(()),
            },
            Claim::Metric { server, name, relation, value } => {
                let is = self.server(server)?.metric(name)?;
                if relation.holds(is, *value) { Ok(()) } else { Err(format!("{name} is {is}")) }
            }
            Claim::Count { places, relation, count } => {
                let mut different = BTreeSet::new();
                let mut came = 0;
                for place in places {
                    for one in self.at(place)? {
                        came += one.to.len();
                        let text = String::from_utf8_lossy(&one.text);
                        let which = marked(&text).map(|(name, number)| (name.to_owned(), number));
                        different.extend(one.to.iter().map(|to| (which.clone(), to.clone())));
                    }
                }
                let is = different.len();
                let error = || format!("{is} came, {} of them once more", came - is);
                if relation.holds(is, *count) { Ok(()) } else { Err(error()) }
            }
            Claim::Queue { server, count } => {
                let list = ["queue", "list"].map(str::to_owned).to_vec();
                let ask = Ask { server: server.clone(), arguments: list, holds: Vec::new() };
                match self.asked(&ask)? {
                    text if text.ends_with(&format!("{count} {}\n", messages(*count))) => Ok(()),
                    text => Err(format!("the queue of {server} is\n{text}")),
                }
            }
            Claim::Says(ask) => {
                let said = self.asked(ask)?;
                match ask.holds.iter().find(|text| !said.contains(text.as_str())) {
                    None => Ok(()),
                    Some(text) => Err(format!("it says nothing of `{text}`:\n{said}")),
                }
            }
            Claim::Connections { sink, most } => {
                let sink = self.sinks.get(sink).ok_or_else(|| format!("no sink is {sink}"))?;
                at_most(sink.connections(), *most, "connections")
            }
        }
    }

    fn has(&self, has: &Has) -> Result<(), String> {
        let sent = self.sent(&has.name)?;
        let all = self.arrivals(&has.places, &has.name, has.what)?;
        let acknowledged = sent.acknowledged();
        if acknowledged.is_empty() {
            return Err(format!("no message of {} got its 250", has.name));
        }
        let to = match (&has.to, has.what) {
            (Some(to), _) => to.clone(),
            (None, What::Message) => sent.mail.to.clone(),
            (None, What::Bounce) => vec![sent.mail.from.clone()],
        };
        let (mut missing, mut first) = (0, None);
        for number in acknowledged.keys() {
            let came = all.get(number).map(Vec::as_slice).unwrap_or_default();
            for one in came {
                fits(has, &sent, *number, one)?;
            }
            for to in &to {
                let count = came.iter().filter(|one| one.to.contains(to)).count();
                if count == 0 {
                    missing += 1;
                    first = first.or_else(|| Some(format!("{}-{number} to {to}", has.name)));
                }
                if count > 1 && has.often == Often::Once {
                    return Err(format!("{}-{number} came {count} times to {to}", has.name));
                }
            }
        }
        match first {
            None => Ok(()),
            Some(first) => {
                let all = acknowledged.len() * to.len();
                Err(format!("{missing} of {all} did not come, the first is {first}"))
            }
        }
    }

    /// What came of a name to some places.
    fn arrivals(&self, places: &[Place], name: &str, what: What) -> Result<Arrivals, String> {
        let mut found = Arrivals::new();
        for one in places.iter().map(|place| self.at(place)).collect::<Result<Vec<_>, _>>()? {
            for one in one.into_iter().filter(|one| one.what() == what) {
                let text = String::from_utf8_lossy(&one.text).into_owned();
                if let Some((of, number)) = marked(&text)
                    && of == name
                {
                    found.entry(number).or_default().push(one);
                }
            }
        }
        Ok(found)
    }

    fn at(&self, place: &Place) -> Result<Vec<Arrived>, String> {
        match place {
            Place::Sink(name) => {
                let sink = self.sinks.get(name);
                let sink = sink.ok_or_else(|| format!("no sink is called `{name}`"))?;
                let arrived = |one: waypost_net::test_kit::Received| Arrived {
                    place: name.clone(),
                    from: one.sender,
                    to: one.recipients,
                    is_tls: one.over_tls,
                    text: one.content,
                };
                Ok(sink.received().into_iter().map(arrived).collect())
            }
            Place::Mailbox(address, server) => {
                let folder = self.servers.get(server).map(|server| &server.folder);
                let folder = folder.ok_or_else(|| format!("no server is called `{server}`"))?;
                let arrived = |text: String| {
                    let path =
                        text.strip_prefix("Return-Path: <").and_then(|rest| rest.split('>').next());
                    Arrived {
                        place: format!("the mailbox {address}"),
                        from: path.unwrap_or("?").to_owned(),
                        to: vec![address.clone()],
                        is_tls: false,
                        text: text.replace('\n', "\r\n").into_bytes(),
                    }
                };
                Ok(folder.mailbox(address, "", 0).into_iter().map(arrived).collect())
            }
        }
    }
}

/// Whether what came is what was sent.
fn fits(has: &Has, sent: &Sent, number: usize, one: &Arrived) -> Result<(), String> {
    let name = format!("{}-{number} at {}", has.name, one.place);
    if !has.is_changed && !one.text.ends_with(&sent.text(number)) {
        let text = String::from_utf8_lossy(&one.text);
        return Err(format!("{name} is not octet by octet what was sent:\n{text}"));
    }
    if has.is_tls && !one.is_tls {
        return Err(format!("{name} came in clear text"));
    }
    if let Some(from) = &has.from
        && one.from != *from
    {
        return Err(format!("{name} came from <{}>", one.from));
    }
    if let Some(text) = has.holding.iter().find(|text| !contains(&one.text, text)) {
        let all = String::from_utf8_lossy(&one.text);
        return Err(format!("{name} does not hold `{text}`:\n{all}"));
    }
    match has.lacking.iter().find(|text| contains(&one.text, text)) {
        None => Ok(()),
        Some(text) => Err(format!("{name} holds `{text}`")),
    }
}

fn contains(text: &[u8], part: &str) -> bool {
    memchr::memmem::find(text, part.as_bytes()).is_some()
}

fn messages(count: usize) -> &'static str {
    if count == 1 { "message" } else { "messages" }
}

fn at_most(is: usize, most: usize, what: &str) -> Result<(), String> {
    if is <= most { Ok(()) } else { Err(format!("{is} {what}, more than {most}")) }
}
