//! The DKIM signatures of a message, as far as they are worth a look.

use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::common::headers::Header;
use mail_auth::dkim::{Canonicalization, DkimError, Signature};
use mail_auth::{AuthenticatedMessage, DkimOutput, Error};
use memchr::memchr;
use waypost_auth::{Dkim, DkimResult, MAX_SIGNATURES};
use waypost_types::HeaderBlock;

/// Header fields of a message whose signatures are verified. Each name that a signature covers is looked
/// for among them.
const MAX_FIELDS: usize = 2000;

/// Names that a signature may cover.
const MAX_COVERED: usize = 200;

/// The signatures of a message: those to be verified, in a form that the library takes, and verdicts on
/// the others.
pub(super) struct Signatures<'x> {
    /// For the library; without body hashes yet.
    pub(super) message: AuthenticatedMessage<'x>,
    /// What is known without a key.
    refused: Vec<Dkim>,
}

impl<'x> Signatures<'x> {
    /// Reads the first signatures of a header, dots of stuffing removed.
    pub(super) fn of(header: &'x [u8]) -> Self {
        let mut message = AuthenticatedMessage { raw_message: header, ..Default::default() };
        let mut refused = Vec::new();
        let mut seen = 0;
        let mut signatures = Vec::new();
        for field in HeaderBlock::of(header).fields() {
            let Some(value) = value_with_line_end(header, field.offset, field.raw.len()) else {
                continue;
            };
            // One more than may be shows that there are too many.
            if message.headers.len() <= MAX_FIELDS {
                message.headers.push((field.name, value));
            }
            if field.is("dkim-signature") && seen < MAX_SIGNATURES {
                seen += 1;
                match Signature::parse(value) {
                    Ok(signature) => signatures.push(Header::new(field.name, value, signature)),
                    Err(error) => refused.push(dkim(DkimResult::Neutral, None, words(&error))),
                }
            }
        }
        let crowded = message.headers.len() > MAX_FIELDS;
        for mut signature in signatures {
            let why = match crowded {
                true => Some((DkimResult::Policy, "the message has too many header fields")),
                false => unacceptable(&signature.header),
            };
            match why {
                Some((result, why)) => refused.push(dkim(result, Some(&signature.header), why)),
                None => {
                    // Reports to the signer are not made, so their addresses are not looked up.
                    signature.header.r = false;
                    message.dkim_headers.push(signature);
                }
            }
        }
        Self { message, refused }
    }

    /// The hashes of the body that are needed: four at most.
    pub(super) fn hashes(&self) -> Vec<(Canonicalization, HashAlgorithm)> {
        let mut wanted = Vec::new();
        for signature in &self.message.dkim_headers {
            let hash = (signature.header.cb, HashAlgorithm::from(signature.header.a));
            if !wanted.contains(&hash) {
                wanted.push(hash);
            }
        }
        wanted
    }

    /// What the library would say if it could ask for no key.
    pub(super) fn unanswered(&self) -> Vec<DkimOutput<'_>> {
        let later = || Error::Dns(mail_auth::DnsError::Resolver("time-out".to_owned()));
        let signatures = self.message.dkim_headers.iter();
        signatures.map(|one| DkimOutput::temp_err(later()).with_signature(&one.header)).collect()
    }

    /// The results, with what was found out by the library.
    pub(super) fn results(&self, outputs: &[DkimOutput<'_>]) -> Vec<Dkim> {
        let verified = outputs.iter().map(|output| {
            let (result, why) = match output.result() {
                mail_auth::DkimResult::Pass => (DkimResult::Pass, ""),
                mail_auth::DkimResult::Fail(error) => (DkimResult::Fail, words(error)),
                // What RFC 8601 calls a failure: the message was changed.
                mail_auth::DkimResult::Neutral(
                    error @ Error::Dkim(DkimError::FailedBodyHashMatch),
                ) => (DkimResult::Fail, words(error)),
                mail_auth::DkimResult::Neutral(error) => (DkimResult::Neutral, words(error)),
                mail_auth::DkimResult::PermError(error) => (DkimResult::PermError, words(error)),
                mail_auth::DkimResult::TempError(error) => (DkimResult::TempError, words(error)),
                mail_auth::DkimResult::None => (DkimResult::Neutral, ""),
            };
            dkim(result, output.signature(), why)
        });
        verified.chain(self.refused.iter().cloned()).collect()
    }
}

/// Why a signature is not worth a look at its key.
fn unacceptable(signature: &Signature) -> Option<(DkimResult, &'static str)> {
    if signature.l > 0 {
        return Some((DkimResult::Policy, "a part of the body is not signed"));
    }
    if HashAlgorithm::from(signature.a) == HashAlgorithm::Sha1 {
        return Some((DkimResult::Policy, "SHA-1 is not accepted, see RFC 8301"));
    }
    if signature.h.len() > MAX_COVERED {
        return Some((DkimResult::Policy, "the signature covers too many names"));
    }
    if !signature.h.iter().any(|name| name.eq_ignore_ascii_case("from")) {
        return Some((DkimResult::PermError, "the signature does not cover From"));
    }
    None
}

/// The value of a field as it stands, with its line end.
fn value_with_line_end(header: &[u8], offset: usize, raw: usize) -> Option<&[u8]> {
    let field = header.get(offset..)?;
    let value = field.get(memchr(b':', field)? + 1..)?;
    let rest = value.get(raw..)?;
    let line_end = match rest {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        _ => 0,
    };
    value.get(..raw + line_end)
}

fn dkim(result: DkimResult, signature: Option<&Signature>, because: &str) -> Dkim {
    let printable = |text: &str| {
        text.chars().filter(char::is_ascii_graphic).take(255).collect::<String>().into()
    };
    Dkim {
        result,
        domain: printable(signature.map_or("", |signature| &signature.d)),
        selector: printable(signature.map_or("", |signature| &signature.s)),
        because: because.into(),
    }
}

/// The reason in words of our own: none come from the message or the DNS.
fn words(error: &Error) -> &'static str {
    match error {
        Error::Dkim(DkimError::FailedBodyHashMatch) => "the body was changed",
        Error::Dkim(DkimError::FailedAuidMatch) => "i= is outside of d=",
        Error::Dkim(DkimError::RevokedPublicKey) => "the key is revoked",
        Error::Dkim(DkimError::SignatureExpired) => "the signature is over",
        Error::Dkim(DkimError::SignatureLength) => "a part of the body is not signed",
        Error::Dkim(_) => "of a kind that is not known",
        Error::Crypto(_) => "the signature is wrong",
        Error::Dns(mail_auth::DnsError::Resolver(_)) => "the DNS does not answer now",
        Error::Dns(_) => "there is no key",
        _ => "it cannot be read",
    }
}
