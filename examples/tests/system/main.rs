//! Whole systems: several `waypost serve`, real DNS, real TLS, sinks, clients, and what befalls them. Each file of
//! `examples/tests/scenarios` is one; its README.md says how they are written.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may say what they mean"
)]

mod claim;
mod clock;
mod loopback;
mod peers;
mod post;
mod proof;
mod server;
mod step;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use world::{Stop, World};

/// How one went.
enum Went {
    Well,
    Skipped(String),
    Badly(String),
}

/// How many run at a time: they wait more than they work.
const AT_A_TIME: usize = 4;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "scenario"));
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// `{KILLS}` is what `WAYPOST_SCENARIO_KILLS` says.
fn from_outside(number: &str) -> Option<String> {
    std::env::var(format!("WAYPOST_SCENARIO_{number}")).ok()
}

fn read(path: &Path) -> Result<(text::Text, Vec<step::Placed>), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let wrong = |wrong: text::Wrong| format!("{}:{wrong}", path.display());
    let text = text::read(&text, &from_outside).map_err(wrong)?;
    let steps = step::steps(&text.statements, &from_outside).map_err(wrong)?;
    Ok((text, steps))
}

fn play(path: &Path) -> Went {
    let (_, steps) = match read(path) {
        Ok(read) => read,
        Err(error) => return Went::Badly(error),
    };
    let playing = std::thread::Builder::new().name(name(path)).spawn(move || {
        let mut world = match World::new(&steps) {
            Ok(world) => world,
            Err(Stop::Skipped(why) | Stop::Failed(why)) => return Some(why),
        };
        match world.run(&steps) {
            Ok(()) => None,
            Err(Stop::Skipped(why)) => Some(why),
            // The servers show their logs when they are dropped by a panic.
            Err(Stop::Failed(error)) => panic!("{error}"),
        }
    });
    match playing.unwrap().join() {
        Ok(None) => Went::Well,
        Ok(Some(why)) => Went::Skipped(why),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Went::Badly(format!("{}: {}", path.display(), text.unwrap_or_default()))
        }
    }
}

/// `WAYPOST_SCENARIO` is a part of the names of those that are played, `WAYPOST_SCENARIOS_AT_A_TIME` how many at a
/// time.
#[test]
fn every_scenario_goes_as_it_is_written() {
    let only = std::env::var("WAYPOST_SCENARIO").unwrap_or_default();
    let at_a_time = std::env::var("WAYPOST_SCENARIOS_AT_A_TIME").ok();
    let at_a_time = at_a_time.map_or(AT_A_TIME, |count| count.parse().unwrap());
    let mut waiting = files();
    waiting.retain(|path| name(path).contains(&only));
    assert!(!waiting.is_empty(), "no scenario is called `{only}`");
    waiting.reverse();
    let (waiting, done) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while let Some(path) = next() {
                    let begun = Instant::now();
                    let went = play(&path);
                    done.lock().unwrap().push((name(&path), begun.elapsed(), went));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by(|one, other| one.0.cmp(&other.0));
    println!("{}", table(&done));
    let bad: Vec<String> = done
        .iter()
        .filter_map(|(_, _, went)| match went {
            Went::Badly(error) => Some(error.clone()),
            Went::Well | Went::Skipped(_) => None,
        })
        .collect();
    assert!(bad.is_empty(), "{} of {} failed:\n\n{}", bad.len(), done.len(), bad.join("\n\n"));
}

fn table(done: &[(String, Duration, Went)]) -> String {
    let line = |(name, took, went): &(String, Duration, Went)| {
        let went = match went {
            Went::Well => "ok".to_owned(),
            Went::Skipped(why) => format!("skipped: {why}"),
            Went::Badly(_) => "FAILED".to_owned(),
        };
        format!("{:>7.1} s  {name:<50} {went}\n", took.as_secs_f64())
    };
    done.iter().map(line).collect()
}

#[test]
fn the_page_has_every_verb() {
    let page = include_str!("../scenarios/README.md");
    for verb in step::VERBS.split(", ") {
        assert!(page.contains(&format!("`{verb}")), "README.md says nothing of `{verb}`");
    }
}

#[test]
fn every_scenario_says_what_it_proves() {
    let ids = [
        "A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11", "A12", "B1", "B2",
        "B3", "B4", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "D1", "D2", "D3", "D4",
        "D5", "D6", "D7", "D8", "D9", "D10", "D11", "D12", "D13", "D14", "D15", "D16", "D17", "E1",
        "E2", "E3", "E4", "E5", "E6", "E7", "E8", "E9", "E10", "E11", "O1", "O2", "O3", "O4", "O5",
        "O6", "O7", "O8",
    ];
    for path in files() {
        let (text, _) = read(&path).unwrap();
        for id in &text.proves {
            assert!(ids.contains(&id.as_str()), "{}: no requirement is {id}", path.display());
        }
    }
}

#[test]
fn a_long_answer_of_the_name_server_is_asked_for_over_tcp() {
    use waypost_net::dns::{DnsLimits, Resolver as _, SystemResolver};
    let exchange = |number| format!("{number} a-name-that-takes-some-room-{number}.many.test");
    let zone = (0..60).map(|number| ("many.test".to_owned(), "MX", exchange(number))).collect();
    let dns = support::dns::Dns::start(zone);
    let found = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = found.block_on(async {
        let resolver = SystemResolver::with_servers(&[dns.address], DnsLimits::default()).unwrap();
        resolver.mx(&"many.test".parse().unwrap()).await.unwrap()
    });
    assert_eq!(found.len(), 60);
    assert_eq!(dns.asked().len(), 2, "once each way: {:?}", dns.asked());
}
