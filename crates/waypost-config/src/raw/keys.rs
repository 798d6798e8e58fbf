//! The keys of the format as data: names, types, defaults, requirements and documentation.
//!
//! They come from the very tables that read a file, so that a reference or a schema generated from
//! them cannot differ from what is read.

/// A key of the format.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyInfo {
    /// The name.
    pub name: &'static str,
    /// Whether it must be there, and what holds if it is not.
    pub need: Need,
    /// Its type.
    pub kind: Kind,
    /// The requirement that it serves.
    pub rule: &'static str,
    /// What it does: paragraphs with a blank line between them.
    pub doc: String,
    /// An example as TOML text of one line, key and value. `None`: a table that is written under a
    /// head of its own.
    pub example: Option<&'static str>,
}

/// Whether a key must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must.
    Required,
    /// It may be absent, which means something of its own.
    Optional,
    /// It may be absent and is then this (TOML text).
    Default(String),
    /// A table whose keys all have their defaults when it is absent.
    Section,
    /// A list, empty when it is absent.
    List,
}

/// The type of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One value.
    Leaf {
        /// What is expected, in words.
        expected: &'static str,
        /// An example as TOML text.
        example: &'static str,
        /// The words to choose from, if it is a choice.
        words: Vec<&'static str>,
        /// What it looks like, for a schema.
        form: Form,
    },
    /// A table.
    Table {
        /// What it is.
        doc: String,
        /// A whole example as TOML text with its heads; empty where there is none.
        example: String,
        /// Its keys.
        keys: Vec<KeyInfo>,
    },
}

impl Kind {
    /// An example as TOML text, for a leaf.
    pub(crate) fn example(&self) -> Option<&'static str> {
        match self {
            Kind::Leaf { example, .. } => Some(example),
            Kind::Table { .. } => None,
        }
    }
}

/// What a value looks like: at least what is read, perhaps more, so that a schema refuses nothing
/// that is right.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Form {
    /// A text.
    Text,
    /// A text that this regular expression matches; the common part of its dialects.
    Matching(&'static str),
    /// `true` or `false`.
    Flag,
    /// A whole number between these, inclusive.
    Whole(u64, u64),
    /// A number.
    Number,
    /// One of these texts.
    Words(Vec<&'static str>),
    /// One of these numbers.
    Numbers(&'static [u64]),
    /// A list of such values, at least one.
    List(&'static Form),
    /// One of several forms.
    Either(Vec<Form>),
}

const EXAMPLE: &str = " Example: `";

/// The text of doc attributes: lines joined, blanks at the ends gone; without examples.
pub(crate) fn doc(lines: &[&str]) -> String {
    let mut fenced = false;
    let told = lines.iter().filter(|line| {
        let fence = line.trim().starts_with("```");
        fenced ^= fence;
        !fence && !fenced && !line.starts_with(EXAMPLE)
    });
    told.map(|line| line.trim()).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// The example in doc attributes of a key: the code of the line that begins so.
pub(crate) fn example(lines: &[&'static str]) -> Option<&'static str> {
    lines.iter().find_map(|line| line.strip_prefix(EXAMPLE)?.strip_suffix('`'))
}

/// The example in doc attributes of a table: what stands between fences.
pub(crate) fn fenced(lines: &[&str]) -> String {
    let mut fenced = false;
    let mut text = String::new();
    for line in lines {
        let fence = line.trim().starts_with("```");
        fenced ^= fence;
        if fenced && !fence {
            text.push_str(line.strip_prefix(' ').unwrap_or(line));
            text.push('\n');
        }
    }
    text
}

/// Defines a raw table: its type, how it is read, and its keys as data, all from one list.
///
/// A field is `mode name: Type, "requirement";` with its documentation; the mode says what absence
/// means: `required`, `optional`, `default … = value`, `section` (a table of defaults), `list`.
macro_rules! table {
    (
        $(#[doc = $table_doc:literal])+
        $table:ident {
            $( $(#[doc = $doc:literal])+ $mode:ident $field:ident : $type:ty
               $(= $default:expr)? , $rule:literal ; )*
        }
    ) => {
        $(#[doc = $table_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $table {
            $( $(#[doc = $doc])+ pub $field: crate::raw::keys::field_type!($mode $type), )*
            /// Everything in it could be read: what is missing here is not written.
            pub complete: bool,
        }

        impl $table {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            /// The keys of this table as data.
            #[must_use]
            pub fn keys() -> Vec<crate::raw::KeyInfo> {
                vec![$( crate::raw::KeyInfo {
                    name: stringify!($field),
                    need: crate::raw::keys::need!($mode $type $(, $default)?),
                    kind: <$type as crate::raw::reader::Read>::kind(),
                    rule: $rule,
                    doc: crate::raw::keys::doc(&[$($doc),+]),
                    example: crate::raw::keys::example(&[$($doc),+]),
                } ),*]
            }
        }

        impl crate::raw::reader::Read for $table {
            fn kind() -> crate::raw::Kind {
                crate::raw::Kind::Table {
                    doc: crate::raw::keys::doc(&[$($table_doc),+]),
                    example: crate::raw::keys::fenced(&[$($table_doc),+]),
                    keys: Self::keys(),
                }
            }

            fn read(
                node: &crate::raw::reader::Node<'_>,
                at: &crate::raw::reader::Key<'_>,
                reader: &mut crate::raw::reader::Reader<'_>,
            ) -> Option<Self> {
                let before = reader.report.count();
                let table = reader.table(node, at, Self::NAMES)?;
                let mut read = Self { complete: true, $(
                    $field: crate::raw::keys::read_field!(
                        $mode reader, table, &at.below(stringify!($field), $rule), node
                        $(, $default)?
                    ),
                )* };
                read.complete = reader.report.count() == before;
                Some(read)
            }

            fn tree(&self) -> crate::difference::Tree {
                let mut fields = Vec::new();
                $( crate::raw::keys::put_field!(
                    $mode fields, stringify!($field), self.$field $(, $default)?
                ); )*
                crate::difference::Tree::Table(fields)
            }
        }
    };
}

macro_rules! field_type {
    (required $type:ty) => { Option<crate::diagnostics::Spanned<$type>> };
    (optional $type:ty) => { Option<crate::diagnostics::Spanned<$type>> };
    (section $type:ty) => { Option<crate::diagnostics::Spanned<$type>> };
    (default $type:ty) => { crate::diagnostics::Spanned<$type> };
    (list $type:ty) => { crate::raw::List<$type> };
}

macro_rules! need {
    (required $type:ty) => {
        crate::raw::Need::Required
    };
    (optional $type:ty) => {
        crate::raw::Need::Optional
    };
    (section $type:ty) => {
        crate::raw::Need::Section
    };
    (list $type:ty) => {
        crate::raw::Need::List
    };
    (default $type:ty, $default:expr) => {
        crate::raw::Need::Default(<$type as crate::raw::leaf::Leaf>::to_toml(&$default))
    };
}

macro_rules! read_field {
    (required $reader:ident, $table:expr, $key:expr, $node:ident) => {
        $reader.required($table, $key, $reader.place($node.span()))
    };
    (optional $reader:ident, $table:expr, $key:expr, $node:ident) => {
        $reader.optional($table, $key)
    };
    (section $reader:ident, $table:expr, $key:expr, $node:ident) => {
        $reader.section($table, $key, $reader.place($node.span()))
    };
    (list $reader:ident, $table:expr, $key:expr, $node:ident) => {
        $reader.list($table, $key, $reader.place($node.span()))
    };
    (default $reader:ident, $table:expr, $key:expr, $node:ident, $default:expr) => {
        $reader.or_default($table, $key, $reader.place($node.span()), $default)
    };
}

macro_rules! put_field {
    (list $fields:ident, $name:expr, $list:expr) => {
        if !$list.items.is_empty() {
            let items = $list.iter().map(|item| crate::raw::reader::Read::tree(&item.value));
            $fields.push(($name.into(), crate::difference::Tree::List(items.collect())));
        }
    };
    (default $fields:ident, $name:expr, $value:expr, $default:expr) => {
        if $value.value != $default {
            $fields.push(($name.into(), crate::raw::reader::Read::tree(&$value.value)));
        }
    };
    ($mode:ident $fields:ident, $name:expr, $value:expr) => {
        if let Some(value) = &$value {
            $fields.push(($name.into(), crate::raw::reader::Read::tree(&value.value)));
        }
    };
}

pub(crate) use {field_type, need, put_field, read_field, table};
