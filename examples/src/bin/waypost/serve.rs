//! `waypost serve`: runs the server until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use waypost_server::{LoadError, Loaded, Options, Server, Stamps, load};

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
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    start_log(arguments.json);
    let loaded = match load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            report_unusable(&error);
            return ExitCode::from(2);
        }
    };
    let shown = loaded.report.render(false);
    if !shown.is_empty() {
        eprint!("{shown}");
    }
    let Loaded { policy: Some(policy), base, stamps, .. } = loaded else {
        return ExitCode::from(1);
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("waypost: the system gives no threads: {error}");
            return ExitCode::from(2);
        }
    };
    runtime.block_on(async {
        let server = match Server::start(Options { policy, base, resolver: None }).await {
            Ok(server) => server,
            Err(error) => {
                eprintln!("waypost: {error}");
                return ExitCode::from(2);
            }
        };
        for (name, address) in server.addresses() {
            tracing::info!(name, %address, "listening");
        }
        eprintln!("ready");
        match live(&server, &arguments.config, stamps).await {
            Ok(()) => {
                server.stop(GRACE).await;
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("waypost: signals cannot be heard: {error}");
                ExitCode::from(2)
            }
        }
    })
}

/// Until SIGTERM or SIGINT; reloads on the way.
async fn live(server: &Server, config: &PathBuf, mut stamps: Stamps) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        let who = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => "SIGHUP".to_owned(),
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
fn owner(config: &PathBuf) -> String {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata(config) {
        Ok(found) => format!("owner of {} (uid {})", config.display(), found.uid()),
        Err(_) => format!("owner of {}", config.display()),
    }
}

/// Whole or not at all: whatever is wrong leaves the running policy in place.
async fn reload(server: &Server, config: &PathBuf, stamps: &mut Stamps, who: &str) {
    let path = config.clone();
    let loaded = match tokio::task::spawn_blocking(move || load(&path)).await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(error)) => {
            report_unusable(&error);
            tracing::error!(%error, "reload: the running configuration stays");
            return;
        }
        Err(error) => {
            tracing::error!(%error, "reload failed; the running configuration stays");
            return;
        }
    };
    *stamps = loaded.stamps.clone();
    let Some(policy) = loaded.policy.clone() else {
        eprint!("{}", loaded.report.render(false));
        tracing::error!("reload: the configuration has errors; the running one stays");
        return;
    };
    let failed = crate::check::failed_expectations(&loaded);
    if !failed.is_empty() {
        tracing::error!(?failed, "reload: [[expect]] tests fail; the running configuration stays");
        return;
    }
    let version = policy.version().to_owned();
    match server.reload(Arc::clone(&policy), who).await {
        Ok(()) => tracing::info!(version, who, "reloaded"),
        Err(error) => tracing::error!(%error, "reload: the running configuration stays"),
    }
}

fn report_unusable(error: &LoadError) {
    eprintln!("waypost: {error}");
    if let LoadError::NotToml(not_toml) = error {
        eprint!("{}", not_toml.report.render(false));
    }
}

fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that was set already is kept.
    let _ = if json { log.json().try_init() } else { log.with_ansi(false).try_init() };
}
