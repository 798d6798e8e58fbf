//! What an attachment is.

use std::fmt;

use crate::content::{Content, Disposition, Encoding, Media};

/// Why a part is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Why {
    /// `Content-Disposition` says attachment, or something unknown (RFC 2183 section 2.8).
    Disposition,
    /// Its type is neither text nor multipart, and nothing says that it is shown inline.
    Type,
    /// It is text, but its file name ends like something else.
    FileName,
    /// It is encrypted or wrapped as a whole, so nobody on the way can look inside.
    Sealed,
    /// Its MIME structure cannot be read with certainty.
    Unreadable(Unreadable),
}

/// Why the MIME structure of a part, or of the message, cannot be read with certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Unreadable {
    /// Its `Content-Type` is no type, contradicts another one, or is longer than 4 KiB.
    Type,
    /// Its `Content-Transfer-Encoding` is unknown, contradicts another one, or stands at a multipart
    /// and is none of `7bit`, `8bit` and `binary` (RFC 2045 section 6.4).
    Encoding,
    /// It is a multipart without a boundary that all readers of mail take alike.
    Boundary,
    /// It is a multipart in which no delimiter stands.
    Delimiter,
    /// Its header has more than 64 KiB.
    Header,
    /// It lies deeper than 32 multiparts.
    TooDeep,
    /// The message has more than 1,000 parts.
    TooMany,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Disposition => f.write_str("it was sent as an attachment"),
            Why::Type => f.write_str("it is no text"),
            Why::FileName => f.write_str("it is no text by its file name"),
            Why::Sealed => f.write_str("it cannot be looked into"),
            Why::Unreadable(unreadable) => unreadable.fmt(f),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreadable::Type => "its type cannot be read",
            Unreadable::Encoding => "its encoding cannot be read",
            Unreadable::Boundary => "its boundary cannot be read",
            Unreadable::Delimiter => "its boundary does not occur",
            Unreadable::Header => "its header is too long",
            Unreadable::TooDeep => "it is nested too deeply",
            Unreadable::TooMany => "it has too many parts",
        })
    }
}

/// What a multipart means for its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mixed,
    /// Forms of the same content, the best last.
    Alternative,
    /// A document and what is shown inside it.
    Related,
    Signed,
    Report,
    /// Its parts are messages where nothing else is said.
    Digest,
}

impl Kind {
    fn of(subtype: &str) -> Self {
        match subtype {
            "alternative" => Self::Alternative,
            "related" => Self::Related,
            "signed" => Self::Signed,
            "report" => Self::Report,
            "digest" => Self::Digest,
            _ => Self::Mixed,
        }
    }

    /// The type of a part that names none (RFC 2046 section 5.1.5).
    pub(crate) fn default_media(self) -> Media {
        match self {
            Self::Digest => Media::new("message", "rfc822"),
            _ => Media::new("text", "plain"),
        }
    }
}

/// What becomes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Keep,
    /// It is a multipart: its parts are looked at.
    Open(Kind),
    Remove(Why),
}

/// What signs, as second part of a multipart/signed.
const SIGNATURES: [&str; 3] = ["pgp-signature", "pkcs7-signature", "x-pkcs7-signature"];
const SIGNATURE_ENDINGS: [&str; 4] = ["asc", "p7s", "pgp", "sig"];
/// What programs read in a multipart/report (RFC 6522, RFC 3464, RFC 8098, RFC 5965, RFC 6533).
const REPORTS: [&str; 7] = [
    "delivery-status",
    "disposition-notification",
    "feedback-report",
    "global-delivery-status",
    "global-disposition-notification",
    "global-headers",
    "tracking-status",
];
const IMAGE_ENDINGS: [&str; 12] =
    ["avif", "bmp", "gif", "heic", "ico", "jfif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];
const TEXT_ENDINGS: [&str; 11] =
    ["asc", "csv", "diff", "htm", "html", "ics", "ifb", "log", "md", "patch", "txt"];

/// What becomes of a part, given the multipart it stands in; `None` for the message itself.
pub(crate) fn fate(content: &Content, parent: Option<Kind>) -> Fate {
    let Some(media) = &content.media else { return Fate::Remove(unreadable(Unreadable::Type)) };
    let subtype = media.subtype.as_str();
    let attached = content.disposition == Disposition::Attachment;
    let known = content.encoding != Encoding::Unknown;
    match (media.kind.as_str(), parent) {
        ("multipart", _) if subtype == "encrypted" => Fate::Remove(Why::Sealed),
        // A file of two forks (RFC 1740), or what somebody attached as a whole.
        ("multipart", Some(_)) if attached || subtype == "appledouble" => {
            Fate::Remove(if attached { Why::Disposition } else { Why::Type })
        }
        ("multipart", _) if content.encoding != Encoding::Identity => {
            Fate::Remove(unreadable(Unreadable::Encoding))
        }
        ("multipart", _) if content.boundary.is_none() => {
            Fate::Remove(unreadable(Unreadable::Boundary))
        }
        ("multipart", _) => Fate::Open(Kind::of(subtype)),
        ("application", Some(Kind::Signed))
            if SIGNATURES.contains(&subtype) && content.ends_as(&SIGNATURE_ENDINGS) =>
        {
            Fate::Keep
        }
        (_, _) if attached => Fate::Remove(Why::Disposition),
        ("message", Some(Kind::Report))
            if REPORTS.contains(&subtype) && content.names.is_empty() && known =>
        {
            Fate::Keep
        }
        ("text", _) if !known => Fate::Remove(unreadable(Unreadable::Encoding)),
        ("text", _) if !content.ends_as(&TEXT_ENDINGS) => Fate::Remove(Why::FileName),
        ("text", _) => Fate::Keep,
        ("image", Some(Kind::Related))
            if known && subtype != "svg+xml" && content.ends_as(&IMAGE_ENDINGS) =>
        {
            Fate::Keep
        }
        ("application", _) if matches!(subtype, "pkcs7-mime" | "x-pkcs7-mime") => {
            Fate::Remove(Why::Sealed)
        }
        _ => Fate::Remove(Why::Type),
    }
}

fn unreadable(because: Unreadable) -> Why {
    Why::Unreadable(because)
}

impl Content {
    /// Whether each file name, if there is one, ends so.
    fn ends_as(&self, endings: &[&str]) -> bool {
        self.names.iter().all(|name| {
            let ending = name.trim().rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
            // A name without a dot, such as `image001`, opens as nothing.
            ending.is_none_or(|ending| endings.contains(&ending.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use waypost_types::Fields;

    use super::*;

    /// The table of the documentation, a line a case.
    #[test]
    fn c6_what_an_attachment_is() {
        let kept = "kept";
        let opened = "opened";
        let disposition = Why::Disposition.to_string();
        let file_name = Why::FileName.to_string();
        let not_text = Why::Type.to_string();
        let sealed = Why::Sealed.to_string();
        let encoding = Unreadable::Encoding.to_string();
        let unreadable = Unreadable::Type.to_string();
        let boundary = Unreadable::Boundary.to_string();
        let inline = "Content-Disposition: inline";
        let attached = "Content-Disposition: attachment";
        for (parent, kind, more, want) in [
            // Text is the message, not an attachment.
            ("", "text/plain", "", kept),
            ("", "text/html; charset=utf-8", "", kept),
            ("mixed", "text/plain", "", kept),
            ("mixed", "text/plain", inline, kept),
            ("mixed", "text/plain; name=notes.txt", "", kept),
            ("mixed", "text/plain; name=notes", "", kept),
            ("mixed", "text/calendar; method=REQUEST; name=meeting.ics", "", kept),
            ("alternative", "text/calendar; method=REQUEST", "", kept),
            ("alternative", "text/html", "Content-Transfer-Encoding: base64", kept),
            ("mixed", "text/plain", attached, &disposition),
            ("", "text/plain", attached, &disposition),
            ("mixed", "text/calendar; name=invite.ics", attached, &disposition),
            ("mixed", "text/plain", "Content-Disposition: x-new", &disposition),
            ("mixed", "text/plain; name=setup.exe", "", &file_name),
            ("mixed", "text/plain; name=\"=?utf-8?B?ZXZpbC5leGU=?=\"", "", &file_name),
            ("mixed", "text/plain; name=setup.exe", inline, &file_name),
            (
                "mixed",
                "text/html",
                "Content-Disposition: inline; filename*=utf-8''a%2Eexe",
                &file_name,
            ),
            ("mixed", "text/plain", "Content-Transfer-Encoding: x-uuencode", &encoding),
            // What is no text is an attachment, said or not.
            ("", "application/pdf", "", &not_text),
            ("mixed", "application/pdf", "", &not_text),
            ("mixed", "application/pdf", inline, &not_text),
            ("mixed", "application/ics; name=invite.ics", "", &not_text),
            ("mixed", "application/ms-tnef; name=winmail.dat", "", &not_text),
            ("mixed", "image/png", "", &not_text),
            ("mixed", "image/png", inline, &not_text),
            ("", "image/png", "", &not_text),
            ("mixed", "audio/ogg", "", &not_text),
            ("mixed", "message/rfc822", "", &not_text),
            ("mixed", "message/external-body; access-type=URL", "", &not_text),
            ("", "message/partial; id=a; number=1", "", &not_text),
            ("digest", "", "", &not_text),
            ("digest", "text/plain", "", kept),
            ("alternative", "application/rtf", "", &not_text),
            ("mixed", "chemical/x-pdb", "", &not_text),
            ("mixed", "application", "", &unreadable),
            // Pictures of a document are part of it.
            ("related", "text/html", "", kept),
            ("related", "image/png", "", kept),
            ("related", "image/png; name=image001.png", inline, kept),
            ("related", "image/jpeg; name=\"A B.JPG\"", "Content-Transfer-Encoding: base64", kept),
            ("related", "image/png; name=logo", inline, kept),
            ("related", "image/png; name=logo.png", attached, &disposition),
            ("related", "image/png; name=logo.exe", inline, &not_text),
            ("related", "image/svg+xml", inline, &not_text),
            ("related", "application/pdf", inline, &not_text),
            // Signatures stay: whether they still hold is for the reader to see.
            ("signed", "application/pgp-signature; name=signature.asc", "", kept),
            ("signed", "application/pkcs7-signature; name=smime.p7s", attached, kept),
            ("signed", "application/pkcs7-signature; name=smime.exe", attached, &disposition),
            ("signed", "application/pdf", "", &not_text),
            ("mixed", "application/pgp-signature", "", &not_text),
            // What programs read in a report stays, what it returns does not.
            ("report", "message/delivery-status", "", kept),
            ("report", "message/disposition-notification", "", kept),
            ("report", "text/rfc822-headers", "", kept),
            ("report", "message/rfc822", "", &not_text),
            ("report", "message/delivery-status; name=x.exe", "", &not_text),
            ("mixed", "message/delivery-status", "", &not_text),
            // What nobody can look into goes as a whole.
            ("", "multipart/encrypted; boundary=a", "", &sealed),
            ("mixed", "multipart/encrypted; boundary=a", "", &sealed),
            ("", "application/pkcs7-mime; name=smime.p7m", "", &sealed),
            ("mixed", "application/x-pkcs7-mime", inline, &sealed),
            ("", "application/pkcs7-mime; name=smime.p7m", attached, &disposition),
            // Multiparts are looked into, unless they were attached.
            ("", "multipart/mixed; boundary=a", "", opened),
            ("", "multipart/mixed; boundary=a", attached, opened),
            ("mixed", "multipart/x-new; boundary=a", "", opened),
            ("mixed", "multipart/mixed; boundary=a", attached, &disposition),
            ("mixed", "multipart/appledouble; boundary=a", "", &not_text),
            ("mixed", "multipart/mixed", "", &boundary),
            (
                "mixed",
                "multipart/mixed; boundary=a",
                "Content-Transfer-Encoding: base64",
                &encoding,
            ),
        ] {
            let kind =
                if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
            let header = format!("{kind}{more}\r\n");
            let parent_kind = (!parent.is_empty()).then(|| Kind::of(parent));
            let default = parent_kind.unwrap_or(Kind::Mixed).default_media();
            let content = Content::read(Fields::of(header.as_bytes()), default);
            let got = match fate(&content, parent_kind) {
                Fate::Keep => "kept".to_owned(),
                Fate::Open(_) => "opened".to_owned(),
                Fate::Remove(why) => why.to_string(),
            };
            assert_eq!(got, want, "{parent} {header:?}");
        }
    }
}
