//! A policy tested by the `[[expect]]` tables that it holds (`waypost-config`), as the CI of its owner would.
//!
//! ```text
//! policy_test waypost.toml
//! ```
//!
//! Prints a line a test; ends with 1 if one fails, 2 if there is no policy. Files that it names are read from
//! its own folder. Nothing is sent, and nothing is asked of the network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use waypost_config::diagnostics::SourceFile;
use waypost_config::{Files, compile, raw, run_expectations};

/// Where the files are that a configuration names.
struct Folder(PathBuf);

impl Files for Folder {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        std::fs::read(self.0.join(path)).map_err(|error| error.to_string())
    }
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: policy_test CONFIG");
        return ExitCode::from(2);
    };
    match run(&path) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(path: &str) -> Result<bool, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let folder = Folder(Path::new(path).parent().unwrap_or(Path::new(".")).to_owned());
    let (config, mut report) =
        raw::read(SourceFile::new(path, text), Vec::new()).map_err(|error| error.to_string())?;
    let policy = compile(&config, &folder, &mut report).ok_or_else(|| report.render(false))?;
    let tests = run_expectations(&policy.into_policy("test"), &config);
    for test in &tests {
        match test.passed {
            true => println!("ok      {}: {}", test.description, test.expected),
            false => println!("FAILED  {}: {}, not {}", test.description, test.came, test.expected),
        }
    }
    Ok(tests.iter().all(|test| test.passed))
}
