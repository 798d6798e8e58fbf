//! Which hosts a mailbox's mail really came from, as a chart in the terminal (`waypost-inbound`).
//!
//! ```text
//! host_chart 198.51.100.0/24 < mailbox
//! ```
//!
//! The argument: the gateways, with commas between. Standard input: a mailbox (mbox), or one message. Messages
//! are read one after the other; memory holds one, and a count for each host.

use std::collections::HashMap;
use std::error::Error;
use std::io::BufRead as _;
use std::net::IpAddr;

use waypost_inbound::{GatewaySettings, InboundGateway, OwnLine, Reading};
use waypost_types::HeaderBlock;

/// Rows of the chart, and the longest bar.
const ROWS: usize = 15;
const WIDTH: usize = 50;

fn main() -> Result<(), Box<dyn Error>> {
    let gateways = std::env::args().nth(1).ok_or("usage: host_chart GATEWAYS < MAILBOX")?;
    let settings = GatewaySettings {
        addresses: gateways.split(',').map(str::to_owned).collect(),
        detect_external_ip: true,
        ..GatewaySettings::default()
    };
    let gateway = InboundGateway::new(&settings).map_err(|errors| errors.to_string())?;
    let (mut hosts, mut message) = (HashMap::<Option<IpAddr>, usize>::new(), Vec::new());
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let ended = input.read_until(b'\n', &mut line)? == 0;
        if (ended || line.starts_with(b"From ")) && !message.is_empty() {
            *hosts.entry(source(&gateway, &message)).or_default() += 1;
            message.clear();
        }
        if ended {
            break;
        }
        // The line between messages is none of theirs, and a body says nothing.
        if !line.starts_with(b"From ")
            && !message.ends_with(b"\n\n")
            && !message.ends_with(b"\n\r\n")
        {
            message.extend_from_slice(&line);
        }
    }
    chart(hosts);
    Ok(())
}

/// The source of a message that was stored by our own server, whose line is the first one.
fn source(gateway: &InboundGateway, message: &[u8]) -> Option<IpAddr> {
    let header = HeaderBlock::of(message);
    let lines = header.fields().filter(|field| field.is("received"));
    let client = lines.map(|line| Reading::of(line.raw).ip()).find(Option::is_some)??;
    gateway.source(client, OwnLine::FindOut, &header).ip
}

fn chart(hosts: HashMap<Option<IpAddr>, usize>) {
    let all: usize = hosts.values().sum();
    let mut rows: Vec<_> = hosts.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let most = rows.first().map_or(1, |row| row.1);
    println!("{all} messages from {} hosts", rows.len());
    for (host, count) in rows.iter().take(ROWS) {
        let name = host.map_or("internal or unknown".to_owned(), |ip| ip.to_string());
        println!("{name:>39} {count:>6} {}", "█".repeat((count * WIDTH).div_ceil(most)));
    }
}
