//! `waypost serve`: runs the server until it is told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use waypost_config::{Tested, run_expectations};
use waypost_server::control::{ReloadAnswer, ReloadRequests};
use waypost_server::{Loaded, Options, Server, Stamps, load};

use crate::answer::{Answer, Failure};
use crate::check;
use crate::configuration::unusable;

/// How long transactions and deliveries in progress may take at the end.
const GRACE: Duration = Duration::from_secs(30);
/// How often the files of the configuration are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the server. Prints `ready` on stderr when all listeners accept; SIGHUP or a changed file
/// reloads; SIGTERM ends in order.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    config: PathBuf,
    /// Writes the log as JSON lines.
    #[arg(long)]
    json: bool,
    /// What is logged: off, error, warn, info, debug, trace, or levels for parts of the program, such as
    /// "info,waypost_net=debug". Without it the variable RUST_LOG says so, and without that it is info.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    start_log(arguments.json, arguments.log.as_deref())?;
    let loaded = load(&arguments.config).map_err(|error| Failure::Input(unusable(&error)))?;
    let shown = loaded.report.render(false);
    if !shown.is_empty() {
        eprint!("{shown}");
    }
    let Loaded { policy: Some(policy), base, stamps, .. } = loaded else {
        return Ok(Answer::No);
    };
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Input(format!("the system gives no threads: {error}")))?;
    runtime.block_on(async {
        // Before `ready`: whoever waited for it may send a signal at once.
        let signals = Signals::listen()
            .map_err(|error| Failure::Input(format!("signals cannot be heard: {error}")))?;
        let started =
            Server::start(Options { policy, base, resolver: None, authenticator: None }).await;
        let server = started.map_err(|error| Failure::Input(error.to_string()))?;
        for (name, address) in server.addresses() {
            tracing::info!(name, %address, "listening");
        }
        if let Some(address) = server.admin_address() {
            tracing::info!(name = "admin", %address, "listening");
        }
        let asked = server.reload_requests();
        eprintln!("ready");
        live(&server, &arguments.config, stamps, signals, asked).await;
        server.stop(GRACE).await;
        Ok(Answer::Done)
    })
}

/// The signals that are acted on.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Until SIGTERM or SIGINT; reloads on the way.
async fn live(
    server: &Server,
    config: &Path,
    mut stamps: Stamps,
    signals: Signals,
    mut asked: ReloadRequests,
) {
    let Signals { mut hangup, mut terminate, mut interrupt } = signals;
    let mut look = tokio::time::interval(LOOK);
    loop {
        let who = tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => {
                server.reopen_record();
                "SIGHUP".to_owned()
            }
            Some(request) = asked.next() => {
                let came = reload(server, config, &mut stamps, request.who()).await;
                request.answer(came);
                continue;
            }
            _ = look.tick() => {
                let before = stamps.clone();
                let now = tokio::task::spawn_blocking(move || before.now()).await;
                match now {
                    Ok(now) if now != stamps => {
                        stamps = now;
                        owner(config)
                    }
                    _ => continue,
                }
            }
        };
        reload(server, config, &mut stamps, &who).await;
    }
}

/// Who changed the file: its owner (A12).
fn owner(config: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata(config) {
        Ok(found) => format!("owner of {} (uid {})", config.display(), found.uid()),
        Err(_) => format!("owner of {}", config.display()),
    }
}

/// Whole or not at all: whatever is wrong leaves the running policy in place.
async fn reload(server: &Server, config: &Path, stamps: &mut Stamps, who: &str) -> ReloadAnswer {
    let path = config.to_path_buf();
    let loaded = match tokio::task::spawn_blocking(move || load(&path)).await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(error)) => {
            let error = unusable(&error);
            tracing::error!(error, "reload: the running configuration stays");
            server.reload_failed();
            return refused(error);
        }
        Err(error) => {
            tracing::error!(%error, "reload failed; the running configuration stays");
            server.reload_failed();
            return refused(error.to_string());
        }
    };
    *stamps = loaded.stamps.clone();
    let Some(policy) = loaded.policy.clone() else {
        eprint!("{}", loaded.report.render(false));
        tracing::error!("reload: the configuration has errors; the running one stays");
        server.reload_failed();
        return checked(config, &loaded, &[]);
    };
    let tests = run_expectations(&policy, &loaded.raw);
    for failed in tests.iter().filter(|test| !test.passed) {
        tracing::error!(
            test = %failed.description, expected = failed.expected, came = failed.came,
            "reload: an [[expect]] test fails; the running configuration stays"
        );
    }
    if tests.iter().any(|test| !test.passed) {
        server.reload_failed();
        return checked(config, &loaded, &tests);
    }
    let version = policy.version().to_owned();
    match server.reload(Arc::clone(&policy), who).await {
        Ok(()) => {
            tracing::info!(version, who, "reloaded");
            ReloadAnswer::InForce { version }
        }
        Err(error) => {
            tracing::error!(%error, "reload: the running configuration stays");
            refused(error.to_string())
        }
    }
}

fn refused(error: String) -> ReloadAnswer {
    let report = serde_json::json!({ "error": error });
    ReloadAnswer::Refused { text: format!("{error}\n"), report }
}

/// What `check` says of it.
fn checked(config: &Path, loaded: &Loaded, tests: &[Tested]) -> ReloadAnswer {
    let path = config.display().to_string();
    let report = check::json(&path, loaded, tests);
    match (check::text(&path, loaded, tests, false), report) {
        (Ok(text), Ok(report)) => ReloadAnswer::Refused { text, report },
        (Err(error), _) => refused(error.to_string()),
        (_, Err(error)) => refused(error.to_string()),
    }
}

/// As many open files as the system allows: each connection is one, and the usual soft limit is 1,024.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn start_log(json: bool, level: Option<&str>) -> Result<(), Failure> {
    let variable = std::env::var("RUST_LOG").ok().filter(|value| !value.is_empty());
    let (from, text) = match (level, &variable) {
        (Some(level), _) => ("--log", level),
        (None, Some(variable)) => ("RUST_LOG", variable.as_str()),
        (None, None) => ("", "info"),
    };
    let filter = tracing_subscriber::EnvFilter::try_new(text).map_err(|error| {
        let cure = "give a level such as info, or info,waypost_net=debug";
        Failure::Input(format!("{from}: \"{text}\" says not what to log: {error}; {cure}"))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that was set already is kept.
    let _ = if json { log.json().try_init() } else { log.with_ansi(false).try_init() };
    Ok(())
}
