//! Messages in files, mbox files, Maildir folders and folders of `.eml` files, one header at a time.
//!
//! Memory is bounded: of a message only the header is kept, at most [`HEADER_SIZE`] octets of it, and
//! a mailbox is read as a stream. Of a folder the paths are listed, in order of their names.

mod folder;
mod mailbox;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::answer::{self, Answer, Failure};
use crate::progress::Progress;

/// Octets of a header that are kept: what `header_size` is by default, which `serve` refuses beyond.
pub(crate) const HEADER_SIZE: usize = 1 << 20;

/// One message's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The file it stands in; `-` for stdin.
    pub(crate) file: &'a str,
    /// Which message of an mbox file, counted from 1.
    pub(crate) number: Option<u64>,
    /// The header.
    pub(crate) header: &'a [u8],
    /// The header is longer than what is kept.
    pub(crate) cut: bool,
}

impl Message<'_> {
    /// Where the message is, for people.
    pub(crate) fn place(&self) -> String {
        match self.number {
            None => self.file.to_owned(),
            Some(number) => format!("{}, message {number}", self.file),
        }
    }
}

/// Hands the header of each message in `inputs` to `take`, in order; `-` is stdin.
///
/// What cannot be read, and what `take` finds unusable, is told on stderr, and the rest goes on.
pub(crate) fn each(
    inputs: &[String],
    progress: &mut Progress,
    mut take: impl FnMut(Message<'_>) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let mut ended = Answer::Done;
    let mut files = Vec::new();
    for input in inputs {
        if input != "-" && Path::new(input).is_dir() {
            let before = files.len();
            folder::list(Path::new(input), &mut files, &mut |error| unusable(&mut ended, &error));
            if files.len() == before {
                let error = format!(
                    "{input}: holds no message; name a Maildir, a folder of .eml or .mbox files, or a file"
                );
                unusable(&mut ended, &error);
            }
        } else {
            files.push(input.clone());
        }
    }
    let size = |file: &String| std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    progress.expect(files.iter().map(size).sum());
    for file in &files {
        let read = if file == "-" {
            mailbox::read("-", &mut Counted { of: io::stdin().lock(), progress }, &mut take)
        } else {
            match File::open(file) {
                Err(error) => Err(unreadable(file, &error)),
                Ok(opened) => {
                    let whole = size(file);
                    let before = progress.octets();
                    let of = BufReader::with_capacity(1 << 16, opened);
                    let read = mailbox::read(file, &mut Counted { of, progress }, &mut take);
                    // Of a single message the body is not read.
                    progress.reach(before.saturating_add(whole));
                    read
                }
            }
        };
        match read {
            Err(Failure::Input(error)) => unusable(&mut ended, &error),
            other => {
                if other? == Answer::Unusable {
                    ended = Answer::Unusable;
                }
            }
        }
    }
    progress.finish();
    Ok(ended)
}

fn unusable(ended: &mut Answer, error: &str) {
    answer::tell(error);
    *ended = Answer::Unusable;
}

fn unreadable(file: &str, error: &io::Error) -> Failure {
    Failure::Input(format!("{file}: cannot be read: {error}; name a file that can, or - for stdin"))
}

/// A reader that tells how far it is.
struct Counted<'p, R> {
    of: R,
    progress: &'p mut Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.of.read(buffer)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.of.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.of.consume(amount);
        self.progress.advance(amount);
    }
}
