//! Lines that claim to be results of ours.

use waypost_auth::without_forged;
use waypost_types::{Domain, HeaderBlock};

/// A message as it came.
///
/// What is left has no line that claims our name, and is what came without some whole lines: the other
/// fields stay in their order, and so does the body (E2, RFC 8601 section 5).
pub fn forged_results(bytes: &[u8]) {
    let by: Domain = "mx.example".parse().unwrap();
    let (left, removed) = without_forged(bytes.to_vec(), &by);
    let (again, none) = without_forged(left.clone(), &by);
    assert_eq!((&again, none), (&left, 0), "a forged line is left");

    let (came, kept) = (HeaderBlock::of(bytes), HeaderBlock::of(&left));
    let body = |header: HeaderBlock<'_>, message: &[u8]| message[header.body_offset()..].to_vec();
    assert_eq!(body(came, bytes), body(kept, &left), "the body is another one");
    let is_result = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"authentication-results")
            || name.eq_ignore_ascii_case(b"received-spf")
    };
    let mut fields = kept.fields();
    let mut next = fields.next();
    let mut missing = 0;
    for field in came.fields() {
        match next {
            Some(stays) if (stays.name, stays.raw) == (field.name, field.raw) => {
                next = fields.next();
            }
            _ => {
                assert!(is_result(field.name), "a field is gone that is no result");
                missing += 1;
            }
        }
    }
    assert!(next.is_none(), "a field is new");
    assert_eq!(missing, removed);
}
