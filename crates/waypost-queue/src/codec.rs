//! Values as they stand in the store: version, length, checksum, payload.
//!
//! ```text
//! octet  0      version, 1
//! octets 1-4    length of the payload, big end first
//! octets 5-8    CRC-32C of the version, the length and the payload, big end first
//! octets 9-     payload: JSON for events, the bytes themselves for bodies
//! ```

use crate::Event;
use crate::store::weight;

/// Octets in front of every payload.
pub const FRAME_HEADER: usize = 9;

/// The largest payload of an event: 64 MiB, far above what a thousand recipients need.
pub const LARGEST_EVENT: usize = 64 << 20;

const VERSION: u8 = 1;

/// Why a stored value cannot be used. The value is set aside, the rest of the store is served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer octets than a frame has in front.
    #[error("a stored value has {0} octets; even an empty one has {FRAME_HEADER}: it was cut off")]
    Truncated(usize),
    /// Written by another version of the format.
    #[error(
        "a stored value has format version {0}, this program reads {VERSION}; run the version that wrote it"
    )]
    Version(u8),
    /// The length in front is not the length that follows.
    #[error(
        "a stored value says it has {said} octets and has {found}: it was cut off or overwritten"
    )]
    Length {
        /// What the frame says.
        said: usize,
        /// What is there.
        found: usize,
    },
    /// The checksum does not fit.
    #[error(
        "a stored value's checksum is {found:08x}, {said:08x} was written with it: it was damaged on disk"
    )]
    Checksum {
        /// What the frame says.
        said: u32,
        /// What the octets give.
        found: u32,
    },
    /// Larger than [`LARGEST_EVENT`].
    #[error(
        "an event of {0} octets is larger than {LARGEST_EVENT}; accept fewer recipients in a message"
    )]
    TooLarge(usize),
    /// The payload is intact, but is no event.
    #[error("a stored event cannot be read: {0}; it was written by another version of the program")]
    Payload(String),
}

/// The octets that go in front of `payload` in the store.
///
/// # Errors
/// [`DecodeError::TooLarge`] for a payload of 4 GiB or more.
pub fn frame_header(payload: &[u8]) -> Result<[u8; FRAME_HEADER], DecodeError> {
    let length = u32::try_from(payload.len())
        .map_err(|_| DecodeError::TooLarge(payload.len()))?
        .to_be_bytes();
    let checksum = checksum(length, payload).to_be_bytes();
    let [l0, l1, l2, l3] = length;
    let [c0, c1, c2, c3] = checksum;
    Ok([VERSION, l0, l1, l2, l3, c0, c1, c2, c3])
}

/// The payload of a stored value, checked. Linear time, no copy.
///
/// # Errors
/// [`DecodeError`] says what is wrong with the frame.
pub fn unframe(value: &[u8]) -> Result<&[u8], DecodeError> {
    let &[version, l0, l1, l2, l3, c0, c1, c2, c3, ref payload @ ..] = value else {
        return Err(DecodeError::Truncated(value.len()));
    };
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let length = [l0, l1, l2, l3];
    let said = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if said != payload.len() {
        return Err(DecodeError::Length { said, found: payload.len() });
    }
    let (said, found) = (u32::from_be_bytes([c0, c1, c2, c3]), checksum(length, payload));
    if said != found {
        return Err(DecodeError::Checksum { said, found });
    }
    Ok(payload)
}

/// An event as it stands in the store.
///
/// # Errors
/// [`DecodeError::TooLarge`] when its JSON is larger than [`LARGEST_EVENT`].
pub fn encode(event: &Event) -> Result<Vec<u8>, DecodeError> {
    // Roughly as large as it will be: an entry would outgrow a small one eight times.
    let mut value = Vec::with_capacity(FRAME_HEADER + weight(event));
    value.resize(FRAME_HEADER, 0);
    serde_json::to_writer(&mut value, event).map_err(|e| DecodeError::Payload(e.to_string()))?;
    let payload = value.get(FRAME_HEADER..).unwrap_or_default();
    if payload.len() > LARGEST_EVENT {
        return Err(DecodeError::TooLarge(payload.len()));
    }
    let header = frame_header(payload)?;
    for (place, octet) in value.iter_mut().zip(header) {
        *place = octet;
    }
    Ok(value)
}

/// The event of a stored value. Time and memory are linear in its length; any octets are safe.
///
/// # Errors
/// [`DecodeError`] says what is wrong.
pub fn decode(value: &[u8]) -> Result<Event, DecodeError> {
    let payload = unframe(value)?;
    if payload.len() > LARGEST_EVENT {
        return Err(DecodeError::TooLarge(payload.len()));
    }
    serde_json::from_slice(payload).map_err(|e| DecodeError::Payload(e.to_string()))
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&[VERSION]), &length), payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{entry, failed};
    use crate::{
        AdministratorsTold, Attempt, ConfigChange, ConfigOutcome, Ended, QueueChange, QueueCommand,
        QuotaCommit, SenderTold, SpamRelayed,
    };
    use waypost_types::{QueueId, Timestamp};

    fn events() -> Vec<Event> {
        let (id, at) = (QueueId::new(7), Timestamp::from_millis(5));
        vec![
            Event::Accepted(Box::new(entry(
                7,
                "a@b.example",
                &["c@d.example", "\"é x\"@e.example"],
            ))),
            Event::Attempted(Attempt {
                id,
                at,
                number: 1,
                results: vec![Ended::new(0, failed(550, "no\nsuch"))],
                next: Some(at),
                delay_told: false,
            }),
            Event::Held { id, at, by: "root".into() },
            Event::Released { id, at, by: "root".into(), deliveries: vec![] },
            Event::Released { id, at, by: "room".into(), deliveries: vec![0, 2] },
            Event::AdministratorsTold(AdministratorsTold {
                at,
                organization: "Solarmora".into(),
                kind: "abuse".into(),
                user: None,
                client: Some("192.0.2.7".parse().unwrap()),
            }),
            Event::SpamRelayed(SpamRelayed {
                at,
                organization: "Solarmora".into(),
                user: "marie@solarmora.com".parse().unwrap(),
            }),
            Event::SenderTold(SenderTold { at, about: vec![0, u64::MAX] }),
            Event::Removed { id, at, by: "root".into() },
            Event::Done { id, at },
            Event::QuotaCommitted(QuotaCommit {
                at,
                organization: "Solarmora".into(),
                user: None,
                recipients: vec!["c@d.example".parse().unwrap()],
                login: None,
                client: None,
            }),
            Event::QuotaCommitted(QuotaCommit {
                at,
                organization: "Solarmora".into(),
                user: None,
                recipients: vec!["c@d.example".parse().unwrap()],
                login: Some("printer@solarmora.com".parse().unwrap()),
                client: Some("2001:db8::".parse().unwrap()),
            }),
            Event::ConfigChanged(ConfigChange {
                at,
                version: "3".into(),
                who: "root".into(),
                what: "from version 2 to 3".into(),
                from: Some("2".into()),
                outcome: ConfigOutcome::Refused,
                lines: vec!["server.retry.first: \"5m\" -> \"1m\"".into()],
            }),
            Event::QueueChanged(QueueChange {
                at,
                who: "root".into(),
                command: QueueCommand::Remove {
                    id,
                    sender: "a@b.example".parse().unwrap(),
                    owed: 2,
                },
            }),
        ]
    }

    #[test]
    fn what_was_written_is_read() {
        for event in events() {
            let value = encode(&event).unwrap();
            assert_eq!(decode(&value), Ok(event));
        }
        assert_eq!(unframe(&frame_header(b"").unwrap()), Ok(b"".as_slice()));
    }

    /// Spools outlive programs: what was once written must stay readable.
    #[test]
    fn the_first_version_stays_readable() {
        let entry = concat!(
            r#"{"Accepted":{"id":"0000000000007","accepted_at":5,"sender":"a@b.example","#,
            r#""parameters":{"body":"SevenBit","smtputf8":false,"ret":null,"envid":null},"#,
            r#""client":"192.0.2.1","trace":"Received: x\r\n","deliveries":[{"delivery":{"#,
            r#""recipient":"c@d.example","original_recipient":"c@d.example","#,
            r#""sender":"a@b.example","destination":"Mx","tls":"Opportunistic","changes":{"#,
            r#""added_headers":[],"subject_prefix":null,"remove_attachments":false},"#,
            r#""suppress_bounces":false,"spam":false,"notify":"Unsaid","orcpt":null}}],"#,
            r#""decision":"{}","size":20,"header_size":14}}"#
        );
        let attempted = concat!(
            r#"{"Attempted":{"id":"0000000000007","at":5,"number":1,"results":[{"delivery":0,"#,
            r#""outcome":{"Deferred":{"scope":"Host","host":"mx.example:25","reply":"#,
            r#"{"code":451,"enhanced":[4,4,1],"text":"no"}}}}],"next":9}}"#
        );
        for json in [
            entry,
            attempted,
            r#"{"Done":{"id":"0000000000007","at":5}}"#,
            r#"{"Held":{"id":"0000000000007","at":5,"by":"root"}}"#,
            r#"{"Released":{"id":"0000000000007","at":5,"by":"root"}}"#,
            r#"{"AdministratorsTold":{"at":5,"organization":"S","kind":"abuse","user":"m@s.example"}}"#,
            r#"{"AdministratorsTold":{"at":5,"organization":"S","kind":"near","client":"2001:db8::"}}"#,
            r#"{"SpamRelayed":{"at":5,"organization":"S","user":"m@s.example"}}"#,
            r#"{"SenderTold":{"at":5,"about":[18446744073709551615]}}"#,
            r#"{"QuotaCommitted":{"at":5,"organization":"S","user":null,"recipients":["c@d.example"]}}"#,
            r#"{"QuotaCommitted":{"at":5,"organization":"S","user":null,"recipients":[],"login":"p@s.example","client":"2001:db8::"}}"#,
            r#"{"ConfigChanged":{"at":5,"version":"1","who":"root","what":"x"}}"#,
            r#"{"ConfigChanged":{"at":5,"version":"2","who":"root","what":"x","from":"1","outcome":"refused","lines":["y"]}}"#,
            r#"{"QueueChanged":{"at":5,"who":"root","command":{"hold":{"id":"0000000000007"}}}}"#,
            r#"{"QueueChanged":{"at":5,"who":"root","command":{"retry":{"scope":{"route":"edge"},"messages":3}}}}"#,
        ] {
            let framed =
                [frame_header(json.as_bytes()).unwrap().as_slice(), json.as_bytes()].concat();
            assert!(decode(&framed).is_ok(), "{json}: {:?}", decode(&framed));
        }
        assert_eq!(frame_header(b"abc").unwrap(), [1, 0, 0, 0, 3, 241, 25, 218, 89]);
    }

    #[test]
    fn every_damaged_octet_is_noticed() {
        let value = encode(&events()[2]).unwrap();
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut damaged = value.clone();
                damaged[at] ^= 1 << bit;
                assert!(decode(&damaged).is_err(), "octet {at} bit {bit}");
            }
            assert!(decode(&value[..at]).is_err(), "cut at {at}");
        }
        let mut longer = value.clone();
        longer.push(0);
        assert!(matches!(decode(&longer), Err(DecodeError::Length { .. })));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let framed = |payload: &[u8]| [frame_header(payload).unwrap().as_slice(), payload].concat();
        for (value, want) in [
            (vec![], DecodeError::Truncated(0)),
            (vec![1; 8], DecodeError::Truncated(8)),
            (vec![2; 9], DecodeError::Version(2)),
            (vec![1, 0, 0, 0, 1, 0, 0, 0, 0], DecodeError::Length { said: 1, found: 0 }),
        ] {
            assert_eq!(decode(&value), Err(want));
        }
        for payload in ["", "{}", "null", "{\"Done\":{}}", "{\"Later\":1}", "[[[[[[[["] {
            let error = decode(&framed(payload.as_bytes())).unwrap_err();
            assert!(matches!(error, DecodeError::Payload(_)), "{payload}: {error}");
        }
        let deep = framed("[".repeat(100_000).as_bytes());
        assert!(decode(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_octets_are_safe(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&value);
        }

        #[test]
        fn any_payload_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let value = [frame_header(&payload).unwrap().as_slice(), &payload].concat();
            prop_assert_eq!(unframe(&value), Ok(payload.as_slice()));
            let _ = decode(&value);
        }
    }
}
