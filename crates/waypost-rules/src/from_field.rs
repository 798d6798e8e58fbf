//! The addresses in a message's `From:` field.

use mail_parser::{Address, HeaderValue, MessageParser};
use waypost_types::{Domain, Field, HeaderBlock};

/// Who a message claims to be from (C3).
///
/// Read through `mail-parser`, obsolete syntax included. A field without a readable address counts
/// as missing. Where there are several addresses, or several fields, all of them count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromField {
    /// No field, or none that holds an address.
    Missing,
    /// The domains of all addresses; `None` stands for one that has no readable domain.
    Domains(Vec<Option<Domain>>),
}

impl FromField {
    /// Reads the field from a header block. Time is linear in the size of the header.
    #[must_use]
    pub fn read(header: &HeaderBlock<'_>) -> Self {
        let mut from = FromField::Missing;
        header.fields().for_each(|field| from.add(&field));
        from
    }

    /// Adds what a field of the header says, for whoever goes through them anyway; any other field than
    /// `From:` says nothing.
    pub fn add(&mut self, field: &Field<'_>) {
        if !field.is("from") {
            return;
        }
        let mut line = Vec::with_capacity(field.raw.len() + 10);
        line.extend_from_slice(b"From:");
        line.extend_from_slice(field.raw);
        line.extend_from_slice(b"\r\n\r\n");
        let parsed = MessageParser::new().with_address_headers().parse_headers(&line);
        let mut found = Vec::new();
        if let Some(value) = parsed.as_ref().and_then(|message| message.headers().first()) {
            collect(&value.value, &mut found);
        }
        match self {
            FromField::Domains(domains) => domains.append(&mut found),
            FromField::Missing if found.is_empty() => {}
            FromField::Missing => *self = FromField::Domains(found),
        }
    }
}

fn collect(value: &HeaderValue<'_>, domains: &mut Vec<Option<Domain>>) {
    let HeaderValue::Address(address) = value else { return };
    let mut add = |address: Option<&str>| {
        if let Some((_, domain)) = address.and_then(|text| text.rsplit_once('@')) {
            let joined: String = domain.split_ascii_whitespace().collect();
            domains.push(joined.parse().ok());
        }
    };
    match address {
        Address::List(list) => list.iter().for_each(|a| add(a.address.as_deref())),
        Address::Group(groups) => {
            groups.iter().flat_map(|g| &g.addresses).for_each(|a| add(a.address.as_deref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_real_mail_holds_c3() {
        for (header, want) in [
            ("From: a@b.example\r\n", "b.example"),
            ("From: Marie <a@B.example>\r\n", "b.example"),
            ("From: \"x@evil.example\" <a@b.example>\r\n", "b.example"),
            ("From: =?utf-8?q?M=C3=A9?= <a@b.example>\r\n", "b.example"),
            ("From: a@b.example, c@d.example\r\n", "b.example d.example"),
            ("From: a@b.example\r\nFrom: c@d.example\r\n", "b.example d.example"),
            ("From: team: a@b.example, c@d.example;\r\n", "b.example d.example"),
            ("From: Marie\r\n <a@b.example>\r\n", "b.example"),
            ("From: (comment) a@b.example\r\n", "b.example"),
            ("from: <@relay.example:a@b.example>\r\n", "b.example"),
            ("From: a @ b . example\r\n", "b.example"),
            ("From: a@[192.0.2.1]\r\n", "?"),
            ("From: Marie\r\n", "missing"),
            ("From:\r\n", "missing"),
            ("Subject: x\r\n", "missing"),
        ] {
            let got = match FromField::read(&HeaderBlock::of(header.as_bytes())) {
                FromField::Missing => "missing".to_owned(),
                FromField::Domains(domains) => domains
                    .iter()
                    .map(|domain| domain.as_ref().map_or("?", Domain::as_str))
                    .collect::<Vec<_>>()
                    .join(" "),
            };
            assert_eq!(got, want, "{header:?}");
        }
    }
}
