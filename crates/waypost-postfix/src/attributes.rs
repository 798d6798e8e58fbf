//! Policy requests read from a connection: lines `name=value`, an empty line at the end.

use memchr::memchr;

use crate::buffer::take_out;
use crate::error::RequestError;
use crate::policy_request::PolicyRequest;
use crate::text::shown;

/// Octets of a policy request, its empty line included.
pub const MAX_REQUEST: usize = 64 << 10;
/// Attributes of a policy request.
pub const MAX_ATTRIBUTES: usize = 128;

/// Reads policy requests from octets that come in any pieces.
///
/// Attributes that this crate does not know are passed over, as Postfix asks; of one that is given
/// twice the last counts. After an error it gives the same error for ever.
#[derive(Clone, Debug, Default)]
pub struct PolicyReader {
    buffer: Vec<u8>,
    /// Octets of the buffer in which there is no end of a request.
    searched: usize,
}

impl PolicyReader {
    /// Takes octets in.
    pub fn feed(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// The next request; `None` until more octets come.
    ///
    /// # Errors
    /// [`RequestError`] when what came is no request, or more than one may be ([`MAX_REQUEST`],
    /// [`MAX_ATTRIBUTES`]); close the connection.
    pub fn next_request(&mut self) -> Result<Option<PolicyRequest>, RequestError> {
        let Some(end) = self.end()? else { return Ok(None) };
        let text = self.buffer.get(..end).unwrap_or_default();
        let request = PolicyRequest::from_attributes(attributes(text)?)?;
        take_out(&mut self.buffer, end);
        self.searched = 0;
        Ok(Some(request))
    }

    /// Whether a request has begun and not ended: where a connection closes then, something is lost.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Octets that are kept: those of requests that were not taken out. None where none was begun.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.buffer.len()
    }

    /// Where the first request ends, its empty line included.
    fn end(&mut self) -> Result<Option<usize>, RequestError> {
        let mut from = self.searched;
        loop {
            let rest = self.buffer.get(from..).unwrap_or_default();
            let Some(line) = memchr(b'\n', rest) else {
                self.searched = from;
                return match self.buffer.len() >= MAX_REQUEST {
                    true => Err(RequestError::TooLong { most: MAX_REQUEST }),
                    false => Ok(None),
                };
            };
            from += line + 1;
            if from > MAX_REQUEST {
                return Err(RequestError::TooLong { most: MAX_REQUEST });
            }
            if line == 0 {
                return Ok(Some(from));
            }
        }
    }
}

/// One line of a request.
pub(crate) struct Attribute<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Splits a whole request, its empty line included.
fn attributes(text: &[u8]) -> Result<Vec<Attribute<'_>>, RequestError> {
    let mut found = Vec::with_capacity(40);
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        if found.len() >= MAX_ATTRIBUTES {
            return Err(RequestError::TooManyAttributes { most: MAX_ATTRIBUTES });
        }
        match memchr(b'=', line).and_then(|at| line.split_at_checked(at)) {
            Some((name, value)) if !name.is_empty() && !line.contains(&0) => {
                found.push(Attribute { name, value: value.get(1..).unwrap_or_default() });
            }
            _ => return Err(RequestError::NotAnAttribute(shown(line))),
        }
    }
    Ok(found)
}
