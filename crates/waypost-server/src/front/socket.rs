//! Sockets of the front ends: bound, or handed over by a service manager.
//!
//! **In:** addresses, rights of Unix sockets, sockets that were handed over. **Out:** listening sockets, and
//! their files, which are gone when these values are. **Errors:** the system's; a path that is taken by
//! something else than a dead socket. **Not here:** accepting.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use socket2::{Domain, SockAddr, Type};
use waypost_net::server::Listener;

use super::FrontAddress;
use crate::control::at_short_path;

/// Whose a Unix socket is and who may connect. Without rights to its folder nobody can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRights {
    /// The mode; to connect, one needs the right to write.
    pub mode: u32,
    /// The number of its user; `None`: whoever runs the program.
    pub user: Option<u32>,
    /// The number of its group; `None`: that of whoever runs the program.
    pub group: Option<u32>,
}

impl Default for SocketRights {
    /// Open to whoever may enter the folder.
    fn default() -> Self {
        Self { mode: 0o666, user: None, group: None }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener, SocketAddr),
    /// With its file, if that is ours.
    Unix(UnixListener, PathBuf, Option<SocketFile>),
}

impl Socket {
    /// Binds an address.
    pub(super) fn bind(address: &FrontAddress, rights: SocketRights) -> io::Result<Self> {
        match address {
            FrontAddress::Tcp(at) => Self::tcp(Listener::bound(*at)?),
            FrontAddress::Unix(path) => {
                let (listener, file) = unix(path, rights)?;
                Ok(Self::Unix(listener, path.clone(), Some(file)))
            }
        }
    }

    /// One that listens already.
    pub(super) fn tcp(listener: TcpListener) -> io::Result<Self> {
        let at = listener.local_addr()?;
        if !at.ip().is_loopback() {
            tracing::warn!(
                address = %at,
                "whoever reaches this address learns who exists here and can use up quotas; bind to \
                 loopback or a Unix socket, or let nobody but the mail server reach it"
            );
        }
        Ok(Self::Tcp(listener, at))
    }

    pub(super) fn address(&self) -> FrontAddress {
        match self {
            Self::Tcp(_, at) => FrontAddress::Tcp(*at),
            Self::Unix(_, path, _) => FrontAddress::Unix(path.clone()),
        }
    }
}

/// The file of a socket of ours; gone when this is dropped, unless another one stands in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if found.is_ok_and(|found| found == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::info!(%path, %error, "the socket stays; the next start replaces it");
        }
    }
}

/// How long another program may keep the folder locked while it makes a socket of its own.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Binds, in place of a socket that nobody answers on any more. It is bound under another name, and
/// renamed once its rights are set: nobody finds it with others.
fn unix(path: &Path, rights: SocketRights) -> io::Result<(UnixListener, SocketFile)> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path ends in no name"));
    };
    let short = format!(".{name}.new");
    // Of two that start at once, the second finds the first one's socket answered.
    let _locked = locked(folder)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let text = "there is a file that is no socket; remove it";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) if is_answered(folder, name)? => {
            let text = "another program answers there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        Ok(_) => {}
    }
    let fresh = folder.join(&short);
    // What is left of a start that was killed.
    if fs::symlink_metadata(&fresh).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(&fresh)?;
    }
    let listener = at_short_path(folder, &short, |path| UnixListener::bind(path))?;
    let made = give(&fresh, rights).and_then(|id| fs::rename(&fresh, path).map(|()| id));
    match made {
        Ok(id) => Ok((listener, SocketFile { path: path.to_owned(), id })),
        Err(error) => {
            let _ = fs::remove_file(&fresh);
            Err(error)
        }
    }
}

/// A folder that is locked until the value is dropped.
fn locked(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if waited < PATIENCE => {
                std::thread::sleep(ASK_AGAIN);
                waited += ASK_AGAIN;
            }
            Err(TryLockError::WouldBlock) => {
                let text = "another program has the folder locked";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether somebody listens on a socket. One that is too busy to take a connection does.
fn is_answered(folder: &Path, name: &str) -> io::Result<bool> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog would have us wait.
    socket.set_nonblocking(true)?;
    let connected = at_short_path(folder, name, |path| socket.connect(&SockAddr::unix(path)?));
    match connected {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            io::ErrorKind::WouldBlock => Ok(true),
            _ => Err(error),
        },
    }
}

/// Sets the rights of a socket; its device and number. Whoever may write to the folder cannot have those
/// of another file set instead: what is opened stays what it is, whatever takes its name.
fn give(path: &Path, rights: SocketRights) -> io::Result<(u64, u64)> {
    let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = opened.metadata()?;
    if !found.file_type().is_socket() {
        return Err(io::Error::other("somebody put another file in the place of the new socket"));
    }
    let this = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let SocketRights { mode, user, group } = rights;
    if user.is_some() || group.is_some() {
        chown(&this, user, group)?;
    }
    // After the owner, whose change may take rights away.
    fs::set_permissions(&this, Permissions::from_mode(mode & 0o777))?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn bound(path: &Path, mode: u32) -> io::Result<Socket> {
        let rights = SocketRights { mode, ..SocketRights::default() };
        Socket::bind(&FrontAddress::Unix(path.to_owned()), rights)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_has_its_mode_and_is_gone_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        for wanted in [0o666, 0o660, 0o600] {
            let socket = bound(&path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            UnixStream::connect(&path).unwrap();
            drop(socket);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        }
    }

    #[test]
    fn only_a_dead_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        // Dead ones: of this name, and of the name under which one is made.
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(folder.path().join(".policy.new")).unwrap());
        let living = bound(&path, 0o666).unwrap();
        let refused = bound(&path, 0o666).unwrap_err();
        assert!(refused.to_string().contains("another program answers"), "{refused}");
        UnixStream::connect(&path).unwrap();
        drop(living);
        for make in [
            (|path| fs::write(path, "precious")) as fn(&Path) -> io::Result<()>,
            |path| fs::create_dir(path),
            |path| symlink("/nowhere", path),
        ] {
            make(&path).unwrap();
            let refused = bound(&path, 0o666).unwrap_err();
            assert!(refused.to_string().contains("no socket"), "{refused}");
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }

    #[test]
    fn one_that_is_too_busy_to_answer_is_alive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let waiting = UnixStream::connect(&path).unwrap();
        let refused = bound(&path, 0o666).unwrap_err();
        assert!(refused.to_string().contains("another program answers"), "{refused}");
        drop(waiting);
    }

    #[test]
    fn of_many_that_start_at_once_one_has_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        drop(UnixListener::bind(&path).unwrap());
        let start = || {
            let path = path.clone();
            std::thread::spawn(move || bound(&path, 0o666))
        };
        let threads: Vec<_> = (0..8).map(|_| start()).collect();
        let all: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), 1, "{all:?}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn the_socket_of_a_successor_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        let first = bound(&path, 0o666).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bound(&path, 0o666).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_longer_than_an_address_holds_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        fs::create_dir(&deep).unwrap();
        let path = deep.join("policy");
        let socket = bound(&path, 0o660).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert!(bound(&path, 0o660).is_err(), "it is answered");
        drop(socket);
        assert!(!path.exists());
    }

    /// A file that takes the new socket's name before its rights are set keeps its own.
    #[test]
    fn the_rights_of_another_file_are_never_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, name) = (folder.path().join("secret"), folder.path().join(".policy.new"));
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, &name).unwrap();
        assert!(give(&name, SocketRights::default()).is_err());
        fs::remove_file(&name).unwrap();
        fs::hard_link(&secret, &name).unwrap();
        assert!(give(&name, SocketRights::default()).is_err());
        assert_eq!(mode(&secret), 0o600);
    }
}
