//! An SMTP reply: code, enhanced code, text.

use std::borrow::Cow;
use std::fmt;

/// The first digit of a reply code (RFC 5321 section 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyClass {
    /// 2yz: done.
    Completed,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: never.
    Permanent,
}

/// An enhanced status code `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A reply, ours to a client or a next hop's to us (RFC 5321 section 4.2).
///
/// The text is bounded to 2,048 characters, has no control character but `\n`, which parts its
/// lines, and no line is longer than 480 octets; whatever is given to [`Reply::new`] is brought into
/// that form, so a reply can always be sent as it is. Shown on one line: `550 5.1.1 No such user`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: Box<str>,
}

const MAX_TEXT: usize = 2048;
const MAX_LINE: usize = 480;

impl Reply {
    /// A reply with an enhanced code, given as `(class, subject, detail)`.
    ///
    /// A `code` outside 200 to 599 becomes 451, the reply for a local error.
    #[must_use]
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: &str) -> Self {
        let enhanced = EnhancedCode(enhanced.0, enhanced.1, enhanced.2);
        Self { enhanced: Some(enhanced), ..Self::plain(code, text) }
    }

    /// A reply without an enhanced code, as the greeting and EHLO's have. The code as in
    /// [`Reply::new`].
    #[must_use]
    pub fn plain(code: u16, text: &str) -> Self {
        let code = if (200..600).contains(&code) { code } else { 451 };
        Self { code, enhanced: None, text: clean(text) }
    }

    /// The three-digit code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code, if there is one.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text, its lines parted by `\n`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the first digit says.
    #[must_use]
    pub fn class(&self) -> ReplyClass {
        match self.code {
            ..300 => ReplyClass::Completed,
            300..400 => ReplyClass::Intermediate,
            400..500 => ReplyClass::Transient,
            500.. => ReplyClass::Permanent,
        }
    }

    /// Whether the code is 2yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.class() == ReplyClass::Completed
    }

    /// The reply for a client that did not ask for SMTPUTF8, which may get ASCII alone (RFC 5321
    /// section 4.2, RFC 6531 section 3.7.4): letters of western Europe lose their accents,
    /// typographic marks become plain ones, all else `?`. Never longer than the reply itself.
    ///
    /// ```
    /// use waypost_types::Reply;
    ///
    /// let reply = Reply::new(550, (5, 7, 1), "Écrivez à l’accueil");
    /// assert_eq!(reply.in_ascii().text(), "Ecrivez a l'accueil");
    /// ```
    #[must_use]
    pub fn in_ascii(&self) -> Cow<'_, Self> {
        if self.text.is_ascii() {
            return Cow::Borrowed(self);
        }
        let mut text = String::with_capacity(self.text.len());
        for c in self.text.chars() {
            if c.is_ascii() { text.push(c) } else { text.push_str(plain_form(c)) }
        }
        Cow::Owned(Self { text: text.into(), ..*self })
    }

    /// Appends the reply as it goes over the wire: one or more lines, each ended by CR LF.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            let head = match self.enhanced {
                Some(enhanced) => format!("{}{mark}{enhanced} ", self.code),
                None => format!("{}{mark}", self.code),
            };
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// What is written for a character that is not ASCII; it has no more octets than that.
fn plain_form(c: char) -> &'static str {
    match c {
        'À'..='Å' => "A",
        'Æ' => "AE",
        'Ç' => "C",
        'È'..='Ë' => "E",
        'Ì'..='Ï' => "I",
        'Ñ' => "N",
        'Ò'..='Ö' | 'Ø' => "O",
        'Œ' => "OE",
        'Ù'..='Ü' => "U",
        'Ý' | 'Ÿ' => "Y",
        'ß' => "ss",
        'à'..='å' => "a",
        'æ' => "ae",
        'ç' => "c",
        'è'..='ë' => "e",
        'ì'..='ï' => "i",
        'ñ' => "n",
        'ò'..='ö' | 'ø' => "o",
        'œ' => "oe",
        'ù'..='ü' => "u",
        'ý' | 'ÿ' => "y",
        '\u{a0}' | '\u{2009}' | '\u{202f}' => " ",
        '‘' | '’' => "'",
        '“' | '”' | '„' | '«' | '»' => "\"",
        '–' | '—' => "-",
        '…' => "...",
        '€' => "EUR",
        _ => "?",
    }
}

/// Control characters become blanks, over-long lines are broken, the rest is cut off.
fn clean(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    let mut line = 0;
    for c in text.chars().take(MAX_TEXT) {
        if c == '\n' {
            line = 0;
            out.push('\n');
            continue;
        }
        if line + c.len_utf8() > MAX_LINE {
            line = 0;
            out.push('\n');
        }
        line += c.len_utf8();
        out.push(if c.is_control() { ' ' } else { c });
    }
    out.into()
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.text.split('\n') {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_has_one_line_a_line() {
        let long = "x".repeat(1000);
        for (text, want) in [
            ("No such user", "550 5.1.1 No such user\r\n"),
            ("a\nb", "550-5.1.1 a\r\n550 5.1.1 b\r\n"),
            ("a\r\n250 ok", "550-5.1.1 a \r\n550 5.1.1 250 ok\r\n"),
            ("a\0b\x1b", "550 5.1.1 a b \r\n"),
        ] {
            let mut out = Vec::new();
            Reply::new(550, (5, 1, 1), text).write_to(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
        let mut out = Vec::new();
        Reply::new(550, (5, 1, 1), &long).write_to(&mut out);
        let longest = out.split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap();
        assert!(longest <= 511, "{longest}");
    }

    #[test]
    fn the_ascii_form_is_ascii_and_no_longer() {
        for (text, want) in [
            ("No such user", "No such user"),
            ("Réponse non", "Reponse non"),
            ("Übergröße\nNaïve façade", "Ubergrosse\nNaive facade"),
            ("« Œuvre » – 5\u{a0}€…", "\" OEuvre \" - 5 EUR..."),
            ("日本 ł", "?? ?"),
        ] {
            let reply = Reply::new(550, (5, 7, 1), text);
            assert_eq!(reply.in_ascii().text(), want);
            assert_eq!(reply.in_ascii().enhanced(), reply.enhanced());
        }
        for c in '\u{80}'..=char::MAX {
            let plain = plain_form(c);
            assert!(plain.is_ascii() && plain.len() <= c.len_utf8(), "{c}");
        }
    }

    #[test]
    fn odd_codes_become_a_local_error() {
        assert_eq!(Reply::plain(42, "").code(), 451);
        assert_eq!(Reply::plain(600, "").code(), 451);
        assert_eq!(Reply::new(421, (4, 7, 0), "x").to_string(), "421 4.7.0 x");
    }
}
