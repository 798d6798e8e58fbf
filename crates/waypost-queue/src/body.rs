//! A message's bytes, shared.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use byteview::ByteView;

use crate::DecodeError;
use crate::codec::{FRAME_HEADER, frame_header, unframe};

/// A message as it is stored: lines ended by CR LF, dot-stuffed (RFC 5321 section 4.5.2), the last
/// line ended too, without the line `.` that ends DATA and without the lines of [`crate::Entry::trace`].
///
/// Cloning shares the bytes. Made from a `Vec<u8>` without a copy; [`Body::framed`] copies once, and from
/// then on a store shares them too.
#[derive(Clone)]
pub struct Body(Held);

#[derive(Clone)]
enum Held {
    /// As they were made.
    Plain(Arc<Vec<u8>>),
    /// As a store keeps them, with their frame in front: [`FRAME_HEADER`] octets at least.
    Framed(ByteView),
}

impl Body {
    /// The same bytes, held as a store keeps them: copied with their frame in front, unless they are so
    /// already. What a store then holds of them is no second copy. Linear time; for a body of 4 GiB or
    /// more, which no store takes, nothing is done.
    #[must_use]
    pub fn framed(self) -> Self {
        match self.stored() {
            Ok(value) => Self(Held::Framed(value)),
            Err(_) => self,
        }
    }

    /// The value that a store keeps ([`crate::frame_header`]); shared if the body is [framed](Body::framed).
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] for a body of 4 GiB or more.
    pub fn stored(&self) -> Result<ByteView, DecodeError> {
        match &self.0 {
            Held::Framed(value) => Ok(value.clone()),
            // The frame counts, in what one value may hold.
            Held::Plain(bytes) if bytes.len() > MOST => Err(DecodeError::TooLarge(bytes.len())),
            Held::Plain(bytes) => Ok(ByteView::fused(&frame_header(bytes)?, bytes)),
        }
    }

    /// The body of a stored value, which it shares. Linear time, since the frame is checked.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong with the frame.
    pub fn from_stored(value: ByteView) -> Result<Self, DecodeError> {
        unframe(&value)?;
        Ok(Self(Held::Framed(value)))
    }
}

/// Octets of the largest body that fits into a value.
const MOST: usize = u32::MAX as usize - FRAME_HEADER;

impl Default for Body {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Body {}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Held::Plain(Arc::new(bytes)))
    }
}

/// The bytes; a copy only where they are shared or framed.
impl From<Body> for Vec<u8> {
    fn from(body: Body) -> Self {
        match body.0 {
            Held::Plain(bytes) => Arc::unwrap_or_clone(bytes),
            Held::Framed(_) => body.to_vec(),
        }
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Held::Plain(bytes) => bytes,
            Held::Framed(value) => value.get(FRAME_HEADER..).unwrap_or_default(),
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} octets)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framed_body_is_the_same_and_what_is_stored_is_no_copy() {
        for bytes in [&b""[..], b"x", b"12345678901", b"123456789012", &[b'x'; 100_000]] {
            let plain = Body::from(bytes.to_vec());
            let framed = plain.clone().framed();
            assert_eq!((&*framed, &framed), (bytes, &plain));
            let value = framed.stored().unwrap();
            assert_eq!(unframe(&value), Ok(bytes));
            assert_eq!(plain.stored().unwrap(), value);
            let again = Body::from_stored(value.clone()).unwrap();
            assert_eq!((&again, Vec::from(again.clone())), (&plain, bytes.to_vec()));
            // What fits into the handle itself is held there.
            let long = bytes.len() + FRAME_HEADER > 20;
            assert_eq!(framed.as_ptr_range() == again.as_ptr_range(), long);
            assert_eq!(framed.clone().framed().as_ptr_range() == framed.as_ptr_range(), long);
        }
    }

    #[test]
    fn a_damaged_value_is_no_body() {
        let mut value = Body::from(b"text".to_vec()).stored().unwrap().to_vec();
        value[12] ^= 1;
        let found = Body::from_stored(ByteView::from(value));
        assert!(matches!(found, Err(DecodeError::Checksum { .. })));
        assert_eq!(Body::from_stored(ByteView::default()), Err(DecodeError::Truncated(0)));
    }
}
