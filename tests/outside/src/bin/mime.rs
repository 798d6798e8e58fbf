// From README.md, by scripts/outside --update.
use waypost_mime::{Piece, remove_attachments};

fn main() {
    let message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nSee the file.\r\n\
                    --b\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\n%PDF\r\n--b--\r\n";
    let removal = remove_attachments(message, &["No files"]);
    assert_eq!(removal.attachments.first().and_then(|one| one.name.as_deref()), Some("a.pdf"));
    let pieces = removal.edits.into_pieces(message.len());
    let [Piece::Original(before), Piece::New(notice), Piece::Original(behind)] = pieces.as_slice() else {
        panic!("one attachment, one notice")
    };
    assert_eq!((before.start, behind.end), (0, message.len()));
    assert!(notice.starts_with(b"Content-Type: text/plain"));
}
