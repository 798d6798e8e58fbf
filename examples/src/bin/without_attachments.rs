//! A message without its attachments (`waypost-mime`): from standard input to standard output.
//!
//! ```text
//! without_attachments < message.eml > shorter.eml
//! ```
//!
//! What went is told on standard error; a notice stands in its place. Everything else comes out octet
//! for octet as it went in.

use std::error::Error;
use std::io::{Read as _, Write as _};

use waypost_mime::{Piece, remove_attachments};

fn main() -> Result<(), Box<dyn Error>> {
    let mut message = Vec::new();
    std::io::stdin().read_to_end(&mut message)?;
    let removal = remove_attachments(&message, &["No attachments"]);
    for one in &removal.attachments {
        let name = one.name.as_deref().unwrap_or("without a name");
        eprintln!("{name}: {}, {} octets, {}", one.media, one.size, one.why);
    }
    if removal.breaks_signature {
        eprintln!("a signature inside of it no longer holds");
    }
    let mut out = std::io::stdout().lock();
    for piece in removal.edits.into_pieces(message.len()) {
        match piece {
            Piece::Original(range) => out.write_all(message.get(range).unwrap_or_default())?,
            Piece::New(notice) => out.write_all(&notice)?,
        }
    }
    Ok(())
}
