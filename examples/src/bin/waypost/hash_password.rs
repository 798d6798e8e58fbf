//! `waypost hash-password`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::answer::{Answer, Failure};
use crate::batch;

/// Read a password on stdin and print its argon2id string for `password = `
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Answer {"password": "$argon2id$…"}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Hashed {
    password: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    if io::stdin().is_terminal() {
        write!(io::stderr(), "Password (shown as you type it): ")?;
    }
    let mut line = Vec::new();
    let read = io::stdin().lock().read_until(b'\n', &mut line);
    read.map_err(|error| Failure::Input(format!("stdin cannot be read: {error}")))?;
    let password = line.strip_suffix(b"\n").unwrap_or(&line);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|error| Failure::Input(format!("the system gives no random salt: {error}")))?;
    let hash = waypost_relay::hash_password(password, salt)
        .map_err(|error| Failure::Input(format!("stdin: {error}")))?;
    let mut out = io::stdout().lock();
    if arguments.json {
        batch::write_line(&mut out, &Hashed { password: hash.to_string() })?;
    } else {
        writeln!(out, "{hash}")?;
    }
    Ok(Answer::Done)
}
