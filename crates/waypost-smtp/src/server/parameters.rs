//! The parameters of MAIL and RCPT (RFC 5321 section 4.1.1.11).

use waypost_types::{Body, MailParameters, Notify, Reply, Ret};

use super::command::{arguments, ascii};

/// What MAIL said beside the sender.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct MailArguments {
    pub(super) parameters: MailParameters,
    /// `SIZE=`; a number too large for 64 bits is the largest one.
    pub(super) size: Option<u64>,
}

/// What RCPT said beside the recipient.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RcptArguments {
    pub(super) notify: Notify,
    pub(super) orcpt: Option<Box<str>>,
}

pub(super) fn mail(text: &str) -> Result<MailArguments, Reply> {
    let mut found = MailArguments::default();
    for (keyword, value) in each_once(text)? {
        match (keyword.as_str(), value) {
            ("SIZE", Some(digits)) => found.size = Some(size(digits)?),
            ("BODY", Some(body)) => found.parameters.body = body_type(body)?,
            ("SMTPUTF8", None) => found.parameters.smtputf8 = true,
            ("RET", Some(ret)) => found.parameters.ret = Some(ret_type(ret)?),
            ("ENVID", Some(envid)) => {
                if !is_xtext(envid) || envid.is_empty() || envid.len() > 100 {
                    return Err(arguments("ENVID is xtext of 1 to 100 octets (RFC 3461, 4.4)"));
                }
                found.parameters.envid = Some(envid.into());
            }
            // Who submitted the message first (RFC 4954 section 5): nobody here trusts it.
            ("AUTH", Some(identity)) => {
                if identity != "<>" && !is_xtext(identity) {
                    return Err(arguments("AUTH= is xtext or <> (RFC 4954, 5)"));
                }
            }
            _ => return Err(unknown(&keyword, value)),
        }
    }
    Ok(found)
}

pub(super) fn rcpt(text: &str) -> Result<RcptArguments, Reply> {
    let mut found = RcptArguments::default();
    for (keyword, value) in each_once(text)? {
        match (keyword.as_str(), value) {
            ("NOTIFY", Some(list)) => found.notify = notify(list)?,
            ("ORCPT", Some(orcpt)) => {
                if !is_orcpt(orcpt) {
                    return Err(arguments("ORCPT is a type, `;` and xtext, up to 500 octets"));
                }
                found.orcpt = Some(orcpt.into());
            }
            _ => return Err(unknown(&keyword, value)),
        }
    }
    Ok(found)
}

/// The parameters, keywords in capitals; each keyword may stand once.
fn each_once(text: &str) -> Result<Vec<(String, Option<&str>)>, Reply> {
    let mut all: Vec<(String, Option<&str>)> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let named = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
            && keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !named || word.contains(char::is_control) {
            return Err(arguments("A parameter is KEYWORD or KEYWORD=value"));
        }
        let keyword = keyword.to_ascii_uppercase();
        if all.iter().any(|(seen, _)| *seen == keyword) {
            return Err(arguments(&format!("{keyword} is given twice")));
        }
        all.push((keyword, value));
        if all.len() > MOST_PARAMETERS {
            return Err(arguments("Too many parameters"));
        }
    }
    Ok(all)
}

/// More than all that are known; keeps the search for doubles cheap.
const MOST_PARAMETERS: usize = 16;

fn unknown(keyword: &str, value: Option<&str>) -> Reply {
    const KNOWN: [&str; 8] =
        ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "NOTIFY", "ORCPT"];
    let word: String = ascii(keyword).chars().take(40).collect();
    if KNOWN.contains(&keyword) {
        let text = match value {
            Some(_) => format!("{word} cannot stand here, or not with a value"),
            None => format!("{word} cannot stand here, or not without a value"),
        };
        return arguments(&text);
    }
    Reply::new(555, (5, 5, 4), &format!("The parameter {word} is not known; see EHLO"))
}

fn size(digits: &str) -> Result<u64, Reply> {
    if digits.is_empty() || digits.len() > 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(arguments("SIZE is a number of up to 20 digits (RFC 1870)"));
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

fn body_type(value: &str) -> Result<Body, Reply> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(Body::SevenBit),
        "8BITMIME" => Ok(Body::EightBitMime),
        "BINARYMIME" => {
            Err(arguments("BINARYMIME is not offered here; encode the content, or give 8BITMIME"))
        }
        _ => Err(arguments("BODY is 7BIT or 8BITMIME")),
    }
}

fn ret_type(value: &str) -> Result<Ret, Reply> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Ok(Ret::Full),
        "HDRS" => Ok(Ret::Headers),
        _ => Err(arguments("RET is FULL or HDRS")),
    }
}

fn notify(list: &str) -> Result<Notify, Reply> {
    if list.eq_ignore_ascii_case("NEVER") {
        return Ok(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in list.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => success = true,
            "FAILURE" => failure = true,
            "DELAY" => delay = true,
            _ => return Err(arguments("NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY")),
        }
    }
    Ok(Notify::On { success, failure, delay })
}

/// RFC 3461 section 4: printable ASCII but `+` and `=`, or `+` and two hexadecimal digits.
fn is_xtext(text: &str) -> bool {
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let hex = |b: Option<u8>| matches!(b, Some(b'0'..=b'9' | b'A'..=b'F'));
        let fits = match octet {
            b'+' => hex(octets.next()) && hex(octets.next()),
            b'=' => false,
            octet => octet.is_ascii_graphic(),
        };
        if !fits {
            return false;
        }
    }
    true
}

/// `rfc822;` and xtext; `utf-8;` may hold characters of its own (RFC 6533 section 3).
fn is_orcpt(text: &str) -> bool {
    let Some((kind, address)) = text.split_once(';') else { return false };
    let named = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let fits = is_xtext(address)
        || (kind.eq_ignore_ascii_case("utf-8") && !address.contains(char::is_whitespace));
    named && fits && !address.is_empty() && text.len() <= 500
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_parameters() {
        let long = format!("ENVID={}", "a".repeat(101));
        for (text, want) in [
            ("", Ok("None SevenBit false None None")),
            (" SIZE=0", Ok("Some(0) SevenBit false None None")),
            (" size=12  body=8bitmime", Ok("Some(12) EightBitMime false None None")),
            (
                " SIZE=99999999999999999999",
                Ok("Some(18446744073709551615) SevenBit false None None"),
            ),
            (" SMTPUTF8 RET=HDRS", Ok("None SevenBit true Some(Headers) None")),
            (" ENVID=a+2Bb AUTH=<>", Ok("None SevenBit false None Some(\"a+2Bb\")")),
            (" SIZE=", Err(501)),
            (" SIZE", Err(501)),
            (" SIZE=-1", Err(501)),
            (" SIZE=1 SIZE=1", Err(501)),
            (" SIZE=1 size=2", Err(501)),
            (" BODY=BINARYMIME", Err(501)),
            (" SMTPUTF8=1", Err(501)),
            (" RET=ALL", Err(501)),
            (" ENVID=a+zz", Err(501)),
            (" ENVID=", Err(501)),
            (" =1", Err(501)),
            (" NOTIFY=NEVER", Err(501)),
            (" HOLDFOR=3", Err(555)),
            (" AUTH=a=b", Err(501)),
            (&long, Err(501)),
        ] {
            let got = mail(text).map(|MailArguments { parameters: p, size }| {
                format!("{size:?} {:?} {} {:?} {:?}", p.body, p.smtputf8, p.ret, p.envid)
            });
            let got = got.as_ref().map(String::as_str).map_err(Reply::code);
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn rcpt_parameters() {
        for (text, want) in [
            (" NOTIFY=never", Ok("Never None")),
            (
                " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b@c.example",
                Ok("On { success: true, failure: false, delay: true } \
                    Some(\"rfc822;a+40b@c.example\")"),
            ),
            (" ORCPT=utf-8;\u{e9}@c.example", Ok("Unsaid Some(\"utf-8;\u{e9}@c.example\")")),
            (" NOTIFY=NEVER,SUCCESS", Err(501)),
            (" NOTIFY=", Err(501)),
            (" NOTIFY", Err(501)),
            (" ORCPT=a@b", Err(501)),
            (" ORCPT=rfc822;", Err(501)),
            (" ORCPT=rfc822;\u{e9}", Err(501)),
            (" SIZE=3", Err(501)),
            (" FOO", Err(555)),
        ] {
            let got = rcpt(text).map(|found| format!("{:?} {:?}", found.notify, found.orcpt));
            let got = got.as_ref().map(String::as_str).map_err(Reply::code);
            assert_eq!(got, want, "{text:?}");
        }
    }
}
