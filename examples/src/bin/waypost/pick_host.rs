//! `waypost pick-host`: how messages spread over a route's hosts (A3, A9).

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use serde::{Serialize, Serializer};
use waypost_config::policy::{Organization, Policy};
use waypost_route::{Route, Spread};
use waypost_types::{HostPort, RouteName};

use crate::answer::{Answer, Failure};
use crate::{batch, configuration, table};

/// The simulation's key: the same for all, so that the same question has the same answer.
const KEY: [u8; 16] = *b"waypost pick-hst";

/// A bar of this many characters is 100 percent.
const BAR: f64 = 40.0;

/// Show how messages would spread over a route's hosts (A3, A9)
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration's main file
    #[arg(value_name = "CONFIG")]
    config: String,
    /// The route's name
    #[arg(value_name = "ROUTE")]
    route: String,
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: u64,
    /// A host of the route that is out; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    down: Vec<HostPort>,
    /// The organization, where several have a route of that name
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// Answer one JSON object: messages by host, without hosts that get none
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let policy = configuration::policy(&arguments.config)?;
    let (_, route) = found_route(&policy, &arguments.route, arguments.organization.as_deref())?;
    for down in &arguments.down {
        if !route.hosts().iter().any(|host| host.at() == down) {
            let known: Vec<_> = route.hosts().iter().map(|host| host.at().to_string()).collect();
            return Err(Failure::Input(format!(
                "--down {down}: the route `{}` has no such host; it has {}",
                route.name(),
                known.join(", ")
            )));
        }
    }
    let spread = route.spread(KEY, arguments.count, &arguments.down);
    let mut out = io::BufWriter::new(io::stdout().lock());
    if arguments.json {
        batch::write_line(&mut out, &ByHost(&spread))?;
    } else {
        write_text(&mut out, arguments, route, &spread)?;
    }
    out.flush()?;
    Ok(if spread.none == 0 { Answer::Done } else { Answer::No })
}

/// The route of a name, and whose it is; `organization` is asked for where several have one.
///
/// # Errors
/// There is none, or there are several.
pub(crate) fn found_route<'a>(
    policy: &'a Policy,
    route: &str,
    organization: Option<&str>,
) -> Result<(&'a Organization, &'a Route), Failure> {
    let unusable = |why: String| Failure::Input(format!("route `{route}`: {why}"));
    let name: RouteName = route.parse().map_err(|error| unusable(format!("{error}")))?;
    let asked = |candidate: &str| organization.is_none_or(|wanted| wanted == candidate);
    let organizations: Vec<_> =
        policy.organizations().iter().filter(|one| asked(&one.name)).collect();
    let found: Vec<_> = organizations
        .iter()
        .filter_map(|one| one.routes.get(&name).map(|route| (&**one, &**route)))
        .collect();
    match found.as_slice() {
        [only] => Ok(*only),
        [] => {
            let known: Vec<_> = organizations
                .iter()
                .flat_map(|one| one.routes.keys().map(|name| format!("`{name}`")))
                .collect();
            Err(unusable(match known.as_slice() {
                [] => "there are no routes; add a table `[[organization.route]]`".to_owned(),
                known => format!("there is none of that name; there are {}", known.join(", ")),
            }))
        }
        several => {
            let names: Vec<_> =
                several.iter().map(|(owner, _)| format!("`{}`", owner.name)).collect();
            Err(unusable(format!("{} have one; choose with --organization", names.join(" and "))))
        }
    }
}

/// Messages by host, in the order of the route's settings; hosts that get none are left out.
struct ByHost<'a>(&'a Spread<'a>);

impl Serialize for ByHost<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut order = Vec::new();
        let mut counts = BTreeMap::new();
        for (host, count) in self.0.counts.iter().filter(|(_, count)| *count > 0) {
            let at = host.at().to_string();
            if !order.contains(&at) {
                order.push(at.clone());
            }
            *counts.entry(at).or_insert(0) += count;
        }
        serializer.collect_map(order.iter().map(|at| (at, counts.get(at).copied().unwrap_or(0))))
    }
}

fn write_text(
    out: &mut impl io::Write,
    arguments: &Arguments,
    route: &Route,
    spread: &Spread<'_>,
) -> io::Result<()> {
    writeln!(out, "route `{}`, {} messages\n", route.name(), arguments.count)?;
    let expected = route.distribution(&arguments.down);
    let rows: Vec<_> = spread
        .counts
        .iter()
        .zip(&expected)
        .map(|((host, count), share)| {
            let came = percent(*count, arguments.count);
            let out = arguments.down.contains(host.at());
            [
                host.at().to_string(),
                host.tier().to_string(),
                format!("{:>3} %", host.load()),
                format!("{:>6.2} %", share.percent),
                format!("{count:>8}"),
                format!("{came:>6.2} %"),
                if out { "down".to_owned() } else { bar(came) },
            ]
        })
        .collect();
    let heading = ["host", "tier", "load", "expected", "messages", "share", ""];
    table::write(out, "  ", heading, &rows)?;
    if spread.none > 0 {
        writeln!(out, "\n  every host is down: {} messages would wait", spread.none)?;
    }
    Ok(())
}

fn percent(count: u64, of: u64) -> f64 {
    100.0 * count as f64 / of as f64
}

fn bar(percent: f64) -> String {
    let mut bar = String::new();
    let mut at = 100.0 / BAR / 2.0;
    while at <= percent {
        bar.push('#');
        at += 100.0 / BAR;
    }
    bar
}
