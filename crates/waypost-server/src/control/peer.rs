//! Who is at the other end of a socket.

use nix::unistd::{Uid, User};
use tokio::net::UnixStream;

/// The user who runs this process, as the audit log names him. May ask the system's user database:
/// blocking.
pub(crate) fn ourselves() -> String {
    named(Uid::current())
}

/// The user at the other end, if he may give commands: root, or the user who runs the server. The mode
/// of the socket lets nobody else in; this holds where somebody has changed it.
///
/// # Errors
/// Why he may not.
pub(crate) async fn allowed(stream: &UnixStream) -> Result<String, String> {
    let credentials = stream.peer_cred();
    let credentials = credentials.map_err(|error| format!("who asks cannot be told: {error}"))?;
    let uid = Uid::from_raw(credentials.uid());
    let name = tokio::task::spawn_blocking(move || named(uid)).await;
    let name = name.unwrap_or_else(|_| format!("uid {uid}"));
    if uid.is_root() || uid == Uid::effective() {
        return Ok(name);
    }
    let owner = Uid::effective();
    Err(format!("{name} may not administer this server; ask as root or as uid {owner}, its user"))
}

pub(crate) fn named(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_a_name_or_at_least_a_number() {
        assert_eq!(named(Uid::from_raw(0)), "root (uid 0)");
        assert_eq!(named(Uid::from_raw(4_000_000_000)), "uid 4000000000");
    }
}
