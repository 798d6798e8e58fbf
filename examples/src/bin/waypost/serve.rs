//! `waypost serve`: runs the server until it is told to stop.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use waypost_config::Tested;
use waypost_server::control::{ReloadAnswer, ReloadRequests};
use waypost_server::{Asked, Inherited, Loaded, Options, Prepared, Reload, Reloaded, Server, load};

use crate::answer::{Answer, Failure};
use crate::check;
use crate::configuration::unusable;
use crate::{privileges, service_manager};

/// How long transactions and deliveries in progress may take at the end.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// How often the files of the configuration are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the server. Prints `ready` on stderr when all listeners accept; SIGHUP or a changed file
/// reloads; SIGTERM ends in order. Sockets of a service manager are taken (LISTEN_FDS) and it is told
/// of the state (NOTIFY_SOCKET); started as root, it becomes the `user` of the configuration.
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
    // While there is one thread: it takes variables out of the environment.
    let inherited = Inherited::from_environment();
    start_log(arguments.json, arguments.log.as_deref())?;
    let inherited = inherited.map_err(|error| Failure::Input(error.to_string()))?;
    let loaded = load(&arguments.config).map_err(|error| Failure::Input(unusable(&error)))?;
    let shown = loaded.report.render(false);
    if !shown.is_empty() {
        eprint!("{shown}");
    }
    let Some(policy) = loaded.policy.clone() else { return Ok(Answer::No) };
    let base = loaded.base.clone();
    raise_open_files();
    let prepared = Prepared::bind(&policy, &base, inherited)
        .map_err(|error| Failure::Input(error.to_string()))?;
    privileges::give_up(&policy.server, &base.join(&*policy.server.spool))?;
    // From here on there are threads.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Input(format!("the system gives no threads: {error}")))?;
    runtime.block_on(async {
        // Before `ready`: whoever waited for it may send a signal at once.
        let signals = Signals::listen()
            .map_err(|error| Failure::Input(format!("signals cannot be heard: {error}")))?;
        let options = Options { policy, base, resolver: None, authenticator: None };
        let started = Server::start_on(prepared, options).await;
        let server = started.map_err(|error| Failure::Input(error.to_string()))?;
        for (name, address) in server.addresses() {
            tracing::info!(name, %address, "listening");
        }
        if let Some(address) = server.admin_address() {
            tracing::info!(name = "admin", %address, "listening");
        }
        let asked = server.reload_requests();
        let reload = Reload::started(&server, &arguments.config, loaded).await;
        eprintln!("ready");
        service_manager::ready();
        live(&server, &arguments.config, reload, signals, asked).await;
        service_manager::stopping();
        server.stop(GRACE).await;
        Ok(Answer::Done)
    })
}

/// The signals that are acted on.
pub(crate) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Until SIGTERM or SIGINT; reloads on the way.
pub(crate) async fn live(
    server: &Server,
    config: &Path,
    mut reload: Reload,
    signals: Signals,
    mut asked: ReloadRequests,
) {
    let Signals { mut hangup, mut terminate, mut interrupt } = signals;
    let mut look = tokio::time::interval(LOOK);
    // Reading takes its time; looks that were missed meanwhile are.
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hangup.recv() => {
                server.reopen_record();
                service_manager::reloading();
                told(config, reload.reload(server, Asked::BySignal).await);
                service_manager::ready();
            }
            Some(request) = asked.next() => {
                service_manager::reloading();
                let came = reload.reload(server, Asked::By(request.who())).await;
                service_manager::ready();
                request.answer(told(config, came));
            }
            _ = look.tick() => {
                if reload.files_changed().await {
                    told(config, reload.reload(server, Asked::ByFiles).await);
                }
            }
        }
    }
}

/// Says in the log what came of a reload, and what who asked is to hear.
fn told(config: &Path, came: Reloaded) -> ReloadAnswer {
    match came {
        // The log has it, with how long it took.
        Reloaded::InForce { version, .. } => ReloadAnswer::InForce { version },
        Reloaded::Unchanged { version } => {
            tracing::info!(version, "reload: nothing changed");
            ReloadAnswer::InForce { version }
        }
        Reloaded::Unusable(error) => {
            let error = unusable(&error);
            tracing::error!(error, "reload: the running configuration stays");
            refused(error)
        }
        Reloaded::Wrong { loaded, tests } => {
            for failed in tests.iter().filter(|test| !test.passed) {
                tracing::error!(
                    test = %failed.description, at = loaded.report.locate(failed.place),
                    expected = failed.expected, came = failed.came,
                    "reload: an [[expect]] test fails; the running configuration stays"
                );
            }
            if loaded.report.has_errors() {
                eprint!("{}", loaded.report.render(false));
                tracing::error!("reload: the configuration has errors; the running one stays");
            }
            checked(config, &loaded, &tests)
        }
        Reloaded::Refused(error) => {
            tracing::error!(%error, "reload: the running configuration stays");
            refused(error.to_string())
        }
        Reloaded::Failed(error) => {
            tracing::error!(error, "reload failed; the running configuration stays");
            refused(error)
        }
        _ => refused("the running configuration stays".to_owned()),
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
pub(crate) fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

pub(crate) fn start_log(json: bool, level: Option<&str>) -> Result<(), Failure> {
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
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    // A log that was set already is kept.
    let _ = match json {
        true => log.json().with_writer(|| LogLine(waypost_types::shown_json)).try_init(),
        false => log.with_ansi(false).with_writer(|| LogLine(waypost_types::shown)).try_init(),
    };
    Ok(())
}

/// The log on stderr: each event is one line, in which nothing misleads whoever reads it.
struct LogLine(fn(&str) -> Cow<'_, str>);

impl io::Write for LogLine {
    /// Takes an event, which comes whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut stderr = io::stderr().lock();
        match text.strip_suffix('\n') {
            None => stderr.write_all(self.0(&text).as_bytes())?,
            Some(line) => match self.0(line) {
                Cow::Borrowed(_) => stderr.write_all(text.as_bytes())?,
                Cow::Owned(line) => stderr.write_all((line + "\n").as_bytes())?,
            },
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
