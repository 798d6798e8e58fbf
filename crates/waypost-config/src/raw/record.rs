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
    ///
    /// ```toml
    /// [server]
    /// hostname = "mx.solarmora.com"
    /// spool = "/var/lib/waypost"
    ///
    /// [server.record]
    /// file = "envelopes.jsonl"
    /// local_parts = "hashed"
    /// rotate = "20MiB"
    /// ```
    RawRecord {
        /// The file; a relative path starts at the directory of the main file. It is made with mode
        /// 0640 where it is missing.
        ///
        /// Example: `file = "envelopes.jsonl"`
        required file: FilePath, "C9";
        /// Whether local parts of addresses are written as they are (`"plain"`), or a keyed hash of
        /// the whole address stands in the place of each (`"hashed"`).
        ///
        /// Example: `local_parts = "hashed"`
        default local_parts: LocalParts = LocalParts::Plain, "C9";
        /// The size at which the file is put aside as `FILE.1` and a new one begun; at least 64 KiB.
        ///
        /// Example: `rotate = "20MiB"`
        default rotate: Size = Size(100 << 20), "C9";
        /// How many files that were put aside are kept, 1,000 at most; with 0, none.
        ///
        /// Example: `keep = 30`
        default keep: u64 = 7, "C9";
        /// The file of the key that local parts are hashed with, made if missing; absent: `record.key`
        /// in the spool.
        ///
        /// Example: `key = "record.key"`
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
