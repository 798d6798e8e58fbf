//! Sockets that were bound by whoever started the program (socket activation).
//!
//! **In:** the variables `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` and the descriptors that they
//! speak of. **Out:** listening sockets, each for one listener of a policy, or for a front end: the one that
//! bears its name, else the one whose address it has. A listener has a TCP port, a front end may have a Unix
//! socket. **Errors:** [`InheritedError`]: anything else that was handed over, and a socket that nobody
//! wants, since clients would wait there for ever.
//! **Source:** the manual page `sd_listen_fds(3)`.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use socket2::SockRef;

/// Why a socket that was handed over is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritedError {
    /// It is no TCP socket.
    #[error(
        "the socket that was handed over as {what} is of no use: {because}; write \
         `ListenStream=ADDRESS:PORT`"
    )]
    Kind {
        /// Its name and number.
        what: String,
        /// What it is instead.
        because: String,
    },
    /// It is a connection of one client.
    #[error("what was handed over as {0} is a connection, no listening socket; write `Accept=no`")]
    Connection(String),
    /// No listener has its name or address.
    #[error(
        "the socket that was handed over as \"{name}\" on {address} is of no listener; give it the \
         name of one (`FileDescriptorName=`), or write its address as a listener's `bind`"
    )]
    Unwanted {
        /// The name it came with; may be empty.
        name: String,
        /// Where it listens.
        address: SocketAddr,
    },
    /// No front end has its name or address.
    #[error(
        "the socket that was handed over as \"{name}\" on {address} is of no front end; give it the name \
         of one (`FileDescriptorName=` {names}), or write its address on the command line too"
    )]
    NoFront {
        /// The name it came with; may be empty.
        name: String,
        /// Where it listens.
        address: String,
        /// The names that there are.
        names: &'static str,
    },
    /// A listener has two.
    #[error(
        "two sockets were handed over for listener \"{0}\"; a listener has one: add another \
         `[[listener]]`, or let one socket listen on all addresses"
    )]
    Twice(String),
}

/// Listening sockets that were handed over at the start, with their names.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Socket>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) name: String,
    pub(crate) handed: Handed,
}

/// What listens.
#[derive(Debug)]
pub(crate) enum Handed {
    Tcp(TcpListener, SocketAddr),
    /// With the path of its file, if it has one.
    Unix(UnixListener, Option<PathBuf>),
}

impl fmt::Display for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, at) => at.fmt(f),
            Self::Unix(_, Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(_, None) => f.write_str("a Unix socket without a path"),
        }
    }
}

/// A listener that may have inherited its socket.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) bind: SocketAddr,
}

impl Inherited {
    /// No sockets.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those that the environment speaks of; none if it speaks of none, or to another process. Takes
    /// the descriptors and removes the variables: call it once, and while there is one thread.
    ///
    /// # Errors
    /// [`InheritedError`] for what is no listening socket of TCP or of streams on this machine.
    pub fn from_environment() -> Result<Self, InheritedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut found = ListenFd::from_env();
        let mut sockets = Vec::new();
        for place in 0..found.len() {
            let name = names.next().unwrap_or_default();
            let what = || format!("\"{name}\" (number {place})");
            let wrong = |because: std::io::Error| InheritedError::Kind {
                what: what(),
                because: because.to_string(),
            };
            let (handed, listens) = match found.take_tcp_listener(place) {
                Ok(None) => continue,
                Ok(Some(listener)) => {
                    let listens = SockRef::from(&listener).is_listener().map_err(wrong)?;
                    let address = listener.local_addr().map_err(wrong)?;
                    (Handed::Tcp(listener, address), listens)
                }
                Err(no_tcp) => match found.take_unix_listener(place) {
                    Ok(Some(listener)) => {
                        let listens = SockRef::from(&listener).is_listener().map_err(wrong)?;
                        let address = listener.local_addr().map_err(wrong)?;
                        let path = address.as_pathname().map(PathBuf::from);
                        (Handed::Unix(listener, path), listens)
                    }
                    Ok(None) | Err(_) => return Err(wrong(no_tcp)),
                },
            };
            if !listens {
                return Err(InheritedError::Connection(what()));
            }
            sockets.push(Socket { name, handed });
        }
        Ok(Self(sockets))
    }

    /// Whether one bears this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|socket| socket.name.eq_ignore_ascii_case(name))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub(crate) fn into_sockets(self) -> Vec<Socket> {
        self.0
    }

    /// Which place has which socket.
    pub(crate) fn by_place(
        self,
        places: &[Place<'_>],
    ) -> Result<Vec<Option<TcpListener>>, InheritedError> {
        let mut taken: Vec<Option<TcpListener>> = places.iter().map(|_| None).collect();
        for Socket { name, handed } in self.0 {
            let (listener, address) = match handed {
                Handed::Tcp(listener, address) => (listener, address),
                unix @ Handed::Unix(..) => {
                    let (what, because) = (format!("\"{name}\""), format!("it is {unix}"));
                    return Err(InheritedError::Kind { what, because });
                }
            };
            let named = places.iter().position(|place| place.name.eq_ignore_ascii_case(&name));
            let found = named.or_else(|| places.iter().position(|place| place.bind == address));
            let place = found.and_then(|found| Some((places.get(found)?, taken.get_mut(found)?)));
            match place {
                None => return Err(InheritedError::Unwanted { name, address }),
                Some((place, Some(_))) => return Err(InheritedError::Twice(place.name.to_owned())),
                Some((_, free)) => *free = Some(listener),
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(name: &str) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Socket { name: name.to_owned(), handed: Handed::Tcp(listener, address) }
    }

    fn address(socket: &Socket) -> SocketAddr {
        match &socket.handed {
            Handed::Tcp(_, address) => *address,
            unix @ Handed::Unix(..) => panic!("{unix}"),
        }
    }

    #[test]
    fn a_socket_goes_to_the_listener_of_its_name_else_to_that_of_its_address() {
        let (by_name, by_address) = (socket("MX"), socket("waypost.socket"));
        let (first, second) = (address(&by_name), address(&by_address));
        let elsewhere = "192.0.2.1:25".parse().unwrap();
        let places = [
            Place { name: "relay", bind: second },
            Place { name: "mx", bind: elsewhere },
            Place { name: "admin", bind: elsewhere },
        ];
        let taken = Inherited(vec![by_name, by_address]).by_place(&places).unwrap();
        let taken = taken.iter().map(|one| one.as_ref().map(|one| one.local_addr().unwrap()));
        assert_eq!(taken.collect::<Vec<_>>(), [Some(second), Some(first), None]);
    }

    #[test]
    fn a_socket_of_no_listener_and_a_second_one_are_refused() {
        let bind = "192.0.2.1:25".parse().unwrap();
        let places = [Place { name: "mx", bind }];
        let unwanted = Inherited(vec![socket("other")]).by_place(&places).unwrap_err();
        assert!(unwanted.to_string().contains("\"other\" on 127.0.0.1:"), "{unwanted}");
        let twice = Inherited(vec![socket("mx"), socket("mx")]).by_place(&places).unwrap_err();
        assert!(matches!(&twice, InheritedError::Twice(name) if name == "mx"), "{twice}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mx");
        let unix = Handed::Unix(UnixListener::bind(&path).unwrap(), Some(path));
        let unix = Socket { name: "mx".to_owned(), handed: unix };
        let kind = Inherited(vec![unix]).by_place(&places).unwrap_err();
        assert!(kind.to_string().contains("it is unix:/"), "{kind}");
        assert!(Inherited::none().by_place(&places).unwrap().iter().all(Option::is_none));
    }
}
