//! The header of a proxy, whatever begins a connection.

use waypost_smtp::proxy_header::{
    Announced, LONGEST, LONGEST_LINE, Progress, ProxyHeaderError, read,
};

/// The first octets of a connection.
///
/// Read octet by octet they come to the same verdict as read at once, and a header is whole with its last
/// octet, neither before nor behind. No more than the longest header is ever asked for. What is read is
/// written, in both versions, to what reads as the same. What a naive reader of lines makes of a line is
/// what is read.
pub fn proxy_header(bytes: &[u8]) {
    let whole = read(bytes);
    let ended = (0..=bytes.len().min(LONGEST + 1))
        .map(|end| (end, read(&bytes[..end])))
        .find(|(_, now)| *now != Ok(Progress::More));
    match (whole, ended) {
        (Ok(Progress::More), None) => {
            let most = if bytes.first() == Some(&b'P') { LONGEST_LINE } else { LONGEST };
            assert!(bytes.len() < most, "{} octets are not enough", bytes.len());
        }
        (Ok(Progress::Whole { announced, octets }), Some((end, now))) => {
            assert_eq!(now, whole, "cuts matter: {}", shown(bytes));
            assert_eq!(end, octets, "the length is wrong: {}", shown(bytes));
            naive_line(&bytes[..octets], announced);
            written_and_read(announced);
        }
        (Err(_), Some((_, now))) => assert_eq!(now, whole, "cuts matter: {}", shown(bytes)),
        (whole, ended) => panic!("{whole:?} at once, {ended:?} by octets: {}", shown(bytes)),
    }
    if !bytes.starts_with(b"P") && !bytes.starts_with(b"\r") && !bytes.is_empty() {
        assert_eq!(whole, Err(ProxyHeaderError::Missing));
    }
}

fn written_and_read(announced: Announced) {
    for header in [announced.to_line(), announced.to_binary()] {
        let behind = [&header[..], b"EHLO"].concat();
        let want = Progress::Whole { announced, octets: header.len() };
        assert_eq!(read(&behind), Ok(want), "{}", shown(&header));
    }
}

/// A line of version 1 is one of ours but for the text of its addresses, or says UNKNOWN.
fn naive_line(header: &[u8], announced: Announced) {
    let Some(line) = header.strip_prefix(b"PROXY ") else { return };
    assert!(header.len() <= LONGEST_LINE);
    let text = std::str::from_utf8(line).unwrap().strip_suffix("\r\n").unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    match announced {
        Announced::Nobody => assert_eq!(words[0], "UNKNOWN", "{text}"),
        Announced::Client { client, server } => {
            let [family, from, to, from_port, to_port] = words[..] else { panic!("{text}") };
            let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
            assert_eq!(family == "TCP4", ip(from).is_ipv4(), "{text}");
            assert_eq!(ip(from).is_ipv4(), ip(to).is_ipv4(), "{text}");
            assert_eq!(
                (ip(from).to_canonical(), ip(to).to_canonical()),
                (client.ip(), server.ip())
            );
            assert_eq!(
                (from_port, to_port),
                (&*client.port().to_string(), &*server.port().to_string())
            );
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
