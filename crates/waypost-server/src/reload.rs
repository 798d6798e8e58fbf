//! Keeps a running server at what its configuration's files say (A12).
//!
//! **In:** a [`Server`], the path of its configuration, and who asks for a reload. **Out:** the new
//! configuration in force, whole, or the old one left in place; and in both cases a line in the audit
//! log: when, who, from which version to which, and what changed from what to what, or what is wrong.
//! **Bounds:** files are read, compiled and compared on a thread of their own; sessions never wait.
//! The old policy goes when the last transaction under it ends, on such a thread too. **Errors:** none
//! ends anything: [`Reloaded`] says what came of it. **Source:** A12, O7.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use waypost_config::difference::Snapshot;
use waypost_config::policy::Policy;
use waypost_config::{Tested, run_expectations};

use crate::files::{LoadError, Loaded, load};
use crate::in_force::drop_aside;
use crate::server::{Refusal, RefusedBecause, Server, ServerError};
use crate::stamps::{Stamps, owners};

/// The file in the spool that says what is in force.
const IN_FORCE: &str = "in-force.json";

/// How many errors or failed tests of a refused configuration go into the audit log.
const MOST_ERRORS: usize = 10;

/// Who or what asks for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// The files, which are not what they were: their owners changed them.
    ByFiles,
    /// A signal. Who sent it is not known; if files changed, their owners are named.
    BySignal,
    /// A user, by name.
    By(&'a str),
}

impl<'a> Asked<'a> {
    fn user(self) -> Option<&'a str> {
        match self {
            Self::By(user) => Some(user),
            Self::ByFiles | Self::BySignal => None,
        }
    }

    /// Who it is for the audit log, by the owners of the files that changed.
    fn who(self, changed: &str) -> String {
        match (self, changed) {
            (Self::By(user), _) => user.to_owned(),
            (Self::BySignal, "") => "SIGHUP".to_owned(),
            (Self::BySignal, owners) => format!("SIGHUP; {owners}"),
            (Self::ByFiles, "") => "the files".to_owned(),
            (Self::ByFiles, owners) => owners.to_owned(),
        }
    }
}

/// What came of a reload.
#[non_exhaustive]
pub enum Reloaded {
    /// The configuration is in force.
    InForce {
        /// Its version.
        version: String,
        /// Who changed it, as the audit log has it.
        who: String,
    },
    /// It says what is in force already.
    Unchanged {
        /// Its version.
        version: String,
    },
    /// It cannot be read, or is not TOML.
    Unusable(LoadError),
    /// It has errors, or one of its `[[expect]]` tests fails.
    Wrong {
        /// The configuration, with the report on it.
        loaded: Box<Loaded>,
        /// The outcomes of its tests; none were run if it has errors.
        tests: Vec<Tested>,
    },
    /// The running server cannot take it.
    Refused(ServerError),
    /// The thread that read it ended abnormally: what it said.
    Failed(String),
}

/// What is in force, as it is kept in the spool: to tell what changed while no server ran.
#[derive(Debug, Serialize, Deserialize)]
struct InForce {
    version: String,
    stamps: Stamps,
    snapshot: Snapshot,
}

/// A configuration that can be put in force, and what it changes.
struct Prepared {
    policy: Arc<Policy>,
    snapshot: Arc<Snapshot>,
    lines: Vec<String>,
}

/// Keeps a running server at what its configuration's files say.
#[derive(Debug)]
pub struct Reload {
    config: PathBuf,
    spool: PathBuf,
    stamps: Stamps,
    in_force: Arc<Snapshot>,
}

impl Reload {
    /// For a server that was started with a configuration that was loaded from `config`. If another one
    /// was in force when the spool was last in use, the difference goes into the audit log now.
    pub async fn started(server: &Server, config: &Path, loaded: Loaded) -> Self {
        let spool = server.spool().to_owned();
        let version = server.version();
        let (main, path) = (config.to_owned(), spool.join(IN_FORCE));
        let looked = tokio::task::spawn_blocking(move || {
            let (snapshot, stamps) = (Arc::new(loaded.snapshot()), loaded.stamps.clone());
            let before = read(&path);
            let mut lines = Vec::new();
            let mut who = owners(std::iter::once(main.as_path()));
            match &before {
                Some(before) => {
                    lines = before.snapshot.difference(&snapshot);
                    let changed = before.stamps.changed_by(&stamps);
                    who = if changed.is_empty() { who } else { changed };
                }
                None => lines.push(format!("what was in force before is not known: no {IN_FORCE}")),
            }
            (snapshot, stamps, before.map(|before| before.version), lines, who)
        });
        let (in_force, stamps, before, mut lines, who) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "what changed before this start cannot be told");
                Default::default()
            }
        };
        let last = server.version_before_start();
        if last.is_none() {
            lines.clear();
        }
        // A start that changes nothing is no change.
        if last != Some(&*version) || (before.as_deref() == Some(&*version) && !lines.is_empty()) {
            server.changed_before_start(&who, lines).await;
        }
        let this = Self { config: config.to_owned(), spool, stamps, in_force };
        if before.as_deref() != Some(&*version) {
            this.keep(version).await;
        }
        this
    }

    /// Whether a file of the configuration is not what it was, or a new one is there that a pattern of
    /// `include` finds. Cheap: to be asked often.
    pub async fn files_changed(&self) -> bool {
        let before = self.stamps.clone();
        let changed = tokio::task::spawn_blocking(move || before.now() != before).await;
        changed.unwrap_or(false)
    }

    /// Reads the configuration and puts it in force, whole or not at all. What is refused stays
    /// refused until a file changes or somebody asks again.
    pub async fn reload(&mut self, server: &Server, asked: Asked<'_>) -> Reloaded {
        let began = Instant::now();
        let (config, before, in_force) =
            (self.config.clone(), self.stamps.clone(), Arc::clone(&self.in_force));
        let prepared = tokio::task::spawn_blocking(move || {
            let mut now = before.now();
            let prepared = match load(&config) {
                Ok(loaded) => {
                    now = loaded.stamps.clone();
                    prepare(loaded, &in_force)
                }
                Err(error) => Err(Reloaded::Unusable(error)),
            };
            let changed = before.changed_by(&now);
            (now, changed, prepared)
        });
        let (now, changed, prepared) = match prepared.await {
            Ok(done) => done,
            Err(error) => {
                let refusal = Refusal {
                    version: String::new(),
                    who: asked.who(""),
                    because: RefusedBecause::Unreadable,
                    lines: vec![error.to_string()],
                };
                server.refused(refusal).await;
                return Reloaded::Failed(error.to_string());
            }
        };
        let who = asked.who(&changed);
        self.stamps = now;
        let Prepared { policy, snapshot, lines } = match prepared {
            Ok(prepared) => prepared,
            Err(wrong) => {
                if let Some(refusal) = refusal(&wrong, &who) {
                    server.refused(refusal).await;
                }
                return wrong;
            }
        };
        let version = policy.version().to_owned();
        if lines.is_empty() && server.version() == version {
            server.unchanged(asked.user()).await;
            return Reloaded::Unchanged { version };
        }
        if let Err(error) = server.reload(policy, &who, lines).await {
            return Reloaded::Refused(error);
        }
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(version, who, took_ms = took, "reloaded");
        drop_aside(std::mem::replace(&mut self.in_force, snapshot));
        self.keep(version.clone()).await;
        Reloaded::InForce { version, who }
    }

    /// Writes what is in force into the spool.
    async fn keep(&self, version: String) {
        let (stamps, snapshot) = (self.stamps.clone(), Arc::clone(&self.in_force));
        let spool = self.spool.clone();
        let written =
            tokio::task::spawn_blocking(move || write(&spool, &version, &stamps, &snapshot)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            let file = IN_FORCE;
            tracing::warn!(%error, file, "not written; a change made while stopped will not be told");
        }
    }
}

/// All that takes time. Blocking.
fn prepare(loaded: Loaded, in_force: &Snapshot) -> Result<Prepared, Reloaded> {
    let Some(policy) = loaded.policy.clone() else {
        return Err(Reloaded::Wrong { loaded: Box::new(loaded), tests: Vec::new() });
    };
    let tests = run_expectations(&policy, &loaded.raw);
    if tests.iter().any(|test| !test.passed) {
        return Err(Reloaded::Wrong { loaded: Box::new(loaded), tests });
    }
    let snapshot = loaded.snapshot();
    let lines = in_force.difference(&snapshot);
    Ok(Prepared { policy, snapshot: Arc::new(snapshot), lines })
}

/// What the audit log says of a configuration that did not take effect; `None`: the server has said it.
fn refusal(wrong: &Reloaded, who: &str) -> Option<Refusal> {
    let (version, because, lines) = match wrong {
        Reloaded::Unusable(LoadError::NotToml(not_toml)) => {
            (String::new(), RefusedBecause::NotToml, errors(&not_toml.report))
        }
        Reloaded::Unusable(error) => {
            (String::new(), RefusedBecause::Unreadable, vec![error.to_string()])
        }
        Reloaded::Wrong { loaded, tests } => {
            let version = loaded.policy.as_ref().map(|policy| policy.version().to_owned());
            let failed = tests.iter().filter(|test| !test.passed);
            let failed = failed.map(|test| {
                let place = loaded.report.locate(test.place);
                let Tested { description, expected, came, .. } = test;
                format!("{place}: [[expect]] \"{description}\": expected {expected}, came {came}")
            });
            match version {
                Some(version) => (version, RefusedBecause::Expect, bounded(failed.collect())),
                None => (String::new(), RefusedBecause::Errors, errors(&loaded.report)),
            }
        }
        _ => return None,
    };
    Some(Refusal { version, who: who.to_owned(), because, lines })
}

fn errors(report: &waypost_config::diagnostics::Report) -> Vec<String> {
    use waypost_config::diagnostics::Severity;
    let errors = report.diagnostics().into_iter().filter(|found| found.severity == Severity::Error);
    let line = |found: &waypost_config::diagnostics::Diagnostic| {
        let place = report.locate(found.place);
        let rule = format!(" ({})", found.rule);
        let rule = if found.message.contains(&rule) { "" } else { &rule };
        format!("{place}: {}{rule}; {}", found.message, found.cure)
    };
    bounded(errors.map(line).collect())
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_ERRORS);
    lines.truncate(MOST_ERRORS);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn read(path: &Path) -> Option<InForce> {
    let text = std::fs::read(path).ok()?;
    match serde_json::from_slice(&text) {
        Ok(in_force) => Some(in_force),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was in force cannot be read");
            None
        }
    }
}

/// In one step: a crash leaves the old one or the new one.
fn write(spool: &Path, version: &str, stamps: &Stamps, snapshot: &Snapshot) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    #[derive(Serialize)]
    struct Kept<'a> {
        version: &'a str,
        stamps: &'a Stamps,
        snapshot: &'a Snapshot,
    }
    let (path, new) = (spool.join(IN_FORCE), spool.join(format!("{IN_FORCE}.new")));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut out = std::io::BufWriter::new(file);
    serde_json::to_writer(&mut out, &Kept { version, stamps, snapshot })?;
    out.flush()?;
    std::fs::rename(new, path)
}
