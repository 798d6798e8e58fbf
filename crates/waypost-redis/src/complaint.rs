//! What is wrong with Redis, in one line that says what to do, and that holds nothing secret.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use crate::tls;

/// Codes of errors with a cure of their own.
const KNOWN: [(&str, &str); 19] = [
    (
        "EMPTIED",
        "it was emptied (EMPTIED), and is told now what this node accepted; keep others from its keys",
    ),
    (
        "NOAUTH",
        "it asks for a password (NOAUTH); write it into its address, as in `redis://:PASSWORD@HOST`",
    ),
    (
        "WRONGPASS",
        "it refuses the user or the password of its address (WRONGPASS); correct them there, or in its ACL",
    ),
    (
        "NOPERM",
        "its ACL does not let the user of its address do what is needed (NOPERM); give it the rights that REDIS.md lists",
    ),
    (
        "DENIED",
        "it takes connections from its own machine alone (DENIED); set a password there, or `protected-mode no`",
    ),
    ("LOADING", "it is still loading its data (LOADING); it answers when it is done"),
    (
        "READONLY",
        "it is a replica, which takes no writes (READONLY); name the server that takes them",
    ),
    (
        "MASTERDOWN",
        "it is a replica that has lost its primary (MASTERDOWN); name the server that takes writes",
    ),
    ("OOM", "its memory is full (OOM); raise its `maxmemory`"),
    (
        "MISCONF",
        "it takes no writes because it cannot save its data (MISCONF); see its log and its disk",
    ),
    (
        "NOREPLICAS",
        "it takes no writes because it lacks replicas (NOREPLICAS); see its `min-replicas-to-write`",
    ),
    (
        "NOSCRIPT",
        "it has lost the script (NOSCRIPT), as after SCRIPT FLUSH or a restart; the next connection loads it",
    ),
    (
        "BUSY",
        "a script of somebody else holds it up (BUSY); see its `SLOWLOG`, or end it by `SCRIPT KILL`",
    ),
    ("WRONGTYPE", "a key is of another type (WRONGTYPE); use a prefix that nothing else uses"),
    ("CLUSTERDOWN", CLUSTER),
    ("CROSSSLOT", CLUSTER),
    ("MOVED", CLUSTER),
    ("ASK", CLUSTER),
    ("TRYAGAIN", CLUSTER),
];

const CLUSTER: &str =
    "it is part of a Redis Cluster, which is not supported; name a server that stands alone";

/// The error with other words, of the same kind as far as that matters here: in time or not.
pub(crate) fn plain(error: &RedisError, secrets: &[String]) -> RedisError {
    let kind = match error.is_timeout() {
        true => io::ErrorKind::TimedOut,
        false => io::ErrorKind::Other,
    };
    io::Error::new(kind, in_words(error, secrets)).into()
}

/// What an error means. Nothing of what was sent is repeated: some servers quote it in what they answer.
pub(crate) fn in_words(error: &RedisError, secrets: &[String]) -> String {
    if let Some(error) = io_error(error) {
        return io_in_words(error);
    }
    if error.is_timeout() {
        return "it did not answer in time; is it overloaded, or `redis_timeout` too short?".into();
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => return known("WRONGPASS").unwrap_or_default().into(),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            return "its answer is none of Redis; does the address name a Redis or Valkey server, and does nothing else use the prefix?".into();
        }
        _ => {}
    }
    let servers = error.clone().into_server_errors();
    let (code, detail) = match servers.as_deref() {
        Some([(_, first), ..]) => (Some(first.code()), first.details()),
        _ => (error.code(), error.detail()),
    };
    let (code, detail) = (code.unwrap_or("ERR"), detail.unwrap_or_default());
    // In scripts, older ones tell of a code within the text of another error.
    let within = || KNOWN.iter().find(|(code, _)| detail.contains(&format!("-{code} ")));
    if let Some(text) = known(code).or_else(|| within().map(|(_, text)| *text)) {
        return text.into();
    }
    if error.to_string().starts_with("Redis server refused to switch database") {
        return "it has no database of the number in its address; correct the number, or raise its `databases`".into();
    }
    if detail.contains("max number of clients") {
        return "it has as many clients as it takes; raise its `maxclients`".into();
    }
    format!(
        "it answers with the error {}: {}; see its log",
        shown(code, &[]),
        shown(detail, secrets)
    )
}

fn known(code: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(known, _)| *known == code).map(|(_, text)| *text)
}

fn io_error(error: &RedisError) -> Option<&io::Error> {
    let source = error.source()?;
    let shared = || source.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref();
    source.downcast_ref().or_else(shared)
}

fn io_in_words(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls::in_words(error);
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            "it did not answer in time; is it overloaded, or `redis_timeout` too short?".into()
        }
        io::ErrorKind::NotFound => {
            "there is no such socket; is it running, and is its address right?".into()
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "it may not be connected to: {error}; let the user of this server use its socket"
            )
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted => {
            "it closed the connection; was it stopped, or does this port want TLS (`rediss://`)?"
                .into()
        }
        // In our own words already.
        io::ErrorKind::Other => error.to_string(),
        _ => format!("it cannot be reached: {error}; is it running, and is its address right?"),
    }
}

/// The beginning of what a server says, up to where it quotes something, on one line.
fn shown(said: &str, secrets: &[String]) -> String {
    let quotes = |c: char| matches!(c, '\'' | '`' | '"');
    let said = said.split(quotes).next().unwrap_or_default();
    let said = said.split("beginning with").next().unwrap_or_default();
    let mut said = said.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        said = said.replace(&**secret, "…");
    }
    let plain = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    let cut: String = plain.take(120).collect();
    cut.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    #[test]
    fn each_error_says_what_to_do_and_nothing_secret_o5() {
        let secrets = ["marie".to_owned(), "hush".to_owned()];
        let said =
            |code: &str, detail: &str| make_extension_error(code.into(), Some(detail.into()));
        let io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        for (error, want) in [
            (said("NOAUTH", "Authentication required."), "asks for a password"),
            (
                said("WRONGPASS", "invalid username-password pair"),
                "refuses the user or the password",
            ),
            (
                RedisError::from((ErrorKind::AuthenticationFailed, "x")),
                "refuses the user or the password",
            ),
            (said("NOPERM", "User marie has no permissions to run the 'eval' command"), "ACL"),
            (said("OOM", "command not allowed when used memory > 'maxmemory'."), "memory is full"),
            (
                said("ERR", "Error running script: @user_script:1: -OOM command not allowed"),
                "memory is full",
            ),
            (
                said("ERR", "Error running script: @user_script:1: -READONLY You can't write"),
                "a replica",
            ),
            (said("MISCONF", "Redis is configured to save RDB snapshots"), "cannot save"),
            (said("MOVED", "1 192.0.2.1:6379"), "Redis Cluster"),
            (said("ERR", "max number of clients reached"), "maxclients"),
            (
                said("ERR", "unknown command 'AUTH', with args beginning with: 'marie' 'hush'"),
                "error ERR: unknown command;",
            ),
            (
                said("ERR", "unknown command AUTH, with args beginning with: marie hush"),
                "error ERR: unknown command AUTH, with args;",
            ),
            (
                said("ERR", "who is marie, with hush\r\n2026 forged line"),
                "who is …, with …  2026 forged line",
            ),
            (said("WHAT", ""), "error WHAT"),
            (RedisError::from((ErrorKind::Parse, "x")), "none of Redis"),
            (io(io::ErrorKind::TimedOut), "in time"),
            (io(io::ErrorKind::ConnectionRefused), "cannot be reached: connection refused"),
            (io(io::ErrorKind::NotFound), "no such socket"),
            (io(io::ErrorKind::UnexpectedEof), "closed the connection"),
            (io(io::ErrorKind::PermissionDenied), "may not be connected to"),
        ] {
            let told = in_words(&error, &secrets);
            assert!(told.contains(want), "{told}");
            assert!(told.contains("; "), "no cure: {told}");
            assert!(!told.contains("marie") && !told.contains("hush"), "{told}");
            assert!(!told.contains('\n') && told.len() < 400, "{told}");
        }
    }

    #[test]
    fn what_is_in_our_words_stays_so_o5() {
        let once = plain(&make_extension_error("OOM".into(), None), &[]);
        assert_eq!(plain(&once, &[]).to_string(), once.to_string());
        let late = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        assert!(plain(&late, &[]).is_timeout());
    }
}
