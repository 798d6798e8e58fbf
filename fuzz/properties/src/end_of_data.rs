//! Where a message ends.

use waypost_smtp::client::{Message, SharedBytes};
use waypost_smtp::end_of_data::{Data, DataFault, DataReader, stuff, unstuff};

use crate::steer::{Steer, chunks, find};

/// Bytes behind `354`: first byte the cuts, second one the limit of size.
///
/// A three-line model says where the message ends: nothing but CR LF `.` CR LF ends it, or `.` CR LF
/// at once (RFC 5321 section 4.1.1.4). Cuts make no difference. What is handed out can be sent on, and
/// what is refused has the fault that the model finds first. Stuffing is undone by unstuffing, and
/// what was stuffed arrives whole.
pub fn end_of_data(bytes: &[u8]) {
    let mut steer = Steer::new(bytes);
    let (seed, limit) = (steer.byte(), u64::from(steer.byte()) * 4);
    let wire = steer.rest();

    let end = model_end(wire);
    let (used, whole) = read(&[wire], limit);
    assert_eq!(used, end.unwrap_or(wire.len()), "the message ends elsewhere");
    assert_eq!(read(&chunks(wire, seed), limit), (used, whole.clone()), "cuts matter");
    assert_eq!(whole.is_some(), end.is_some());
    if let (Some(end), Some(result)) = (end, whole) {
        judge(&wire[..end], limit, result);
    }

    assert_eq!(unstuff(&stuff(wire)), wire, "unstuff(stuff(x)) is not x");
    if model_fault(wire).is_none() && (wire.is_empty() || wire.ends_with(b"\r\n")) {
        let sent = [&*stuff(wire), b".\r\n", b"QUIT\r\n"].concat();
        let (used, result) = read(&[&sent], u64::MAX);
        assert_eq!(used, sent.len() - 6, "a clean message ended early, or late");
        assert_eq!(unstuff(&result.unwrap().unwrap().stuffed), wire);
    }
}

/// The model: one line for each of the two ends, one for none.
fn model_end(wire: &[u8]) -> Option<usize> {
    match wire.starts_with(b".\r\n") {
        true => Some(3),
        false => find(wire, b"\r\n.\r\n").map(|at| at + 5),
    }
}

/// The first octet that may not stand where it stands.
fn model_fault(wire: &[u8]) -> Option<DataFault> {
    wire.iter().enumerate().find_map(|(at, octet)| match octet {
        b'\r' if wire.get(at + 1) != Some(&b'\n') => Some(DataFault::BareCr),
        b'\n' if at == 0 || wire[at - 1] != b'\r' => Some(DataFault::BareLf),
        0 => Some(DataFault::Nul),
        _ => None,
    })
}

/// How much was taken of the chunks, and the message if it ended.
fn read(parts: &[&[u8]], limit: u64) -> (usize, Option<Result<Data, DataFault>>) {
    let mut reader = DataReader::new(limit);
    let mut used = 0;
    for part in parts {
        let taken = reader.read(part);
        used += taken;
        assert!(taken == part.len() || reader.is_complete(), "octets were left in mid-message");
    }
    assert_eq!(reader.octets_read(), used as u64);
    let complete = reader.is_complete();
    (used, complete.then(|| reader.finish()))
}

fn judge(wire: &[u8], limit: u64, result: Result<Data, DataFault>) {
    let stuffed = &wire[..wire.len() - 3];
    let size = unstuff(stuffed).len() as u64;
    match (model_fault(wire), size > limit, result) {
        (Some(fault), _, result) => assert_eq!(result, Err(fault)),
        (None, true, result) => assert_eq!(result, Err(DataFault::TooBig { limit })),
        (None, false, result) => {
            let data = result.unwrap();
            assert_eq!((&*data.stuffed, data.size), (&*stuff(&unstuff(stuffed)), size));
            let message = Message::new([SharedBytes::new(data.stuffed)]).unwrap();
            assert_eq!(message.octets(), size, "the two sides count size differently");
        }
    }
}
