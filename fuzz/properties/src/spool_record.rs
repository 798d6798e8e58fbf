//! Events as they stand in the spool.

use waypost_queue::{decode, encode, frame_header, unframe};

use crate::steer::Steer;

/// A stored value: with an odd first byte the rest is framed first, else it is the frame itself.
///
/// Nothing panics; what decodes is encoded to something that decodes to the same; a value with one
/// bit turned never passes for another (its checksum says so).
pub fn spool_record(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let framed = steer.byte() % 2 == 1;
    let rest = steer.rest();
    let value = match framed {
        true => [&frame_header(rest).unwrap(), rest].concat(),
        false => rest.to_vec(),
    };
    assert!(!framed || unframe(&value) == Ok(rest));
    let Ok(event) = decode(&value) else { return };
    let again = encode(&event).unwrap();
    assert_eq!(decode(&again).as_ref(), Ok(&event), "decode(encode(x)) is not x");
    assert_eq!(encode(&decode(&again).unwrap()).unwrap(), again);

    let mut turned = again.clone();
    let at = rest.len() % turned.len();
    turned[at] ^= 1 << (rest.len() % 8);
    assert!(decode(&turned).is_err(), "bit {} of octet {at} is not covered", rest.len() % 8);
}
