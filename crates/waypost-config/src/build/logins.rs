//! The passwords of routes with `auth`, from their files.

use std::collections::BTreeMap;

use waypost_types::RouteName;

use super::{Files, unreadable};
use crate::diagnostics::{Diagnostic, Report, Spanned};
use crate::policy::Login;
use crate::raw::{FilePath, RawOrganization};

/// The longest password: what a client's command line can carry in base64 (RFC 4954 section 4).
const LONGEST: usize = 4096;

/// Reads the password of each route that has `auth`; what is wrong with a file is in the report.
pub(super) fn build(
    raw: &RawOrganization,
    files: &dyn Files,
    report: &mut Report,
) -> BTreeMap<RouteName, Login> {
    let mut logins = BTreeMap::new();
    for route in &raw.route {
        let Some(auth) = &route.auth else { continue };
        let Some(file) = &auth.password_file else { continue };
        let password = password(file, files, report);
        if let (Some(name), Some(user), Some(password)) = (&route.name, &auth.user, password) {
            let login = Login { user: user.as_str().into(), password };
            logins.insert(name.value.clone(), login);
        }
    }
    logins
}

fn password(file: &Spanned<FilePath>, files: &dyn Files, report: &mut Report) -> Option<Box<str>> {
    let bytes = match files.read(file.as_str()) {
        Ok(bytes) => bytes,
        Err(because) => {
            report.push(Diagnostic { rule: "A5", ..unreadable(file, &because) });
            return None;
        }
    };
    if files.is_open_to_all(file.as_str()) {
        report.push(Diagnostic::warning(
            "password-open-to-all",
            file.place,
            "A5",
            format!("every user of this machine may read the password in `{}`", file.as_str()),
            "take that right away: `chmod o-r` the file, and let the server's user own it",
        ));
    }
    read(bytes)
        .map_err(|what| {
            report.push(Diagnostic::error(
                "wrong-password-file",
                file.place,
                "A5",
                format!("the password file `{}` {what}", file.as_str()),
                "write the password into it and nothing else; one line end behind it is left out",
            ));
        })
        .ok()
}

/// The password in a file, or what is wrong with it. The text never holds a part of the file.
fn read(bytes: Vec<u8>) -> Result<Box<str>, &'static str> {
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text")?;
    let line =
        text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
    match line {
        "" => Err("is empty"),
        line if line.len() > LONGEST => Err("holds more than 4,096 octets"),
        line if line.contains(['\r', '\n']) => Err("holds more than one line"),
        // RFC 4616 section 2: NUL parts the fields of PLAIN.
        line if line.contains('\0') => Err("holds a NUL"),
        line => Ok(line.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_file_without_its_line_end() {
        let long = "x".repeat(LONGEST + 1);
        for (bytes, want) in [
            (&b"secret"[..], Ok("secret")),
            (b"secret\n", Ok("secret")),
            (b"secret\r\n", Ok("secret")),
            (b" a b \n", Ok(" a b ")),
            ("p\u{e9}\n".as_bytes(), Ok("p\u{e9}")),
            (b"", Err("is empty")),
            (b"\n", Err("is empty")),
            (b"a\n\n", Err("holds more than one line")),
            (b"a\nb", Err("holds more than one line")),
            (b"a\rb", Err("holds more than one line")),
            (b"a\0b", Err("holds a NUL")),
            (b"\xff", Err("is not UTF-8 text")),
            (long.as_bytes(), Err("holds more than 4,096 octets")),
        ] {
            let got = read(bytes.to_vec());
            assert_eq!(got.as_deref().map_err(|what| *what), want, "{bytes:?}");
        }
    }

    #[test]
    fn a_login_is_not_printed() {
        let login = Login { user: "relay".into(), password: "secret".into() };
        assert_eq!(format!("{login:?}"), "Login { user: \"relay\", .. }");
    }
}
