//! The header of a message, and the source IP found in it.

use std::net::IpAddr;
use std::sync::LazyLock;

use waypost_inbound::{Because, GatewaySettings, InboundGateway, OwnLine, Source};
use waypost_types::HeaderBlock;

use crate::steer::Steer;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// One gateway for each of the three ways to look for the source.
static GATEWAYS: LazyLock<[InboundGateway; 3]> = LazyLock::new(|| {
    [(false, false), (true, false), (true, true)].map(|(detect_external_ip, strict)| {
        let addresses = vec!["192.0.2.2".to_owned(), "192.0.2.55".to_owned()];
        let settings =
            GatewaySettings { addresses, detect_external_ip, strict, ..GatewaySettings::default() };
        InboundGateway::new(&settings).unwrap()
    })
});

/// A message; the first byte chooses how the source is looked for.
///
/// The fields are parts of the header, in order, whatever the body is. The source is a listed
/// gateway's message's: an external address is public and not listed. Appending an older line never
/// changes an answer found in a newer one, nor does a line without a hop (E4, E5). Bare LF and CR LF
/// read alike.
pub fn header_block(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let choice = steer.byte();
    let message = steer.rest();
    let header = HeaderBlock::of(message);
    fields_are_parts_of(&header, message);

    let gateway = &GATEWAYS[usize::from(choice % 3)];
    let own = [OwnLine::Absent, OwnLine::FindOut, OwnLine::Present][usize::from(choice / 3 % 3)];
    let source = |header: &[u8]| gateway.source(CLIENT, own, &HeaderBlock::of(header));
    let (found, hops) = gateway.source_with_hops(CLIENT, own, &header);
    assert_eq!(source(message), found);
    if found.because == Because::FirstExternal {
        let ip = found.ip.unwrap();
        assert!(!gateway.lists(ip) && gateway.public().contains(ip), "{ip} is not external");
        assert_eq!(hops.listed.last().map(|hop| (hop.ip, hop.skipped)), Some((Some(ip), None)));
    }
    assert_eq!(found.because == Because::Internal, found.ip.is_none());

    let mut whole_lines = header.as_bytes().to_vec();
    if !whole_lines.is_empty() && !whole_lines.ends_with(b"\n") {
        whole_lines.extend_from_slice(b"\r\n");
    }
    let older = b"Received: from x (y [203.0.113.99]) by z; Tue, 24 Mar 2020 15:11:44 PST\r\n";
    let with_older = source(&[&*whole_lines, older].concat());
    if matches!(found.because, Because::FirstExternal | Because::PreviousHop) {
        assert_eq!(with_older, found, "an older line changes the answer");
    }
    let no_hop = b"Received: by 203.0.113.98 with SMTP id x; Tue, 24 Mar 2020 15:11:47 PST\r\n";
    let begins_with_fold = matches!(message.first(), Some(b' ' | b'\t'));
    if !begins_with_fold {
        assert_eq!(source(&[no_hop, message].concat()), found, "a line without a hop matters");
    }
    let elsewhere = IpAddr::from([198, 51, 100, 7]);
    assert_eq!(gateway.source(elsewhere, own, &header), Source::of_client(elsewhere));

    if !message.contains(&b'\r') {
        let crlf: Vec<u8> =
            message.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]);
        assert_eq!(source(&crlf), found, "line ends matter");
    }
}

fn fields_are_parts_of(header: &HeaderBlock<'_>, message: &[u8]) {
    let block = header.as_bytes();
    assert!(block.len() <= header.body_offset() && header.body_offset() <= message.len());
    assert!(message.starts_with(block));
    let mut end = 0;
    for field in header.fields() {
        assert!(field.offset >= end, "fields overlap");
        assert!(block[field.offset..].starts_with(field.name));
        assert!(!field.name.is_empty() && field.name.iter().all(|b| b.is_ascii_graphic()));
        assert!(!field.name.contains(&b':'));
        assert!(!field.unfolded().contains(&b'\n'), "a fold was left");
        end = field.offset + field.name.len() + field.raw.len();
        assert!(end < block.len());
    }
    let other_body = [&message[..header.body_offset()], b"To: x\r\n\r\n"].concat();
    if header.body_offset() > block.len() {
        let other = HeaderBlock::of(&other_body);
        assert!(other.fields().eq(header.fields()), "the body is read as header");
    }
}
