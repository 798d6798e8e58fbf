//! The configuration that a command works on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use waypost_config::policy::Policy;
use waypost_server::{LoadError, Loaded, load};

use crate::answer::Failure;

/// The compiled policy of a configuration; its warnings are `check`'s matter.
///
/// # Errors
/// The configuration cannot be read, or has errors: they are shown in full.
pub(crate) fn policy(path: &str) -> Result<Arc<Policy>, Failure> {
    usable(path, loaded(path)?)
}

/// A configuration as it was found, with errors or without.
///
/// # Errors
/// It cannot be read.
pub(crate) fn loaded(path: &str) -> Result<Loaded, Failure> {
    load(Path::new(path)).map_err(|error| Failure::Input(unusable(&error)))
}

/// The policy of a configuration that was found.
///
/// # Errors
/// It has errors: they are shown in full.
pub(crate) fn usable(path: &str, loaded: Loaded) -> Result<Arc<Policy>, Failure> {
    loaded.policy.ok_or_else(|| {
        let report = loaded.report.render(false);
        Failure::Input(format!("{path} has errors; correct them first:\n\n{}", report.trim_end()))
    })
}

/// Where the spool of a configuration is, even if it has errors elsewhere.
///
/// # Errors
/// The configuration does not say so.
pub(crate) fn spool(path: &str, loaded: &Loaded) -> Result<PathBuf, Failure> {
    let server = loaded.raw.server.as_ref();
    let spool = server.map(|server| loaded.base.join(server.spool.as_str()));
    spool.ok_or_else(|| {
        let report = loaded.report.render(false);
        Failure::Input(format!("{path} names no spool:\n\n{}", report.trim_end()))
    })
}

/// Why a configuration cannot be read, with the places where it is no TOML.
pub(crate) fn unusable(error: &LoadError) -> String {
    match error {
        LoadError::NotToml(not_toml) => {
            format!("{error}:\n\n{}", not_toml.report.render(false).trim_end())
        }
        _ => error.to_string(),
    }
}
