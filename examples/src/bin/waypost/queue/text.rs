//! The queue for people.

use std::io::{self, Write};

use waypost_config::policy::{Explanation, Layout};
use waypost_relay::LimitMode;
use waypost_server::control::{
    Answer, Change, Changed, DeliveryLine, HoldLine, Message, Now, Shown, State, WayNow,
};
use waypost_types::{Delivery, TlsDemand};

use crate::table;

/// Characters of an address or a reply.
const WIDTH: usize = 200;

/// The heading of a list.
pub(super) fn heading(out: &mut impl Write) -> io::Result<()> {
    columns(out, ["message", "accepted", "octets", "state", "next attempt", "from -> to"])
}

/// One answer.
pub(super) fn write(out: &mut impl Write, answer: &Answer, layout: &Layout) -> io::Result<()> {
    match answer {
        Answer::Message(message) => columns(
            out,
            [
                &message.id.to_string(),
                &message.accepted_at.to_string(),
                &message.size.to_string(),
                &states(message),
                &next(message),
                &envelope(message),
            ],
        ),
        Answer::Shown(shown) => show(out, shown, layout),
        Answer::Changed(changed) => change(out, changed),
        _ => Ok(()),
    }
}

/// A number and its noun.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn columns(out: &mut impl Write, cells: [&str; 6]) -> io::Result<()> {
    let [id, accepted, octets, state, next, envelope] = cells;
    writeln!(out, "{id:<13}  {accepted:<20}  {octets:>8}  {state:<9}  {next:<20}  {envelope}")
}

/// The states of what is still owed.
fn states(message: &Message) -> String {
    let mut states: Vec<State> = message.deliveries.iter().map(|one| one.state).collect();
    states.retain(|state| state.is_open());
    states.sort_unstable();
    states.dedup();
    let states: Vec<String> = states.iter().map(ToString::to_string).collect();
    states.join("+")
}

fn next(message: &Message) -> String {
    let due = message.deliveries.iter().filter_map(|one| one.due).min();
    due.map_or_else(|| "-".to_owned(), |due| due.to_string())
}

fn envelope(message: &Message) -> String {
    let mut open = message.deliveries.iter().filter(|one| one.state.is_open());
    let first = open.next().or(message.deliveries.first());
    let first = first.map_or_else(|| "nobody".to_owned(), |one| shown(&one.recipient.to_string()));
    let more = match open.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} -> {first}{more}", sender(&message.sender.to_string()))
}

fn show(out: &mut impl Write, all: &Shown, layout: &Layout) -> io::Result<()> {
    let Shown { message, envelopes, decision, now, .. } = all;
    writeln!(out, "message       {}", message.id)?;
    writeln!(out, "accepted      {}", message.accepted_at)?;
    writeln!(out, "octets        {}", message.size)?;
    writeln!(out, "client        {}", shown(&message.client))?;
    writeln!(out, "sender        {}", sender(&message.sender.to_string()))?;
    for (place, (line, envelope)) in message.deliveries.iter().zip(envelopes).enumerate() {
        delivery(out, line, envelope)?;
        if let Some(way) = now.as_ref().and_then(|now| now.ways.get(place)) {
            next_way(out, way)?;
        }
    }
    if let Some(now) = now.as_ref().filter(|now| !now.quota.is_empty()) {
        headroom(out, now)?;
    }
    match Explanation::stored(&decision.to_string()) {
        Some(explanation) => write!(out, "\ndecided when it came\n\n{}", explanation.text(layout)),
        None => writeln!(out, "\ndecided when it came\n\n{}", shown(&decision.to_string())),
    }
}

fn delivery(out: &mut impl Write, line: &DeliveryLine, envelope: &Delivery) -> io::Result<()> {
    writeln!(out, "\n{}", shown(&line.recipient.to_string()))?;
    if envelope.original_recipient != envelope.recipient {
        writeln!(out, "  was         {}", shown(&envelope.original_recipient.to_string()))?;
    }
    writeln!(out, "  sender      {}", sender(&envelope.sender.to_string()))?;
    let tls = match envelope.tls {
        TlsDemand::Required => ", TLS required by a rule",
        TlsDemand::Opportunistic => "",
    };
    writeln!(out, "  next hop    {}{tls}", shown(&line.next_hop))?;
    match (&line.hold, line.due) {
        (Some(hold), _) => writeln!(out, "  state       held: {}", held(hold))?,
        (None, Some(due)) => writeln!(out, "  state       {}, next attempt at {due}", line.state)?,
        (None, None) => writeln!(out, "  state       {}", line.state)?,
    }
    writeln!(out, "  attempts    {}", line.attempts)?;
    match &line.last {
        Some(last) => writeln!(out, "  last        {}", shown(last)),
        None => Ok(()),
    }
}

/// The hosts of the next attempt, as the configuration in force has them.
fn next_way(out: &mut impl Write, way: &WayNow) -> io::Result<()> {
    if let Some(hosts) = &way.hosts {
        let draw = hosts.draw.as_ref().map(|draw| format!("; draw {draw}")).unwrap_or_default();
        writeln!(out, "  hosts now   {}{draw}", shown(&hosts.in_words()))?;
    }
    match &way.tls_policy {
        Some(tls) => writeln!(out, "  TLS now     {}", shown(&tls.words)),
        None => Ok(()),
    }
}

/// How much more who relays the message may send.
fn headroom(out: &mut impl Write, now: &Now) -> io::Result<()> {
    writeln!(out, "\nroom for relayed mail at {}", now.at)?;
    for line in &now.quota {
        let whose = line.user.as_ref().map_or(line.organization.to_string(), ToString::to_string);
        let used = line.quota.used.saturating_add(line.quota.reserved);
        let room = match (line.mode, line.quota.room_at) {
            (LimitMode::Off, _) => "; no limit: mode is off".to_owned(),
            (mode, room_at) => {
                let again = room_at.map(|at| format!("; room again at {at} or before"));
                let observed = if mode == LimitMode::Observe { "; only observed" } else { "" };
                format!("{}{observed}", again.unwrap_or_default())
            }
        };
        let (limit, allowed) = (line.quota.limit, line.quota.allowed);
        writeln!(out, "  {}  {used} of {allowed} {limit}{room}", shown(&whose))?;
    }
    Ok(())
}

fn held(hold: &HoldLine) -> String {
    match hold {
        HoldLine::Quarantine { name, because } => {
            format!("quarantine \"{}\", because of \"{}\"", shown(name), shown(because))
        }
        HoldLine::OverLimit { because, kept_by } => {
            let kept = kept_by.as_ref().map(|by| format!(", and held by {}", shown(by)));
            format!("over the limit of {}{}", shown(because), kept.unwrap_or_default())
        }
        HoldLine::Operator { by } => format!("by {}", shown(by)),
        _ => "for a reason that this version has no word for".to_owned(),
    }
}

fn change(out: &mut impl Write, changed: &Changed) -> io::Result<()> {
    let Changed { done, deliveries, running, message } = changed;
    let (word, under_way) = match done {
        Change::Held => ("held", "goes on, held if it is deferred"),
        Change::Released => ("released", "goes on"),
        Change::Removed => ("removed", "goes on and may succeed"),
        Change::Retried => ("tried now", "goes on"),
    };
    let deliveries = counted(u64::from(*deliveries), "delivery", "deliveries");
    write!(out, "{word} {}: {}, {deliveries}", message.id, envelope(message))?;
    if *done == Change::Removed {
        write!(out, ", accepted {}, {} octets", message.accepted_at, message.size)?;
    }
    match running {
        0 => writeln!(out),
        running => writeln!(out, "; {running} under way {under_way}"),
    }
}

fn sender(sender: &str) -> String {
    if sender.is_empty() { "<>".to_owned() } else { shown(sender) }
}

fn shown(text: &str) -> String {
    table::shown(text.as_bytes(), WIDTH)
}
