//! The configuration that a command works on.

use std::path::Path;
use std::sync::Arc;

use waypost_config::policy::Policy;
use waypost_server::{LoadError, load};

use crate::answer::Failure;

/// The compiled policy of a configuration; its warnings are `check`'s matter.
///
/// # Errors
/// The configuration cannot be read, or has errors: they are shown in full.
pub(crate) fn policy(path: &str) -> Result<Arc<Policy>, Failure> {
    let loaded = load(Path::new(path)).map_err(|error| Failure::Input(unusable(&error)))?;
    loaded.policy.ok_or_else(|| {
        let report = loaded.report.render(false);
        Failure::Input(format!("{path} has errors; correct them first:\n\n{}", report.trim_end()))
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
