//! Walks a TOML document with places and turns it into raw tables, noting every fault on the way.

use std::collections::HashMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use crate::diagnostics::{Diagnostic, Place, Report, Spanned};
use crate::difference::Tree;

use super::RawConfig;
use super::keys::{KeyInfo, Kind};
use super::leaf::{Fault, Leaf};

/// A value of the document and where it stands.
pub(crate) type Node<'i> = toml::Spanned<DeValue<'i>>;

/// Tables and leaves that can be read from a value of the document.
pub(crate) trait Read: Sized {
    /// What it is, for the reference and the schema.
    fn kind() -> Kind;

    /// Reads it. `None`: it cannot be read, and the reader has been told why.
    fn read(node: &Node<'_>, at: &Key<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    /// What it says, as data, to be compared.
    fn tree(&self) -> Tree;
}

/// The path of a key, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) above: Option<&'a Key<'a>>,
    pub(crate) name: &'a str,
    pub(crate) rule: &'static str,
    form: Form,
}

/// How a value is written, for examples.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `key = value`.
    Value,
    /// `key = [value]`: elements of a list are read.
    Element,
    /// The text alone: a cell of a table in CSV.
    Cell,
}

impl<'a> Key<'a> {
    /// The document itself.
    pub(crate) const DOCUMENT: Key<'static> =
        Key { above: None, name: "", rule: "format", form: Form::Value };

    /// A row of a table in CSV.
    pub(crate) const ROW: Key<'static> = Key { form: Form::Cell, ..Key::DOCUMENT };

    pub(crate) fn below(&'a self, name: &'a str, rule: &'static str) -> Key<'a> {
        let form = if self.form == Form::Cell { Form::Cell } else { Form::Value };
        Key { above: Some(self), name, rule, form }
    }

    /// The key with a value, as one would write it.
    fn with(&self, value: &str) -> String {
        match self.form {
            Form::Element => format!("`{} = [{value}]`", self.name),
            Form::Value => format!("`{} = {value}`", self.name),
            Form::Cell => format!("`{}`", value.trim_matches('"')),
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above.filter(|above| !above.name.is_empty()) {
            write!(f, "{above}.")?;
        }
        f.write_str(self.name)
    }
}

/// Notes each table under the names of its keys.
fn note_tables(keys: &[KeyInfo], path: &str, tables: &mut HashMap<&'static str, Vec<String>>) {
    for key in keys {
        if !path.is_empty() {
            tables.entry(key.name).or_default().push(format!("`{path}`"));
        }
        if let Kind::Table { keys, .. } = &key.kind {
            let above = if path.is_empty() { String::new() } else { format!("{path}.") };
            note_tables(keys, &format!("{above}{}", key.name), tables);
        }
    }
}

/// What `in …` says of a table.
fn inside(table: &Key<'_>) -> String {
    if table.name.is_empty() { "at the top of the file".into() } else { format!("in `{table}`") }
}

/// Where faults go while one file is read.
pub(crate) struct Reader<'a> {
    pub(crate) file: u32,
    pub(crate) report: &'a mut Report,
    /// The tables of the format by the names of their keys, once a key was looked for in vain.
    tables: Option<HashMap<&'static str, Vec<String>>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: u32, report: &'a mut Report) -> Self {
        Self { file, report, tables: None }
    }

    /// The tables of the main file that have a key of this name.
    fn tables_with(&mut self, name: &str) -> &[String] {
        let tables = self.tables.get_or_insert_with(|| {
            let mut tables = HashMap::new();
            note_tables(&RawConfig::keys(), "", &mut tables);
            tables
        });
        tables.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn place(&self, span: std::ops::Range<usize>) -> Place {
        Place::new(self.file, span)
    }

    fn error(
        &mut self,
        id: &'static str,
        place: Place,
        key: &Key<'_>,
        message: String,
        cure: String,
    ) {
        self.report.push(Diagnostic::error(id, place, key.rule, message, cure));
    }

    /// The table in `node`, its keys held against `known`. A wrong type is noted.
    pub(crate) fn table<'n, 'i>(
        &mut self,
        node: &'n Node<'i>,
        at: &Key<'_>,
        known: &[&'static str],
    ) -> Option<&'n DeTable<'i>> {
        let Some(table) = node.get_ref().as_table() else {
            let found = describe(node.get_ref());
            let example = known.first().map_or("{}".into(), |key| format!("{{ {key} = … }}"));
            let message = format!("`{at}` is {found}; a table is expected");
            let cure = format!("write for example {}", at.with(&example));
            self.error("wrong-type", self.place(node.span()), at, message, cure);
            return None;
        };
        for key in table.keys() {
            if !known.iter().any(|known| *known == key.get_ref().as_ref()) {
                self.unknown_key(key, at, known);
            }
        }
        Some(table)
    }

    fn unknown_key(
        &mut self,
        key: &toml::Spanned<std::borrow::Cow<'_, str>>,
        at: &Key<'_>,
        known: &[&'static str],
    ) {
        let name = key.get_ref().as_ref();
        let message = format!("there is no key `{name}` {}", inside(at));
        let cure = match (nearest(name, known), self.tables_with(name)) {
            (Some(near), _) => format!("did you mean `{near}`? Else remove it"),
            // Behind the head of a table a key belongs to that table, which is easily forgotten.
            (None, tables @ ([_] | [_, _] | [_, _, _])) => {
                let tables = tables.join(" or ");
                format!("it belongs in {tables}; a table's own keys stand before its sub-tables")
            }
            (None, _) => format!("remove it; the keys here are {}", listed(known)),
        };
        let place = self.place(key.span());
        let format = Key { rule: "format", ..*at };
        self.error("unknown-key", place, &format, message, cure);
    }

    /// The value of a key that may be absent.
    pub(crate) fn optional<T: Read>(
        &mut self,
        table: &DeTable<'_>,
        key: &Key<'_>,
    ) -> Option<Spanned<T>> {
        let node = table.get(key.name)?;
        let place = self.place(node.span());
        T::read(node, key, self).map(|value| Spanned::new(value, place))
    }

    /// The value of a key that must be there.
    pub(crate) fn required<T: Read>(
        &mut self,
        table: &DeTable<'_>,
        key: &Key<'_>,
        whole: Place,
    ) -> Option<Spanned<T>> {
        if !table.contains_key(key.name) {
            let message = match key.above {
                Some(above) if !above.name.is_empty() => {
                    format!("`{above}` lacks the key `{}`", key.name)
                }
                _ => format!("the file lacks `{}`", key.name),
            };
            let cure = match T::kind().example() {
                Some(example) => format!("add `{} = {example}`", key.name),
                None => format!("add a table `[{key}]`"),
            };
            self.error("missing-key", whole, key, message, cure);
            return None;
        }
        self.optional(table, key)
    }

    /// The value of a key, or its default at the place of the table when it is absent or wrong.
    pub(crate) fn or_default<T: Read>(
        &mut self,
        table: &DeTable<'_>,
        key: &Key<'_>,
        whole: Place,
        default: T,
    ) -> Spanned<T> {
        self.optional(table, key).unwrap_or_else(|| Spanned::new(default, whole))
    }

    /// A table that is there with all its defaults when it is not written.
    pub(crate) fn section<T: Read>(
        &mut self,
        table: &DeTable<'_>,
        key: &Key<'_>,
        whole: Place,
    ) -> Option<Spanned<T>> {
        if table.contains_key(key.name) {
            return self.optional(table, key);
        }
        let empty = toml::Spanned::new(
            offset(whole.start)..offset(whole.end),
            DeValue::Table(DeTable::new()),
        );
        T::read(&empty, key, self).map(|value| Spanned::new(value, whole))
    }

    /// The elements of an array; those that cannot be read are noted and left out.
    pub(crate) fn list<T: Read>(
        &mut self,
        table: &DeTable<'_>,
        key: &Key<'_>,
        whole: Place,
    ) -> List<T> {
        let Some(node) = table.get(key.name) else {
            return List { items: Vec::new(), place: whole, written: None };
        };
        let place = self.place(node.span());
        let Some(array) = node.get_ref().as_array() else {
            let found = describe(node.get_ref());
            let cure = match T::kind().example() {
                Some(example) => format!("write `{} = [{example}]`", key.name),
                None => format!("write the table's head as `[[{key}]]`"),
            };
            let message = format!("`{key}` is {found}; a list is expected");
            self.error("wrong-type", place, key, message, cure);
            return List { items: Vec::new(), place, written: Some(1) };
        };
        let form = if key.form == Form::Cell { Form::Cell } else { Form::Element };
        let element = Key { form, ..*key };
        let mut items = Vec::with_capacity(array.len());
        for node in array {
            let place = self.place(node.span());
            items.extend(T::read(node, &element, self).map(|value| Spanned::new(value, place)));
        }
        List { items, place, written: Some(array.len()) }
    }
}

/// A list of the document: what could be read of it.
#[derive(Clone, Debug, PartialEq)]
pub struct List<T> {
    /// The elements that could be read, in file order.
    pub items: Vec<Spanned<T>>,
    /// The list, or the table that lacks it.
    pub place: Place,
    /// How many elements are written; `None` when the key is absent.
    pub written: Option<usize>,
}

impl<T> List<T> {
    /// Whether the key is written with an empty list.
    #[must_use]
    pub fn is_written_empty(&self) -> bool {
        self.written == Some(0)
    }

    /// Whether nothing is written: no key, or an empty list.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        self.written.unwrap_or(0) == 0
    }

    /// The elements.
    pub fn iter(&self) -> std::slice::Iter<'_, Spanned<T>> {
        self.items.iter()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a Spanned<T>;
    type IntoIter = std::slice::Iter<'a, Spanned<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.iter()
    }
}

impl<T: Leaf> Read for T {
    fn kind() -> Kind {
        Kind::Leaf {
            expected: T::EXPECTED,
            example: T::EXAMPLE,
            words: T::words(),
            form: T::form(),
        }
    }

    fn read(node: &Node<'_>, at: &Key<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let place = reader.place(node.span());
        let fault = match T::from_value(node.get_ref()) {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        let found = match fault {
            Fault::Type => Diagnostic::error(
                "wrong-type",
                place,
                at.rule,
                format!("`{at}` is {}; {} is expected", describe(node.get_ref()), T::EXPECTED),
                format!("write for example {}", at.with(T::EXAMPLE)),
            ),
            Fault::Value { message, cure } => Diagnostic::error(
                "wrong-value",
                place,
                at.rule,
                format!("`{at}`: {message}"),
                cure.unwrap_or_else(|| format!("write for example {}", at.with(T::EXAMPLE))),
            ),
        };
        reader.report.push(Diagnostic { secret: T::SECRET, ..found });
        None
    }

    fn tree(&self) -> Tree {
        match self.secret() {
            Some(text) => Tree::secret(&text),
            None => Tree::Value(self.to_toml().into()),
        }
    }
}

fn offset(short: u32) -> usize {
    usize::try_from(short).unwrap_or(usize::MAX)
}

/// What a value is, in words.
fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known word that was probably meant.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // Bounded: nobody means a known word by hundreds of characters.
    let name: String = name.chars().take(64).collect::<String>().to_lowercase();
    known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&name, word), *word))
        .filter(|(distance, word)| *distance <= 2.max(word.len() / 3))
        .min()
        .map(|(_, word)| word)
}

/// Words in backticks with commas between them.
pub(crate) fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
