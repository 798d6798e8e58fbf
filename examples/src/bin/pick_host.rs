//! Which hosts of a route get how much mail (`waypost-route`).
//!
//! Draws a host for each of 10,000 messages and prints a histogram beside the configured loads, then
//! again with the first host down, and the whole order for one message:
//!
//! ```text
//! pick_host a.example=60 b.example=40 -- dr.example=100
//! ```
//!
//! Hosts behind `--` are secondary. Loads of a tier add up to 100.

use std::process::ExitCode;

use waypost_route::{Draw, Health, HostSettings, Route, RouteSettings};
use waypost_types::{FailureScope, HostPort, QueueId, Timestamp};

const MESSAGES: u64 = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut tiers = arguments.split(|argument| argument == "--").map(hosts);
    let settings = RouteSettings {
        name: "example".to_owned(),
        primary: tiers.next(),
        secondary: tiers.next(),
        ..RouteSettings::default()
    };
    let route = match Route::new(settings) {
        Ok(route) => route,
        Err(errors) => {
            eprintln!("usage: pick_host HOST[:PORT]=LOAD... [-- HOST[:PORT]=LOAD...]");
            errors.iter().for_each(|error| eprintln!("{error}"));
            return ExitCode::from(2);
        }
    };
    println!("all hosts up:");
    histogram(&route, &[]);
    let Some(first) = route.hosts().first() else { return ExitCode::FAILURE };
    println!("{} down:", first.at());
    histogram(&route, &[first.at().clone()]);

    let (mut health, now) = (Health::default(), Timestamp::from_millis(0));
    health.failed(first.at(), FailureScope::Host, now);
    let draw = Draw::new([7; 16], QueueId::new(1), route.name());
    println!("one message, after a failure: {}", route.attempts(draw, &health, now));
    ExitCode::SUCCESS
}

fn hosts(arguments: &[String]) -> Vec<HostSettings> {
    let host = |argument: &String| {
        let (at, load) = argument.split_once('=').unwrap_or((argument, ""));
        let (host, port) = match at.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, port.parse().ok()),
            _ => (at, None),
        };
        HostSettings {
            host: host.to_owned(),
            port,
            load: load.parse().ok(),
            ..HostSettings::default()
        }
    };
    arguments.iter().map(host).collect()
}

fn histogram(route: &Route, down: &[HostPort]) {
    let spread = route.spread([7; 16], MESSAGES, down);
    for (share, (host, count)) in route.distribution(down).iter().zip(&spread.counts) {
        let bar = "#".repeat(usize::try_from(count * 50 / MESSAGES).unwrap_or(0));
        println!("    {:<24} {:>5.1} % expected {count:>6} {bar}", host.at(), share.percent);
    }
}
