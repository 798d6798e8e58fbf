//! Edits a message's octets for one delivery: attachments go, the subject gets a prefix, and every
//! octet that need not change stays as it was.
//!
//! **For:** servers and filters that take attachments out or mark subjects, and must not touch the
//! rest. **Begin with:** [`remove_attachments`] or [`prefix_subject`], then [`Edits::into_pieces`].
//!
//! **In:** the octets of a message, dot-stuffed as it is stored or not, and what a rule asks for (C6).
//! **Out:** [`Edits`]: ranges of the original and the lines that stand there instead; what was removed, and
//! why. **Units:** octets; characters for the length of names. **Bounds:** time linear in the message;
//! memory for the new lines alone, at most [`MOST_PARTS`] notices of at most 3 KiB: the message is not
//! copied. At most [`MOST_DEEP`] multiparts inside of each other. **Errors:** none: a part that cannot be
//! read with certainty is removed with its reason, and where that is the message, all its content is
//! ([`Unreadable`]). **Source:** C6, B3; RFC 2045 to 2047, RFC 2183, RFC 2231, RFC 5322.
//!
//! # What an attachment is
//!
//! The first line that fits a part decides ([`Why`] names it):
//!
//! | part | it is |
//! | --- | --- |
//! | `Content-Type` is no type, contradicts a second one, or cannot be read | removed: unreadable |
//! | `multipart/encrypted` | removed as a whole: sealed |
//! | a multipart with `Content-Disposition: attachment` (not the message itself), or `multipart/appledouble` | removed as a whole |
//! | a multipart with base64 or quoted-printable, or without a plain boundary | removed as a whole: unreadable |
//! | any other multipart | opened: its parts are looked at |
//! | in `multipart/signed`: `application/pgp-signature`, `application/pkcs7-signature`, not named like something else | kept |
//! | `Content-Disposition` other than `inline` | an attachment |
//! | in `multipart/report`: `message/delivery-status` and its like, without a name | kept |
//! | `text/*` in an unknown transfer encoding | removed: unreadable |
//! | `text/*` whose file name ends like something else (`.exe`) | an attachment |
//! | any other `text/*`: the message, its forms, invitations (`text/calendar`) | kept |
//! | in `multipart/related`: `image/*` but SVG, not named like something else: pictures of a document | kept |
//! | `application/pkcs7-mime` | removed: sealed |
//! | anything else, also `message/rfc822`, and images outside of `multipart/related` | an attachment |
//!
//! So S/MIME and PGP: what is signed in the clear stays readable, but its signature no longer holds once
//! a part inside is removed; what is encrypted, or signed inside of `application/pkcs7-mime`, goes whole,
//! since nobody on the way can look for attachments in it.
//!
//! Text that was pasted into text (uuencode, data URLs of HTML) is text.
//!
//! # Where readers of mail differ
//!
//! One reader's text is another's attachment. So a line that *may* be a delimiter parts the message: one
//! that begins with the boundary and goes on, or one behind the closing delimiter. Boundaries are taken
//! only where all readers take the same octets for them; what is contradictory goes as a whole.
//!
//! # The notice
//!
//! A text/plain part in the place of what was removed: file name, type, size, why, and by which rules.
//! In a multipart/alternative it goes to the front, since readers show the last form that they can. Where
//! all content goes, the message's own `Content-` fields go with it.
//!
//! **Not here:** decoding of content, viruses, archives: a part is judged by its header.
//!
//! # Example
//!
//! ```
//! let message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n\
//!     --b\r\n\r\nSee the file.\r\n\
//!     --b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\n%PDF\r\n--b--\r\n";
//! let removal = waypost_mime::remove_attachments(message, &["No files"]);
//! assert_eq!(removal.attachments[0].name.as_deref(), Some("a.pdf"));
//! let edited = String::from_utf8(removal.edits.apply(message)).unwrap();
//! assert!(edited.contains("See the file.") && !edited.contains("%PDF"));
//! assert!(edited.contains("File name: a.pdf\r\nType: application/pdf\r\nSize: 4 octets\r\n"));
//! assert!(edited.contains("By rule: \"No files\"\r\n--b--\r\n"));
//! ```

mod attachments;
mod content;
mod definition;
mod edit;
mod field;
mod notice;
mod subject;

pub use attachments::{Attachment, MOST_DEEP, MOST_PARTS, Removal, remove_attachments};
pub use definition::{Unreadable, Why};
pub use edit::{Edit, Edits, Piece};
pub use field::{HeaderText, field};
pub use subject::{Prefixed, prefix_subject};
