//! The built-in mailbox system: a Maildir for each user.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use waypost_smtp::end_of_data::unstuff;
use waypost_types::{Mailbox, QueueId, ReversePath};

/// Maildirs below one directory: `DOMAIN/LOCAL-PART/{tmp,new,cur}`, spam in `.Junk` beside them
/// (Maildir++).
///
/// A file's name holds queue id and delivery, so a delivery that is made again after a crash
/// overwrites itself. Lines end in LF, as Maildir readers expect. Blocking: call it off the async
/// workers.
#[derive(Clone, Debug)]
pub struct Maildir {
    root: PathBuf,
}

/// One message for one mailbox.
pub struct Letter<'a> {
    /// The message.
    pub id: QueueId,
    /// The delivery's place in the message.
    pub delivery: u32,
    /// The sender, for `Return-Path:`.
    pub sender: &'a ReversePath,
    /// The mailbox: a user's primary address.
    pub mailbox: &'a Mailbox,
    /// Whether it goes to `.Junk`.
    pub spam: bool,
    /// The message in pieces, each of whole lines, dot-stuffed.
    pub pieces: &'a [&'a [u8]],
}

impl Maildir {
    /// Maildirs below `root`; directories are made when the first message comes.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory of one mailbox. Local parts are folded to lower case; every octet that is not a
    /// letter, digit, `-`, `_`, `+` or an inner dot is written as `=XX`, so no name escapes the root.
    #[must_use]
    pub fn path(&self, mailbox: &Mailbox) -> PathBuf {
        let domain = safe(&mailbox.host().to_string());
        self.root.join(domain).join(safe(&mailbox.local_part().to_lowercase()))
    }

    /// Writes a message durably: file synced, renamed into `new`, directory synced.
    ///
    /// # Errors
    /// The system's error; nothing is visible in `new` then.
    pub fn deliver(&self, letter: &Letter<'_>) -> io::Result<PathBuf> {
        let mut folder = self.path(letter.mailbox);
        if letter.spam {
            folder.push(".Junk");
        }
        for name in ["tmp", "cur", "new"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let name = format!("{}.{}.waypost", letter.id, letter.delivery);
        let (written, delivered) = (folder.join("tmp").join(&name), folder.join("new").join(&name));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&written)?;
        let mut out = io::BufWriter::with_capacity(64 << 10, &mut file);
        writeln!(out, "Return-Path: <{}>", letter.sender)?;
        writeln!(out, "Delivered-To: {}", letter.mailbox)?;
        for piece in letter.pieces {
            write_lines(&mut out, &unstuff(piece))?;
        }
        out.flush()?;
        drop(out);
        file.sync_all()?;
        fs::rename(&written, &delivered)?;
        sync_directory(&folder.join("new"))?;
        Ok(delivered)
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes with LF for CR LF.
fn write_lines(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(text) => {
                out.write_all(text)?;
                out.write_all(b"\n")?;
            }
            None => out.write_all(line)?,
        }
    }
    Ok(())
}

fn safe(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (place, b) in name.bytes().enumerate() {
        let plain = b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'_' | b'+')
            || (b == b'.' && place > 0);
        if plain {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("={b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_escape_the_root() {
        let maildir = Maildir::new("m".into());
        for (mailbox, want) in [
            ("Marie@s.example", "m/s.example/marie"),
            ("a+b@s.example", "m/s.example/a+b"),
            ("a/b@s.example", "m/s.example/a=2Fb"),
            (r#""../x"@s.example"#, "m/s.example/=22../x=22".replace("../x", "..=2Fx").as_str()),
            ("é@s.example", "m/s.example/=C3=A9"),
        ]
        .map(|(mailbox, want)| (mailbox, want.to_owned()))
        {
            assert_eq!(maildir.path(&mailbox.parse().unwrap()), Path::new(&want), "{mailbox}");
        }
    }

    #[test]
    fn delivering_again_overwrites_itself() {
        let root = tempfile::tempdir().unwrap();
        let maildir = Maildir::new(root.path().to_owned());
        let (sender, mailbox) = ("a@b.example".parse().unwrap(), "m@s.example".parse().unwrap());
        let letter = Letter {
            id: QueueId::new(1),
            delivery: 0,
            sender: &sender,
            mailbox: &mailbox,
            spam: false,
            pieces: &[b"X: 1\r\n", b"A: b\r\n\r\n..x\r\n"],
        };
        let path = maildir.deliver(&letter).unwrap();
        assert_eq!(maildir.deliver(&letter).unwrap(), path);
        let text = fs::read_to_string(&path).unwrap();
        let head = "Return-Path: <a@b.example>\nDelivered-To: m@s.example\n";
        assert_eq!(text, format!("{head}X: 1\nA: b\n\n.x\n"));
        let entries = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1);
        let junk = maildir.deliver(&Letter { spam: true, ..letter }).unwrap();
        assert!(junk.to_string_lossy().contains("/.Junk/new/"));
    }
}
