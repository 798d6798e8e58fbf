//! Macros in the domains of SPF terms (RFC 7208 section 7).

use std::net::IpAddr;

use waypost_types::Domain;

use super::Client;

/// What macros stand for.
pub(super) struct Macros<'a> {
    /// The domain whose record it is.
    pub(super) domain: &'a Domain,
    pub(super) client: Client<'a>,
}

/// Whether a domain with macros is well-formed.
pub(super) fn check(spec: &str) -> Result<(), String> {
    if spec.is_empty() {
        return Err("names no domain".to_owned());
    }
    expand(spec, &|_| Some(String::new())).map(drop)
}

impl Macros<'_> {
    /// The name that a domain with macros stands for; `None`: it is no name to ask for.
    pub(super) fn name(&self, spec: &str) -> Option<Domain> {
        let text = expand(spec, &|letter| self.value(letter)).ok()?;
        let mut text = text.strip_suffix('.').unwrap_or(&text);
        while text.len() > 253 {
            (_, text) = text.split_once('.')?;
        }
        text.parse().ok()
    }

    fn value(&self, letter: char) -> Option<String> {
        Some(match letter {
            's' => format!("{}@{}", self.client.local_part, self.client.sender),
            'l' => self.client.local_part.to_owned(),
            'o' => self.client.sender.to_string(),
            'd' => self.domain.to_string(),
            'h' => self.client.helo.to_owned(),
            // Nothing is asked about a macro that section 7.3 says not to use.
            'p' => "unknown".to_owned(),
            'v' => if self.client.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            'i' => match self.client.ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => {
                    let nibbles = ip.octets().into_iter().flat_map(|b| [b >> 4, b & 15]);
                    let digits: Vec<String> = nibbles.map(|n| format!("{n:x}")).collect();
                    digits.join(".")
                }
            },
            _ => return None,
        })
    }
}

fn is_letter(letter: char) -> bool {
    "slodiphv".contains(letter)
}

fn expand(spec: &str, value: &dyn Fn(char) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(spec.len());
    let mut rest = spec;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let mut letters = after.chars();
        match letters.next() {
            Some('%') => out.push('%'),
            Some('_') => out.push(' '),
            Some('-') => out.push_str("%20"),
            Some('{') => {
                let (inside, behind) =
                    letters.as_str().split_once('}').ok_or("has a macro without `}`")?;
                let put = one(inside, value);
                out.push_str(
                    &put.ok_or_else(|| format!("has a macro that is none: `%{{{inside}}}`"))?,
                );
                rest = behind;
                continue;
            }
            _ => return Err("has a lone `%`".to_owned()),
        }
        rest = letters.as_str();
    }
    out.push_str(rest);
    Ok(out)
}

/// `letter [digits] ["r"] [delimiters]`.
fn one(inside: &str, value: &dyn Fn(char) -> Option<String>) -> Option<String> {
    let mut letters = inside.chars();
    let letter = letters.next()?;
    let lower = letter.to_ascii_lowercase();
    let rest = letters.as_str();
    let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at_checked(digits_end)?;
    let keep = match digits {
        "" => usize::MAX,
        _ => digits.parse().ok().filter(|keep| *keep != 0)?,
    };
    let (reversed, delimiters) = match rest.strip_prefix(['r', 'R']) {
        Some(delimiters) => (true, delimiters),
        None => (false, rest),
    };
    if !is_letter(lower) || !delimiters.chars().all(|c| ".-+,/_=".contains(c)) {
        return None;
    }
    let delimiters = if delimiters.is_empty() { "." } else { delimiters };
    let value = value(lower)?;
    let mut parts: Vec<&str> = value.split(|c| delimiters.contains(c)).collect();
    if reversed {
        parts.reverse();
    }
    let from = parts.len().saturating_sub(keep);
    let joined = parts.get(from..).unwrap_or_default().join(".");
    Some(if letter.is_ascii_uppercase() { escaped(&joined) } else { joined })
}

fn escaped(text: &str) -> String {
    let unreserved = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
    let one = |b: u8| match unreserved(&b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_transformers_b4() {
        let (domain, sender) = ("email.example".parse().unwrap(), "strong-bad.email.example");
        let sender: Domain = sender.parse().unwrap();
        for (ip, spec, want) in [
            ("192.0.2.3", "%{d}", Some("email.example")),
            ("192.0.2.3", "%{o}.a", Some("strong-bad.email.example.a")),
            ("192.0.2.3", "%{o2}.a", Some("email.example.a")),
            ("192.0.2.3", "%{or}.a", Some("example.email.strong-bad.a")),
            ("192.0.2.3", "%{o1r-}.a", Some("strong.a")),
            ("192.0.2.3", "%{ir}.%{v}._spf.%{d2}", Some("3.2.0.192.in-addr._spf.email.example")),
            ("192.0.2.3", "%{l}.%{h}.%{p}.a", Some("strong-bad.mx.email.example.unknown.a")),
            ("2001:db8::cb01", "%{i8r}.%{v}.a", Some("8.b.d.0.1.0.0.2.ip6.a")),
            // The table of RFC 7208 section 7.4, as far as it is of names.
            ("192.0.2.3", "%{lr-}.a", Some("bad.strong.a")),
            ("192.0.2.3", "%{l1r-}.a", Some("strong.a")),
            ("192.0.2.3", "%{lr-}.lp._spf.%{d2}", Some("bad.strong.lp._spf.email.example")),
            (
                "192.0.2.3",
                "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}",
                Some("3.2.0.192.in-addr.strong.lp._spf.email.example"),
            ),
            (
                "192.0.2.3",
                "%{d2}.trusted-domains.example.net",
                Some("email.example.trusted-domains.example.net"),
            ),
            ("192.0.2.3", "%{D}.", Some("email.example")),
            ("192.0.2.3", "%{S}.a", None),
            ("192.0.2.3", "a%_b.example", None),
            ("192.0.2.3", "a..example", None),
        ] {
            let client = Client {
                ip: ip.parse().unwrap(),
                local_part: "strong-bad",
                sender: &sender,
                helo: "mx.email.example",
            };
            let macros = Macros { domain: &domain, client };
            let got = macros.name(spec);
            assert_eq!(got.as_ref().map(Domain::as_str), want, "{spec}");
        }
    }

    #[test]
    fn a_long_name_loses_its_first_labels_b4() {
        let domain: Domain =
            [["a".repeat(60).as_str(); 4].join("."), "example".into()].join(".").parse().unwrap();
        let macros = Macros {
            domain: &domain,
            client: Client::postmaster(&domain, [192, 0, 2, 1].into(), "h"),
        };
        let name = macros.name("%{i}.%{d}").unwrap();
        assert!(name.as_str().len() <= 253 && name.as_str().ends_with(domain.as_str()), "{name}");
    }
}
