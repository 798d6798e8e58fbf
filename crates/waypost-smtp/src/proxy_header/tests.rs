use proptest::prelude::*;

use super::*;

/// `client>server`, `nobody`, `more`, or the error.
fn shown(octets: &[u8]) -> String {
    match read(octets) {
        Ok(Progress::More) => "more".into(),
        Ok(Progress::Whole { announced, octets: length }) => {
            let who = match announced {
                Announced::Nobody => "nobody".into(),
                Announced::Client { client, server } => format!("{client}>{server}"),
            };
            format!("{who} {length}")
        }
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn lines_of_version_1() {
    let unknown = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_LINE - 16));
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LONGEST_LINE - 15));
    for (line, want) in [
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\r\n", "192.0.2.7:40000>203.0.113.1:25 43"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 0 65535\r\nEHLO", "192.0.2.7:0>203.0.113.1:65535 42"),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            "255.255.255.255:65535>255.255.255.255:65535 56",
        ),
        ("PROXY TCP6 2001:db8::7 2001:DB8::1 1 2\r\n", "[2001:db8::7]:1>[2001:db8::1]:2 40"),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", "192.0.2.7:1>[::1]:2 37"),
        ("PROXY UNKNOWN\r\n", "nobody 15"),
        ("PROXY UNKNOWN ::1 ::2 x\r\n220", "nobody 25"),
        (&unknown, "nobody 107"),
        ("", "more"),
        ("P", "more"),
        ("PROXY", "more"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25", "more"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\r", "more"),
        ("PROXY nonsense", "more"),
        (&too_long, "LineTooLong"),
        ("EHLO client.example\r\n", "Missing"),
        ("POST / HTTP/1.1\r\n", "Missing"),
        ("proxy TCP4 192.0.2.7 203.0.113.1 40000 25\r\n", "Missing"),
        ("PROXY\r\n", "Missing"),
        ("PROXY\tUNKNOWN\r\n", "Missing"),
        ("PROXY \r\n", "Line(Protocol)"),
        ("PROXY  TCP4 192.0.2.7 203.0.113.1 40000 25\r\n", "Line(Protocol)"),
        ("PROXY UDP4 192.0.2.7 203.0.113.1 40000 25\r\n", "Line(Protocol)"),
        ("PROXY UNKNOWNS\r\n", "Line(Protocol)"),
        ("PROXY tcp4 192.0.2.7 203.0.113.1 40000 25\r\n", "Line(Protocol)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000\r\n", "Line(Words)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25 \r\n", "Line(Words)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25 1\r\n", "Line(Words)"),
        ("PROXY TCP4  192.0.2.7 203.0.113.1 40000 25\r\n", "Line(Words)"),
        ("PROXY TCP4 192.0.2.07 203.0.113.1 40000 25\r\n", "Line(Address)"),
        ("PROXY TCP4 192.0.2.256 203.0.113.1 40000 25\r\n", "Line(Address)"),
        ("PROXY TCP4 2001:db8::7 2001:db8::1 40000 25\r\n", "Line(Address)"),
        ("PROXY TCP6 192.0.2.7 203.0.113.1 40000 25\r\n", "Line(Address)"),
        ("PROXY TCP6 fe80::1%eth0 ::1 40000 25\r\n", "Line(Address)"),
        ("PROXY TCP4 localhost 203.0.113.1 40000 25\r\n", "Line(Address)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 65536 25\r\n", "Line(Port)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 040 25\r\n", "Line(Port)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 +40 25\r\n", "Line(Port)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 -1 25\r\n", "Line(Port)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\n", "Line(Octet)"),
        ("PROXY TCP4 192.0.2.7 203.0.113.1 40000 25\rEHLO", "Line(Octet)"),
        ("PROXY UNKNOWN \0\r\n", "Line(Octet)"),
        ("PROXY UNKNOWN \u{e9}\r\n", "Line(Octet)"),
        ("PROXY TCP4\t192.0.2.7 203.0.113.1 40000 25\r\n", "Line(Octet)"),
    ] {
        assert_eq!(shown(line.as_bytes()), want, "{line:?}");
    }
}

/// A header of version 2 made of a command, a family and what follows.
fn binary(command: u8, family: u8, behind: &[u8]) -> Vec<u8> {
    let length = u16::try_from(behind.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, behind].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

const V4: &[u8] = &[192, 0, 2, 7, 203, 0, 113, 1, 0x9c, 0x40, 0, 25];

/// A header over IPv4 with a CRC32C between two other TLVs.
fn summed() -> Vec<u8> {
    let tlvs = [tlv(4, &[0; 9]), tlv(3, &[0; 4]), tlv(0xea, b"vpce-1")].concat();
    let mut header = binary(0x21, 0x11, &[V4, &tlvs].concat());
    let sum = crc32c::crc32c(&header).to_be_bytes();
    header[16 + 12 + 12 + 3..][..4].copy_from_slice(&sum);
    header
}

#[test]
fn headers_of_version_2() {
    let mapped = [&[0; 10][..], &[255, 255, 192, 0, 2, 7], &[0; 15], &[1], &[0, 1, 0, 2]].concat();
    let v6 = |last: u8| [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
    let v6 = [v6(7), v6(1), vec![0, 1, 0, 2]].concat();
    let ssl = tlv(0x20, &[7, 0, 0, 0, 0, 0x21, 0, 7, b'T', b'L', b'S', b'v', b'1', b'.', b'3']);
    let longest = [V4, &tlv(4, &[0; 4096 - 12 - 3])].concat();
    let mut wrong_sum = summed();
    wrong_sum[16] ^= 1;
    let two_sums = {
        let (mut header, again) = (summed(), tlv(3, &[0; 4]));
        header.extend(&again);
        header[15] += 7;
        let at = 16 + 12 + 12 + 3;
        header[at..at + 4].fill(0);
        let sum = crc32c::crc32c(&header).to_be_bytes();
        header[at..at + 4].copy_from_slice(&sum);
        header
    };
    for (octets, want) in [
        (binary(0x21, 0x11, V4), "192.0.2.7:40000>203.0.113.1:25 28"),
        ([binary(0x21, 0x11, V4), b"EHLO".to_vec()].concat(), "192.0.2.7:40000>203.0.113.1:25 28"),
        (binary(0x21, 0x21, &v6), "[2001:db8::7]:1>[2001:db8::1]:2 52"),
        (binary(0x21, 0x21, &mapped), "192.0.2.7:1>[::1]:2 52"),
        (binary(0x21, 0x11, &[V4, &ssl].concat()), "192.0.2.7:40000>203.0.113.1:25 46"),
        (binary(0x21, 0x11, &longest), "192.0.2.7:40000>203.0.113.1:25 4112"),
        (summed(), "192.0.2.7:40000>203.0.113.1:25 56"),
        (binary(0x20, 0, b""), "nobody 16"),
        (binary(0x20, 0x11, V4), "nobody 28"),
        (binary(0x20, 0xff, b"whatever"), "nobody 24"),
        (binary(0x21, 0, b"whatever"), "nobody 24"),
        (binary(0x21, 0x12, V4), "nobody 28"),
        (binary(0x21, 0x31, &[0; 216]), "nobody 232"),
        (b"\r".to_vec(), "more"),
        (b"\r\n\r\n\0\r\nQUIT\n".to_vec(), "more"),
        (binary(0x21, 0x11, V4)[..27].to_vec(), "more"),
        (b"\r\nQUIT\r\n".to_vec(), "Missing"),
        (b"\r\n\r\n\0\r\nQUIT\r\n".to_vec(), "Missing"),
        (binary(0x11, 0x11, V4), "Version(1)"),
        (binary(0x31, 0x11, V4), "Version(3)"),
        (binary(0x22, 0x11, V4), "Command(2)"),
        (binary(0x21, 0x13, V4), "Family(19)"),
        (binary(0x21, 0x41, V4), "Family(65)"),
        (binary(0x21, 0x10, V4), "Family(16)"),
        (binary(0x21, 0x11, &V4[..11]), "TooShort { octets: 11, needed: 12 }"),
        (binary(0x21, 0x21, V4), "TooShort { octets: 12, needed: 36 }"),
        (binary(0x21, 0x31, V4), "TooShort { octets: 12, needed: 216 }"),
        (binary(0x21, 0x11, &[V4, &[4]].concat()), "Tlv"),
        (binary(0x21, 0x11, &[V4, &[4, 0, 1]].concat()), "Tlv"),
        (binary(0x21, 0x11, &[V4, &tlv(3, &[0; 5])].concat()), "Tlv"),
        (two_sums, "Tlv"),
        ([&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11, 0x10, 1]].concat(), "TooLong(4097)"),
        ([&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20, 0, 0xff, 0xff]].concat(), "TooLong(65535)"),
    ] {
        assert_eq!(shown(&octets), want, "{}", octets.escape_ascii());
    }
    assert!(shown(&wrong_sum).starts_with("Checksum"), "{}", shown(&wrong_sum));
}

#[test]
fn errors_say_what_to_do() {
    let text = read(b"EHLO x\r\n").unwrap_err().to_string();
    assert!(text.contains("does not begin with a PROXY header; let the proxy send one"), "{text}");
    let text = read(b"PROXY TCP5 \r\n").unwrap_err().to_string();
    assert_eq!(text, "the PROXY line is wrong in its protocol (version 1, section 2.1)");
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

/// Octets that are headers, nearly headers, and others.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let whole = (address(), address(), any::<bool>()).prop_map(|(client, server, line)| {
        let announced = Announced::Client { client, server };
        if line { announced.to_line() } else { announced.to_binary() }
    });
    let any_binary = (any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(command, family, behind)| binary(command & 0x23, family & 0x33, &behind));
    let start = prop_oneof![
        whole,
        any_binary,
        Just(summed()),
        "PROXY [TCP46 UNKOW0-9.:a-f\r\n]{0,120}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    (start, any::<(prop::sample::Index, u8, bool)>(), prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(mut octets, (at, other, change), behind)| {
            if change && !octets.is_empty() {
                let at = at.index(octets.len());
                octets[at] = other;
            }
            octets.extend(behind);
            octets
        })
}

proptest! {
    /// Reading octet by octet ends where reading all at once does, with the same verdict.
    #[test]
    fn cuts_do_not_matter(octets in octets()) {
        let whole = read(&octets);
        let mut ended = None;
        for end in 0..=octets.len() {
            let now = read(&octets[..end]);
            if now != Ok(Progress::More) {
                ended = Some((end, now));
                break;
            }
        }
        match (whole, ended) {
            (Ok(Progress::More), None) => {}
            (Ok(Progress::Whole { octets: length, .. }), Some((end, now))) => {
                prop_assert_eq!(now, whole);
                prop_assert_eq!(end, length, "an octet behind the header was needed");
            }
            (Err(_), Some((_, now))) => prop_assert_eq!(now, whole),
            (whole, ended) => prop_assert!(false, "{:?} and {:?}", whole, ended),
        }
    }

    #[test]
    fn what_is_written_is_read(client in address(), server in address(), behind in "[a-z\r\n]{0,9}") {
        let want = Announced::client(client, server);
        for header in [want.to_line(), want.to_binary()] {
            let all = [&header[..], behind.as_bytes()].concat();
            prop_assert_eq!(read(&all), Ok(Progress::Whole { announced: want, octets: header.len() }));
            prop_assert!(header.len() <= LONGEST_LINE);
        }
    }
}
