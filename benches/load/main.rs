//! The load program: `waypost serve` as a whole, beside a peer.
//!
//! A source, a sink and the program under test run on loopback; each message has an id, so that one that is
//! lost or comes twice is seen. What goes in: the command line of [`arguments`]. What comes out: a table in
//! Markdown on stdout, JSON lines if asked for, progress on stderr. Units: seconds, milliseconds, octets,
//! each named beside its figure. Errors: [`trouble`], each with its cure. Not done here: anything over a
//! real network, more than one recipient a message, failing next hops.

mod against;
mod arguments;
mod idle;
mod message;
mod postfix;
mod program;
mod queued;
mod run;
mod serve;
mod sink;
mod source;
mod table;
mod tls;
mod trouble;
mod usage;
mod wire;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::arguments::{Arguments, What};
use crate::program::{Needs, Program, Running};
use crate::run::{Bench, Case};
use crate::sink::Sink;
use crate::source::Task;
use crate::table::Cell;
use crate::tls::Tls;
use crate::trouble::{Doing, Trouble};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = program::end_with_signals().and_then(|()| match arguments.what {
        What::Benches => table::benches(&arguments.results).map(|text| (text, true)),
        What::Against => {
            against::table(&arguments.results, arguments.json.as_deref()).map(|text| (text, true))
        }
        What::Idle => idle::measure(&arguments),
        What::Queued => queued::measure(&arguments),
        _ => measure(&arguments),
    });
    let told = outcome.and_then(|(text, clean)| {
        let text = match arguments.what {
            What::Benches | What::Against => text,
            _ => format!("{}\n\n{text}", table::conditions(&arguments)),
        };
        print!("{text}");
        if let Some(file) = &arguments.into {
            let name = match arguments.what {
                What::Benches | What::Against => arguments.what.name().to_owned(),
                what => format!("load:{}", what.name()),
            };
            table::put_into(file, &name, &text)?;
        }
        Ok(clean)
    });
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("load: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Which programs are compared.
fn programs(arguments: &Arguments) -> Result<Vec<Program>, Trouble> {
    let mut programs = Vec::new();
    if !arguments.no_serve {
        let binary = match &arguments.waypost {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()
                .doing(|| "finding myself".to_owned())?
                .with_file_name("waypost"),
        };
        if binary.components().any(|part| part.as_os_str() == "debug") {
            eprintln!("load: {} is a debug build; its figures mean nothing", binary.display());
        }
        programs.push(Program::Serve(binary));
    }
    programs.extend(arguments.postfix.clone().map(Program::Postfix));
    if arguments.direct {
        programs.push(Program::Direct);
    }
    Ok(programs)
}

/// A folder on a disk, for spools.
fn disk(dir: &Path) -> Result<TempDir, Trouble> {
    let dir = dir.canonicalize().doing(|| format!("looking for {}", dir.display()))?;
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let on = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        dir.starts_with(place).then_some((place.len(), kind))
    });
    // The last of those that are mounted on the same place is the one that is seen.
    match on.max_by_key(|(length, _)| *length) {
        Some((_, kind @ ("tmpfs" | "ramfs"))) => {
            Err(Trouble::NoDisk { dir, kind: kind.to_owned() })
        }
        _ => program::folder_in(&dir),
    }
}

/// As many open files as may be; whether these sessions can be had, each with so many sockets in one process.
fn files_for(sessions: usize, sockets: u64) -> Result<(), Trouble> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing(|| "reading limits".to_owned())?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).doing(|| "raising limits".to_owned())?;
    let needed = sockets * sessions as u64 + 200;
    match needed <= hard {
        true => Ok(()),
        false => Err(Trouble::Files { sessions, needed, allowed: hard }),
    }
}

fn cases(arguments: &Arguments) -> Vec<Case> {
    let what = arguments.what;
    let or = |given: &[usize], default: &[usize]| match given.is_empty() {
        true => default.to_vec(),
        false => given.to_vec(),
    };
    let task = match what {
        What::Reject => Task::Reject,
        What::Connect => Task::Connect,
        _ => Task::Mail,
    };
    let sizes = if what.has_mail() { arguments.sizes.clone() } else { vec![0] };
    let per_connection = match arguments.per_connection.is_empty() || what == What::Connect {
        true => what.per_connection().to_vec(),
        false => arguments.per_connection.clone(),
    };
    let mut cases = Vec::new();
    for size in sizes {
        for sessions in or(&arguments.sessions, what.sessions()) {
            for &per_connection in &per_connection {
                let (sessions, per_connection) = (sessions.max(1), per_connection.max(1));
                cases.push(Case { task, size, sessions, per_connection });
            }
        }
    }
    cases
}

/// A program, its sink, and what it takes to start it anew.
struct Contender {
    program: Program,
    sink: Sink,
    needs: Needs,
    running: Running,
}

/// The file that gets a JSON line for each measurement.
fn lines(arguments: &Arguments) -> Result<Option<File>, Trouble> {
    let Some(path) = &arguments.json else { return Ok(None) };
    let opened = File::options().create(true).append(true).open(path);
    Ok(Some(opened.doing(|| format!("opening {}", path.display()))?))
}

/// Runs all cases; the table, and whether all was as it should be.
fn measure(arguments: &Arguments) -> Result<(String, bool), Trouble> {
    let cases = cases(arguments);
    let sessions = cases.iter().map(|case| case.sessions).max().unwrap_or(1);
    files_for(sessions, 2)?;
    let folder = disk(&arguments.dir)?;
    let dir = folder.path();
    let tls = match arguments.what {
        What::Starttls => Some(Tls::make(dir)?),
        _ => None,
    };
    let mut json = lines(arguments)?;
    let mut contenders = Vec::new();
    for program in programs(arguments)? {
        if program == Program::Direct && arguments.what != What::Relay {
            continue;
        }
        let sink = Sink::start().doing(|| "starting the sink".to_owned())?;
        let needs = Needs {
            dir: dir.to_owned(),
            sink: sink.address,
            sessions,
            tls: tls.as_ref().map(Tls::files),
            strace: arguments.strace,
        };
        let running = Running::start(&program, &needs)?;
        contenders.push(Contender { program, sink, needs, running });
    }
    let (mut cells, mut number, mut clean) = (Vec::new(), 0, true);
    for case in cases {
        let mut cell = Cell::new();
        let mut counts: Vec<Option<u64>> = contenders.iter().map(|_| arguments.count).collect();
        for round in 0..arguments.rounds {
            for (contender, count) in contenders.iter_mut().zip(&mut counts) {
                let bench = Bench {
                    sink: &contender.sink,
                    tls: tls.as_ref().map(|tls| tls.client.clone()),
                    patience: Duration::from_secs(arguments.patience),
                };
                let running = &contender.running;
                let seconds = arguments.seconds;
                let many = match *count {
                    Some(many) => many,
                    None => run::pilot(running, &bench, case, seconds, &mut number)?,
                };
                usage::wait_until_quiet(Duration::from_secs(arguments.wait_quiet));
                number += 1;
                let run = run::run(running, &bench, case, many, number)?;
                // A pilot is short, and its program may have been cold: the next round makes good for it.
                let longer = (run.rate * seconds) as u64;
                *count = arguments.count.or(Some(many.max(longer)));
                progress(&run, round);
                if let Some(file) = &mut json {
                    let line = run.json(arguments.what.name(), round);
                    writeln!(file, "{line}").doing(|| "writing JSON".to_owned())?;
                }
                if !run.is_clean() {
                    clean = false;
                    eprintln!(
                        "load: {} is started anew; its last words:\n{}",
                        running.name,
                        running.tail()
                    );
                    contender.running = Running::start(&contender.program, &contender.needs)?;
                }
                cell.push((round, run));
            }
        }
        cells.push(cell);
    }
    Ok((table::runs(arguments.what, &cells), clean))
}

fn progress(run: &run::Run, round: usize) {
    eprint!(
        "{}, {}, round {}: {:.0}/s ({} in {:.1} s, acknowledged {:.0}/s), CPU {:.3} ms, of source and sink {:.3} ms, others {:.0} %",
        run.case,
        run.program,
        round + 1,
        run.rate,
        run.count,
        run.seconds,
        run.acknowledged,
        run.cpu_ms,
        run.tools_ms,
        run.others * 100.0
    );
    if !run.is_clean() {
        eprint!(
            ", lost {}, twice {}, damaged {}, failed {}",
            run.lost, run.again, run.damaged, run.failed
        );
    }
    match &run.error {
        Some(error) => eprintln!(": {error}"),
        None => eprintln!(),
    }
}
