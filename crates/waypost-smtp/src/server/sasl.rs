//! The server's side of AUTH PLAIN (RFC 4616) and AUTH LOGIN.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use waypost_types::Reply;

/// How a client proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The older one in use, user and password one after the other.
    Login,
}

/// A password as the client gave it; never shown, overwritten when dropped.
#[derive(PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The octets, for a check against a hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites a secret; `black_box` keeps the compiler from leaving that out.
pub(super) fn wipe(secret: &mut [u8]) {
    secret.fill(0);
    std::hint::black_box(secret);
}

/// What AUTH asks the application to check.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name as given; not empty, without control characters.
    pub user: Box<str>,
    /// The password.
    pub password: Password,
    /// The mechanism.
    pub mechanism: Mechanism,
}

/// Where an exchange stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    Plain,
    LoginUser,
    LoginPassword { user: Box<str> },
}

/// What follows a response.
#[derive(Debug)]
pub(super) enum Step {
    /// Ask for the next response.
    Challenge(Exchange),
    Check(Credentials),
    Refuse(Reply),
}

impl Exchange {
    /// An exchange by the name of its mechanism.
    pub(super) fn begin(mechanism: &str) -> Option<Exchange> {
        match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Some(Exchange::Plain),
            "LOGIN" => Some(Exchange::LoginUser),
            _ => None,
        }
    }

    /// The challenge that this state waits on: nothing, `Username:` or `Password:` in base64.
    pub(super) fn challenge(&self) -> Reply {
        Reply::plain(
            334,
            match self {
                Exchange::Plain => "",
                Exchange::LoginUser => "VXNlcm5hbWU6",
                Exchange::LoginPassword { .. } => "UGFzc3dvcmQ6",
            },
        )
    }

    /// The initial response of the AUTH command, in which `=` stands for an empty one.
    pub(super) fn initial(self, response: &str) -> Step {
        self.step(if response == "=" { b"" } else { response.as_bytes() })
    }

    /// A response line.
    pub(super) fn step(self, response: &[u8]) -> Step {
        if response == b"*" {
            return Step::Refuse(Reply::new(501, (5, 7, 0), "AUTH is cancelled (RFC 4954)"));
        }
        let Ok(mut octets) = STANDARD.decode(response) else {
            return Step::Refuse(Reply::new(
                501,
                (5, 5, 2),
                "The response is no base64 (RFC 4954)",
            ));
        };
        let step = match self {
            Exchange::Plain => plain(&octets),
            Exchange::LoginUser => match name(&octets) {
                Some(user) => return Step::Challenge(Exchange::LoginPassword { user }),
                None => Step::Refuse(no_user()),
            },
            Exchange::LoginPassword { user } => Step::Check(Credentials {
                user,
                password: Password(std::mem::take(&mut octets)),
                mechanism: Mechanism::Login,
            }),
        };
        wipe(&mut octets);
        step
    }
}

/// `[authorization identity] NUL user NUL password`; to act for another user is not possible here.
fn plain(octets: &[u8]) -> Step {
    let mut parts = octets.split(|octet| *octet == 0);
    let (Some(identity), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let text = "PLAIN takes an identity, a user and a password parted by NUL (RFC 4616)";
        return Step::Refuse(Reply::new(501, (5, 5, 2), text));
    };
    if !identity.is_empty() && identity != user {
        let text = "Acting for another user is not possible; leave the identity empty (RFC 4616)";
        return Step::Refuse(Reply::new(535, (5, 7, 8), text));
    }
    match name(user) {
        Some(user) => {
            let password = Password(password.to_vec());
            Step::Check(Credentials { user, password, mechanism: Mechanism::Plain })
        }
        None => Step::Refuse(no_user()),
    }
}

fn name(octets: &[u8]) -> Option<Box<str>> {
    let text = str::from_utf8(octets).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.into())
}

fn no_user() -> Reply {
    let text = "The user's name is empty, no UTF-8, or holds control characters (RFC 4616)";
    Reply::new(501, (5, 5, 2), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_of(message: &[u8]) -> Step {
        Exchange::Plain.initial(&STANDARD.encode(message))
    }

    #[test]
    fn plain_takes_three_parts_d6() {
        for (message, want) in [
            (&b"\0marie\0secret"[..], Ok(("marie", "secret"))),
            (b"marie\0marie\0secret", Ok(("marie", "secret"))),
            (b"\0marie\0", Ok(("marie", ""))),
            (b"paul\0marie\0secret", Err(535)),
            (b"", Err(501)),
            (b"\0\0", Err(501)),
            (b"marie\0secret", Err(501)),
            (b"\0marie\0a\0b", Err(501)),
            (b"\0\xff\0a", Err(501)),
            (b"\0a\rb\0a", Err(501)),
        ] {
            match (plain_of(message), want) {
                (Step::Check(found), Ok((user, password))) => {
                    assert_eq!(&*found.user, user);
                    assert_eq!(found.password.as_bytes(), password.as_bytes());
                }
                (Step::Refuse(reply), Err(code)) => assert_eq!(reply.code(), code),
                (got, want) => panic!("{message:?}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn a_password_is_never_shown_d6() {
        let shown = format!("{:?}", plain_of(b"\0marie\0secret"));
        assert!(shown.contains("marie") && !shown.contains("secret"), "{shown}");
        let octets = format!("{:?}", b"secret");
        assert!(!shown.contains(&octets), "{shown}");
    }
}
