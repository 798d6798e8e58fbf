//! What tests of whole policies share.
#![allow(clippy::panic, reason = "a test says what it means")]

use std::collections::HashMap;

use waypost_config::diagnostics::SourceFile;
use waypost_config::policy::Policy;
use waypost_config::raw;

/// The policy of a configuration without errors; it may name `mx.pem` and `mx.key`.
pub(crate) fn policy_of(text: &str, version: &str) -> Policy {
    let (config, mut report) = raw::read(SourceFile::new("given", text), Vec::new())
        .unwrap_or_else(|error| panic!("{}\n{text}", error.report.render(false)));
    let files: HashMap<String, Vec<u8>> =
        ["mx.pem", "mx.key"].map(|name| (name.to_owned(), Vec::new())).into();
    let compiled = waypost_config::compile(&config, &files, &mut report);
    compiled.unwrap_or_else(|| panic!("{}\n{text}", report.render(false))).into_policy(version)
}
