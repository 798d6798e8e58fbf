//! The hashes of a message's body.

use mail_auth::common::crypto::{HashAlgorithm, HashContext, HashImpl, Sha1, Sha256};
use mail_auth::dkim::Canonicalization;
use mail_auth::dkim::canonicalize::BodyHasher;
use memchr::memmem;

/// A hash over a body, as signatures name it.
pub(super) type BodyHash = (Canonicalization, HashAlgorithm, u64, Vec<u8>);

/// Hashes a dot-stuffed body; the dots of stuffing are left out on the way, so nothing is copied.
pub(super) fn hashes(
    stuffed: &[u8],
    wanted: &[(Canonicalization, HashAlgorithm)],
) -> Vec<BodyHash> {
    wanted
        .iter()
        .map(|(canonicalization, algorithm)| {
            let hash = match algorithm {
                HashAlgorithm::Sha1 => hash::<Sha1>(stuffed, *canonicalization),
                HashAlgorithm::Sha256 => hash::<Sha256>(stuffed, *canonicalization),
            };
            (*canonicalization, *algorithm, 0, hash)
        })
        .collect()
}

fn hash<H: HashImpl>(stuffed: &[u8], canonicalization: Canonicalization) -> Vec<u8> {
    let mut hasher = BodyHasher::new(H::hasher(), canonicalization, 0);
    let mut from = usize::from(stuffed.starts_with(b"."));
    for at in memmem::find_iter(stuffed, b"\r\n.") {
        hasher.write(stuffed.get(from..at + 2).unwrap_or_default());
        from = at + 3;
    }
    hasher.write(stuffed.get(from..).unwrap_or_default());
    let (hasher, _) = hasher.finish();
    hasher.complete().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waypost_smtp::end_of_data::stuff;

    use super::*;

    proptest! {
        #[test]
        fn a_stuffed_body_has_the_hash_of_the_body(
            lines in proptest::collection::vec("[. a\t]{0,5}", 0..10),
        ) {
            let body = lines.iter().fold(String::new(), |text, line| text + line + "\r\n");
            let stuffed = stuff(body.as_bytes());
            for canonicalization in [Canonicalization::Relaxed, Canonicalization::Simple] {
                for algorithm in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
                    let whole = algorithm.hash(canonicalization.canonical_body(body.as_bytes(), 0));
                    let got = hashes(&stuffed, &[(canonicalization, algorithm)]);
                    prop_assert_eq!(&got[0].3, whole.as_ref());
                }
            }
        }
    }
}
