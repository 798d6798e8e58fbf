//! The milter protocol of mail filters, both sides, as state machines without I/O.

mod fault;
mod field;
mod question;
mod verdict;

pub use fault::Fault;
pub use field::{FieldError, FieldName, FieldValue, HeaderEdit};
pub use question::{FilterQuestion, TlsFacts};
pub use verdict::{FilterAction, FilterVerdict, Ignored};
