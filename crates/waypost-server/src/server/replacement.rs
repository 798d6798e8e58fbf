//! Another policy put in force, or refused, and the audit log told (A12).

use std::sync::Arc;

use waypost_config::policy::Policy;
use waypost_config::settings::ServerSettings;
use waypost_net::server::Configuration;
use waypost_queue::{ConfigChange, ConfigOutcome};

use super::prepared::{configuration, configuration_with};
use super::{Server, ServerError, can_authenticate, connection_limits};

/// A configuration that did not take effect, for the audit log and the metrics (A12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its version; empty if it is too wrong to have one.
    pub version: String,
    /// Who wanted it.
    pub who: String,
    /// What kind of thing is wrong.
    pub because: RefusedBecause,
    /// What is wrong, a line each.
    pub lines: Vec<String>,
}

/// Why a configuration did not take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedBecause {
    /// A file is missing or cannot be read.
    Unreadable,
    /// A file is not TOML.
    NotToml,
    /// It breaks a rule.
    Errors,
    /// One of its `[[expect]]` tests fails (O7).
    Expect,
    /// It asks for what only a restart, or another build, can give.
    NeedsRestart,
    /// The certificate or key of a listener is of no use.
    TlsFiles,
    /// The audit log cannot be written.
    Audit,
}

impl RefusedBecause {
    /// Each of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Unreadable,
        Self::NotToml,
        Self::Errors,
        Self::Expect,
        Self::NeedsRestart,
        Self::TlsFiles,
        Self::Audit,
    ];

    fn of(error: &ServerError) -> Self {
        match error {
            ServerError::Tls { .. } => Self::TlsFiles,
            ServerError::Audit(_) => Self::Audit,
            _ => Self::NeedsRestart,
        }
    }

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NotToml => "not-toml",
            Self::Errors => "errors",
            Self::Expect => "expect",
            Self::NeedsRestart => "needs-restart",
            Self::TlsFiles => "tls-files",
            Self::Audit => "audit",
        }
    }

    /// In words, for the audit log.
    fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "a file cannot be read",
            Self::NotToml => "it is not TOML",
            Self::Errors => "it has errors",
            Self::Expect => "a test of its own fails",
            Self::NeedsRestart => "the running server cannot take it",
            Self::TlsFiles => "a certificate or key is of no use",
            Self::Audit => "the audit log cannot be written",
        }
    }
}

impl Server {
    /// Puts another policy in force, whole or not at all (A12). Transactions that are open end under
    /// the old one; no connection is lost. Who changed it, and in which lines what changed, goes into
    /// the audit log; and so does a refusal.
    ///
    /// # Errors
    /// [`ServerError`]; the old policy then stays in force.
    pub async fn reload(
        &self,
        policy: Arc<Policy>,
        who: &str,
        changes: Vec<String>,
    ) -> Result<(), ServerError> {
        let version = policy.version().to_owned();
        match self.replace(policy, who, changes).await {
            Ok(()) => {
                self.core.metrics.reloaded(None);
                Ok(())
            }
            Err(error) => {
                let because = RefusedBecause::of(&error);
                let (who, lines) = (who.to_owned(), vec![error.to_string()]);
                self.refused(Refusal { version, who, because, lines }).await;
                Err(error)
            }
        }
    }

    /// Tells of a configuration that was refused before there was a policy to put in force: in the
    /// metrics and the audit log.
    pub async fn refused(&self, refusal: Refusal) {
        let Refusal { version, who, because, lines } = refusal;
        self.core.metrics.reloaded(Some(because));
        let stays = self.version();
        let named = if version.is_empty() { String::new() } else { format!(" version {version}") };
        let what = format!("refused{named}: {}; version {stays} stays", because.words());
        let change = ConfigChange {
            outcome: ConfigOutcome::Refused,
            ..self.change(version, &who, what, Some(stays), lines)
        };
        if let Err(error) = self.core.spool.record_change(change).await {
            tracing::error!(%error, "the refusal is not in the audit log");
        }
    }

    /// Tells that the files say what is in force; if a user asked, the audit log names him.
    pub(crate) async fn unchanged(&self, who: Option<&str>) {
        self.core.metrics.unchanged();
        let Some(who) = who else { return };
        let version = self.version();
        let what = format!("nothing changed, version {version} stays");
        let change = self.change(version.clone(), who, what, Some(version), Vec::new());
        if let Err(error) = self.core.spool.record_change(change).await {
            tracing::error!(%error, "the reload is not in the audit log");
        }
    }

    /// Writes into the audit log that the configuration was changed before this start.
    pub(crate) async fn changed_before_start(&self, who: &str, lines: Vec<String>) {
        let version = self.version();
        let from = self.before.clone().map(String::from);
        let what = match &from {
            None => format!("first start, version {version}"),
            Some(from) if *from == version => format!("version {version}, started again"),
            Some(from) => format!("from version {from} to {version}, before this start"),
        };
        let change = self.change(version, who, what, from, lines);
        if let Err(error) = self.core.spool.record_change(change).await {
            tracing::error!(%error, "the change before this start is not in the audit log");
        }
    }

    fn change(
        &self,
        version: String,
        who: &str,
        what: String,
        from: Option<String>,
        lines: Vec<String>,
    ) -> ConfigChange {
        ConfigChange {
            at: self.core.clock.now(),
            version: version.into(),
            who: who.into(),
            what: what.into(),
            from: from.map(String::into_boxed_str),
            outcome: ConfigOutcome::InForce,
            lines: lines.into_iter().map(String::into_boxed_str).collect(),
        }
    }

    /// What a listener offers with the certificate that it has had so far: where `user` is set, the key
    /// may be readable for root alone, who this process was when it started. `None`: the key is
    /// another one, or wrong in another way.
    fn with_old_key(
        &self,
        policy: &Policy,
        place: usize,
        error: &ServerError,
    ) -> Option<Configuration> {
        let ServerError::Tls { name, source } = error else { return None };
        let old = self.core.policy();
        let user = old.server.user.as_ref()?;
        let (was, is) = (old.server.listeners.get(place)?, policy.server.listeners.get(place)?);
        if was.tls != is.tls {
            return None;
        }
        let opened = std::fs::File::open(&source.file);
        if opened.err()?.kind() != std::io::ErrorKind::PermissionDenied {
            return None;
        }
        tracing::error!(
            listener = name, %user, file = %source.file.display(),
            "the file cannot be read any more, so the certificate from before stays in force; let that \
             user read it, or restart the server"
        );
        let tls = self.listeners.get(place)?.configuration.borrow().tls().clone();
        Some(configuration_with(policy, is, tls))
    }

    async fn replace(
        &self,
        policy: Arc<Policy>,
        who: &str,
        lines: Vec<String>,
    ) -> Result<(), ServerError> {
        let old = self.core.policy();
        let (was, is) = (&old.server, &policy.server);
        if was.spool != is.spool {
            return Err(ServerError::NeedsRestart("the spool"));
        }
        if (&was.user, &was.group) != (&is.user, &is.group) {
            return Err(ServerError::NeedsRestart("the user or group"));
        }
        if was.admin != is.admin {
            return Err(ServerError::NeedsRestart("the admin address"));
        }
        if was.dns != is.dns {
            return Err(ServerError::NeedsRestart("the list of name servers"));
        }
        if was.sharing != is.sharing {
            return Err(ServerError::NeedsRestart("how quotas are shared (`redis`)"));
        }
        can_authenticate(&policy, self.core.authenticator.is_some())?;
        let sockets = |settings: &ServerSettings| -> Vec<_> {
            settings.listeners.iter().map(|one| (one.name.clone(), one.bind)).collect()
        };
        // A front end for Postfix has no listeners of its own.
        let served = if self.front.is_some() { &[][..] } else { &is.listeners[..] };
        if self.front.is_none() && sockets(was) != sockets(is) {
            return Err(ServerError::NeedsRestart("a listener's name or address"));
        }
        let mut configurations = Vec::with_capacity(is.listeners.len());
        let mut lines = lines;
        for (place, listener) in served.iter().enumerate() {
            let found = match configuration(&policy, listener, &self.base) {
                Err(error) => {
                    let kept = self.with_old_key(&policy, place, &error).ok_or(error)?;
                    lines.push(format!(
                        "listener \"{}\": the certificate from before stays",
                        listener.name
                    ));
                    kept
                }
                Ok(found) => found,
            };
            configurations.push(Arc::new(found));
        }
        let (from, to) = (old.version().to_owned(), policy.version().to_owned());
        let what = match lines.is_empty() {
            true => format!("from version {from} to {to}: only comments, blanks or order of keys"),
            false => format!("from version {from} to {to}"),
        };
        let change = self.change(to, who, what, Some(from), lines);
        self.core.spool.record_change(change).await?;
        self.limits.lock().set_limits(connection_limits(&is.limits));
        self.core.metrics.policy(&policy, self.core.clock.now());
        self.core.recorder.configure(is, &self.base);
        self.core.filter.configure(is.filter.as_ref());
        drop(old);
        let old = self.core.replace_policy(policy);
        self.deliverer.policy_replaced(&old);
        // Not by the session that happens to be the last one under it.
        old.drop_aside();
        self.tls_watch.0.policy_replaced();
        for (running, configuration) in self.listeners.iter().zip(configurations) {
            running.configuration.send_replace(configuration);
        }
        Ok(())
    }
}
