//! Who the server is: root becomes the user that the configuration names, for good.
//!
//! All of it happens while the process has one thread, so that no thread can be left behind with the
//! old rights.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{
    Gid, Group, Uid, User, getresgid, getresuid, initgroups, setresgid, setresuid, setuid,
};
use waypost_config::settings::ServerSettings;

use crate::answer::Failure;

/// Becomes the user of the configuration, if this is root and one is named; the spool is made for
/// that user if it is missing. Somebody else must be that user already.
pub(crate) fn give_up(server: &ServerSettings, spool: &Path) -> Result<(), Failure> {
    let me = Uid::effective();
    match (&server.user, me.is_root()) {
        (None, false) => Ok(()),
        (None, true) => {
            tracing::warn!(
                "running as root, which no part of this needs after the start; write `user` in \
                 [server], or let a service manager start it as a user of its own"
            );
            Ok(())
        }
        (Some(name), false) => {
            let account = Account::named(name, server.group.as_deref())?;
            if account.uid == me {
                return Ok(());
            }
            Err(failed(format!(
                "`user = \"{name}\"` of [server] is another user than the one that started this \
                 (number {me}); start it as root or as that user"
            )))
        }
        (Some(name), true) => {
            let account = Account::named(name, server.group.as_deref())?;
            account.own(spool)?;
            account.become_for_good()?;
            tracing::info!(user = %name, uid = %account.uid, gid = %account.gid, "privileges given up");
            Ok(())
        }
    }
}

struct Account {
    name: CString,
    uid: Uid,
    gid: Gid,
}

impl Account {
    fn named(user: &str, group: Option<&str>) -> Result<Self, Failure> {
        let missing = |key: &str, name: &str, because: Option<Errno>| {
            let because = because.map(|error| format!(": {error}")).unwrap_or_default();
            failed(format!(
                "`{key} = \"{name}\"` of [server]: this machine has no {key} of that name{because}; \
                 correct it, or create the {key}"
            ))
        };
        let found = User::from_name(user)
            .map_err(|error| missing("user", user, Some(error)))?
            .ok_or_else(|| missing("user", user, None))?;
        let gid = match group {
            None => found.gid,
            Some(name) => {
                let group = Group::from_name(name)
                    .map_err(|error| missing("group", name, Some(error)))?
                    .ok_or_else(|| missing("group", name, None))?;
                group.gid
            }
        };
        if found.uid.is_root() || gid.as_raw() == 0 {
            return Err(failed(format!(
                "`user = \"{user}\"` of [server] has the number or the group of root; name a user and \
                 a `group` of the server's own"
            )));
        }
        let name = CString::new(found.name).map_err(|error| failed(error.to_string()))?;
        Ok(Self { name, uid: found.uid, gid })
    }

    /// Makes the spool, if it is missing, and sees that it belongs to this user.
    fn own(&self, spool: &Path) -> Result<(), Failure> {
        let cannot = |error: io::Error| {
            failed(format!(
                "the spool {} cannot be given to its user: {error}; check the path",
                spool.display()
            ))
        };
        match std::fs::metadata(spool) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).create(spool).map_err(cannot)?;
                lchown(spool, Some(self.uid.as_raw()), Some(self.gid.as_raw())).map_err(cannot)
            }
            Err(error) => Err(cannot(error)),
            Ok(found) if found.uid() == self.uid.as_raw() => Ok(()),
            Ok(found) => Err(failed(format!(
                "the spool {} belongs to user number {}, and the server is to run as number {}; \
                 `chown -R {} {}` while no server runs",
                spool.display(),
                found.uid(),
                self.uid,
                self.uid,
                spool.display()
            ))),
        }
    }

    fn become_for_good(&self) -> Result<(), Failure> {
        let cannot = |what: &'static str| {
            move |error: Errno| {
                failed(format!(
                    "privileges cannot be given up: {what}: {error}; start as root, or let the service \
                     manager choose the user"
                ))
            }
        };
        initgroups(&self.name, self.gid).map_err(cannot("the groups"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(cannot("the group"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(cannot("the user"))?;
        set_no_new_privs().map_err(cannot("no new privileges"))?;
        self.verify()
    }

    /// That nothing is left of root, and that there is no way back.
    fn verify(&self) -> Result<(), Failure> {
        let left = |what: &str| {
            failed(format!(
                "privileges were given up, and {what} is left; this system is not trusted"
            ))
        };
        let users = getresuid().map_err(|error| failed(error.to_string()))?;
        if [users.real, users.effective, users.saved] != [self.uid; 3] {
            return Err(left("another user"));
        }
        let groups = getresgid().map_err(|error| failed(error.to_string()))?;
        if [groups.real, groups.effective, groups.saved] != [self.gid; 3] {
            return Err(left("another group"));
        }
        if setuid(Uid::from_raw(0)).is_ok() {
            return Err(left("a way back to root"));
        }
        // Where there is no /proc, the user alone must do.
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let kept = status.lines().find(|line| {
            let capability =
                ["CapPrm:", "CapEff:", "CapAmb:"].iter().any(|it| line.starts_with(it));
            capability
                && line.split_whitespace().nth(1).is_some_and(|set| set.contains(|c| c != '0'))
        });
        match kept {
            Some(line) => Err(left(line)),
            None => Ok(()),
        }
    }
}

fn failed(text: String) -> Failure {
    Failure::Input(text)
}
