//! Whose the Unix sockets of front ends are, and who may connect.

use nix::unistd::{Group, User};
use waypost_server::SocketRights;

use crate::answer::Failure;

/// Rights of Unix sockets that are made at the start; those that are handed over have theirs.
#[derive(clap::Args)]
pub(crate) struct Rights {
    /// The mode of Unix sockets, in octal; without it, whoever may enter the folder may connect.
    #[arg(long, value_name = "MODE", default_value = "0666", value_parser = mode)]
    socket_mode: u32,
    /// The user, by name or number, to whom Unix sockets belong. It takes root to give them to another one.
    #[arg(long, value_name = "USER")]
    socket_user: Option<Box<str>>,
    /// The group, by name or number, to which Unix sockets belong, such as postfix.
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<Box<str>>,
}

fn mode(text: &str) -> Result<u32, String> {
    let found = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    found.ok_or_else(|| "write the rights in octal, such as 0660".to_owned())
}

impl Rights {
    /// With names looked up.
    pub(crate) fn of_sockets(&self) -> Result<SocketRights, Failure> {
        let user = self.socket_user.as_deref();
        let user = user.map(|name| {
            let found = User::from_name(name).map(|found| found.map(|user| user.uid.as_raw()));
            number("--socket-user", name, found)
        });
        let group = self.socket_group.as_deref();
        let group = group.map(|name| {
            let found = Group::from_name(name).map(|found| found.map(|group| group.gid.as_raw()));
            number("--socket-group", name, found)
        });
        Ok(SocketRights {
            mode: self.socket_mode,
            user: user.transpose()?,
            group: group.transpose()?,
        })
    }
}

fn number(option: &str, name: &str, found: nix::Result<Option<u32>>) -> Result<u32, Failure> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let because = match found {
        Ok(Some(number)) => return Ok(number),
        Ok(None) => "this machine knows none of that name".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Failure::Input(format!("{option} {name}: {because}; correct it, or create it")))
}
