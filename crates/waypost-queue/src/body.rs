//! A message's bytes, shared.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A message as it is stored: lines ended by CR LF, dot-stuffed (RFC 5321 section 4.5.2), the last
/// line ended too, without the line `.` that ends DATA and without the lines of [`crate::Entry::trace`].
///
/// Cloning shares the bytes. Made from a `Vec<u8>` without a copy.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body(Arc<Vec<u8>>);

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

/// The bytes; a copy only where they are shared.
impl From<Body> for Vec<u8> {
    fn from(body: Body) -> Self {
        Arc::unwrap_or_clone(body.0)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} octets)", self.0.len())
    }
}
