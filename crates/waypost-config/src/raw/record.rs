//! `record`: the file to which envelopes are written, by its path alone or with all that can be said.

use toml::de::{DeTable, DeValue};

use crate::difference::Tree;

use super::keys::{Kind, table};
use super::leaf::Words;
use super::reader::{Key, Node, Read, Reader};
use super::text::FilePath;
use crate::size::Size;

table! {
    /// A file with a line for each message that decisions depend on; a path alone is its `file`.
    RawRecord {
        /// The file; a relative path starts at the directory of the main file.
        required file: FilePath, "C9";
        /// Whether local parts of addresses are written as they are.
        default local_parts: LocalParts = LocalParts::Plain, "C9";
        /// The size at which the file is put aside as `FILE.1` and a new one begun.
        default rotate: Size = Size(100 << 20), "C9";
        /// How many files that were put aside are kept.
        default keep: u64 = 7, "C9";
        /// The file of the key that local parts are hashed with, made if missing; absent: `record.key` in the spool.
        optional key: FilePath, "C9";
    }
}

/// What is written of local parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalParts {
    /// They are written.
    Plain,
    /// A keyed hash of each address stands in their place.
    Hashed,
}

impl Words for LocalParts {
    const EXPECTED: &'static str = "a way to write local parts";
    const EXAMPLE: &'static str = "\"hashed\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("plain", LocalParts::Plain), ("hashed", LocalParts::Hashed)];
}

/// The value of `record`.
#[derive(Clone, Debug, PartialEq)]
pub struct Record(pub RawRecord);

impl Read for Record {
    fn kind() -> Kind {
        RawRecord::kind()
    }

    fn read(node: &Node<'_>, at: &Key<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::String(path) = node.get_ref() else {
            return RawRecord::read(node, at, reader).map(Self);
        };
        let mut table = DeTable::new();
        let file = DeValue::String(path.clone());
        table.insert(
            toml::Spanned::new(node.span(), "file".into()),
            toml::Spanned::new(node.span(), file),
        );
        let table = toml::Spanned::new(node.span(), DeValue::Table(table));
        RawRecord::read(&table, at, reader).map(Self)
    }

    fn tree(&self) -> Tree {
        self.0.tree()
    }
}
