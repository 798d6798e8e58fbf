//! Users and groups as a table: a directory file in CSV (RFC 4180), as spreadsheets write it.
//!
//! The first row names the columns, in any order; only `address` must be there:
//!
//! | column | holds |
//! | --- | --- |
//! | `kind` | `user` or `group`; without it, or empty: a user |
//! | `address` | the primary address of the user, or that of the group |
//! | `aliases` | a user's other addresses, with blanks or semicolons between them |
//! | `org_unit` | a user's organizational unit; empty: `/` |
//! | `active` | `true`, `yes` or `1`; `false`, `no` or `0`; case counts not; empty: active |
//! | `password` | the hash that `waypost hash-password` makes; empty: none |
//! | `members` | a group's members, with blanks or semicolons between them |
//! | `messages_per_user_per_day`, `unique_recipients_per_user_per_day` | a user's own quotas |
//!
//! Columns are divided by commas, or, where the first row has none, by semicolons or tabs. A mark of
//! the byte order, blank rows and blanks around a cell do not count. Each row becomes the table that it
//! would be in TOML, so values are checked by the same rules, each error with line and column.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::organization::{RawDirectory, RawGroup, RawUser};
use super::reader::{Key, List, Node, Read, Reader, listed, nearest};
use crate::diagnostics::{Diagnostic, Place, Report, SourceFile, Spanned};

/// The columns, and what they are for.
const COLUMNS: &[(&str, Column)] = &[
    ("kind", Column::Kind),
    ("address", Column::Both),
    ("aliases", Column::UserList),
    ("org_unit", Column::User),
    ("active", Column::UserFlag),
    ("password", Column::User),
    ("members", Column::GroupList),
    ("messages_per_user_per_day", Column::UserLimit),
    ("unique_recipients_per_user_per_day", Column::UserLimit),
];

/// The columns, and what they hold, for the reference.
pub(crate) const CSV_COLUMNS: &[(&str, &str)] = &[
    ("kind", "`user` or `group`; without it, or empty: a user"),
    ("address", "the primary address of the user, or that of the group; required"),
    ("aliases", "a user's other addresses, with blanks or semicolons between them"),
    ("org_unit", "a user's organizational unit; empty: `/`"),
    ("active", "`true`, `yes` or `1`; `false`, `no` or `0`; case counts not; empty: active"),
    ("password", "the hash that `waypost hash-password` makes; empty: none"),
    ("members", "a group's members, with blanks or semicolons between them"),
    ("messages_per_user_per_day", "the user's own quota of messages"),
    ("unique_recipients_per_user_per_day", "the user's own quota of recipients"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Kind,
    Both,
    User,
    UserList,
    UserFlag,
    UserLimit,
    GroupList,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Group,
}

/// Reads a directory file in CSV into a report that exists. `None`: it has no row that names columns,
/// as the report says.
pub fn read_directory_csv(source: SourceFile, report: &mut Report) -> Option<RawDirectory> {
    let text = source.text.clone();
    let file = report.add_source(source);
    let before = report.count();
    let whole = Place::new(file, 0..text.len());
    let list = || List { items: Vec::new(), place: whole, written: None };
    let mut directory =
        RawDirectory { user: list_of(&list()), group: list_of(&list()), complete: true };
    let mut rows = Rows::new(&text);
    let mut reader = Reader::new(file, report);
    let head = rows.next(&mut reader)?;
    let head = match head {
        Some(head) => columns(&head, &mut reader)?,
        None => {
            let message = "the file is empty; its first row names the columns".to_owned();
            error(&mut reader, "no-columns", 0..0, "format", message, NAMES.to_owned());
            return None;
        }
    };
    while let Some(Some(row)) = rows.next(&mut reader) {
        add(&row, &head, &mut directory, &mut reader);
    }
    directory.user.written = Some(directory.user.items.len());
    directory.group.written = Some(directory.group.items.len());
    directory.complete = report.count() == before;
    Some(directory)
}

const NAMES: &str = "begin the file with a row such as `kind,address,aliases,org_unit,members`";

fn list_of<T>(list: &List<()>) -> List<T> {
    List { items: Vec::new(), place: list.place, written: list.written }
}

fn error(
    reader: &mut Reader<'_>,
    id: &'static str,
    span: Range<usize>,
    rule: &'static str,
    message: String,
    cure: String,
) {
    let place = reader.place(span);
    reader.report.push(Diagnostic::error(id, place, rule, message, cure));
}

/// A cell: what it says, and where.
struct Cell<'t> {
    text: Cow<'t, str>,
    span: Range<usize>,
}

/// One row, and where it stands.
struct Row<'t> {
    cells: Vec<Cell<'t>>,
    span: Range<usize>,
}

/// The rows of a text, blank ones left out.
struct Rows<'t> {
    text: &'t str,
    start: usize,
    delimiter: u8,
    reader: csv::Reader<&'t [u8]>,
}

impl<'t> Rows<'t> {
    fn new(text: &'t str) -> Self {
        let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let rest = text.get(start..).unwrap_or("");
        let first = rest.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        let delimiter =
            *b",;\t".iter().find(|sign| first.as_bytes().contains(sign)).unwrap_or(&b',');
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(rest.as_bytes());
        Self { text, start, delimiter, reader }
    }

    /// The next row; `Some(None)` at the end, `None` when the rest cannot be read.
    fn next(&mut self, reader: &mut Reader<'_>) -> Option<Option<Row<'t>>> {
        let mut record = csv::StringRecord::new();
        loop {
            let from = self.start + offset(self.reader.position().byte());
            match self.reader.read_record(&mut record) {
                Ok(true) => {}
                Ok(false) => return Some(None),
                // It reads from memory, and the text is UTF-8.
                Err(wrong) => {
                    let cure = "save it as CSV in UTF-8 again".to_owned();
                    error(reader, "not-csv", from..from, "format", wrong.to_string(), cure);
                    return None;
                }
            }
            let to = self.start + offset(self.reader.position().byte());
            let (spans, fault) = spans(self.text.get(from..to).unwrap_or(""), from, self.delimiter);
            if let Some((at, what)) = fault {
                let cure =
                    "close the quote at the end of the cell; a quote inside is written twice";
                error(reader, "quote", at..at + 1, "format", what.to_owned(), cure.to_owned());
            }
            if record.iter().all(|cell| cell.trim().is_empty()) {
                continue;
            }
            let whole = spans.first().map_or(from, |first| first.start)..to;
            let cells = record.iter().enumerate().map(|(place, text)| {
                let span = spans.get(place).cloned().unwrap_or_else(|| whole.clone());
                let raw = self.text.get(span.clone()).unwrap_or("");
                match raw == text {
                    // The same, without the blanks around it.
                    true => {
                        let trimmed = raw.trim();
                        let start = span.start + (raw.len() - raw.trim_start().len());
                        Cell { text: trimmed.into(), span: start..start + trimmed.len() }
                    }
                    false => Cell { text: text.trim().to_owned().into(), span },
                }
            });
            return Some(Some(Row { cells: cells.collect(), span: whole }));
        }
    }
}

fn offset(byte: u64) -> usize {
    usize::try_from(byte).unwrap_or(usize::MAX)
}

/// Where the cells of a row stand, without their quotes; and where a quote is not what it should be.
fn spans(
    row: &str,
    at: usize,
    delimiter: u8,
) -> (Vec<Range<usize>>, Option<(usize, &'static str)>) {
    let bytes = row.as_bytes();
    let byte = |place: usize| bytes.get(place).copied();
    let ends = |byte: u8| byte == delimiter || byte == b'\r' || byte == b'\n';
    let (mut spans, mut fault) = (Vec::new(), None);
    let mut here = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    loop {
        if byte(here) == Some(b'"') {
            let mut end = here + 1;
            while let Some(found) = byte(end) {
                if found == b'"' && byte(end + 1) == Some(b'"') {
                    end += 1;
                } else if found == b'"' {
                    break;
                }
                end += 1;
            }
            if byte(end).is_none() {
                fault = fault.or(Some((at + here, "the quote that opens here is never closed")));
            }
            spans.push(at + here + 1..at + end.min(bytes.len()));
            here = end + 1;
            if byte(here).is_some_and(|found| !ends(found)) {
                fault = fault.or(Some((at + here, "text follows the quote that closes a cell")));
            }
            while byte(here).is_some_and(|found| !ends(found)) {
                here += 1;
            }
        } else {
            let from = here;
            while byte(here).is_some_and(|found| !ends(found)) {
                here += 1;
            }
            spans.push(at + from..at + here);
        }
        if byte(here) != Some(delimiter) {
            return (spans, fault);
        }
        here += 1;
    }
}

/// What each cell of a row is, by the first row. `None` for a column that is not known.
type Head = Vec<Option<(&'static str, Column)>>;

fn columns(row: &Row<'_>, reader: &mut Reader<'_>) -> Option<Head> {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut head: Head = Vec::new();
    for cell in &row.cells {
        let found = COLUMNS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&cell.text)).copied();
        if let Some((name, _)) = found {
            if head.contains(&found) {
                let message = format!("the column `{name}` is there twice");
                let cure = "take one of the two away".to_owned();
                error(reader, "duplicate-column", cell.span.clone(), "format", message, cure);
            }
        } else {
            let cure = match nearest(&cell.text, &names) {
                Some(near) => format!("did you mean `{near}`? Else remove it"),
                None => format!("remove it; the columns are {}", listed(&names)),
            };
            let message = format!("there is no column `{}`", cell.text);
            error(reader, "unknown-column", cell.span.clone(), "format", message, cure);
        }
        head.push(found);
    }
    let has_address = head.iter().flatten().any(|(name, _)| *name == "address");
    if !has_address {
        let message = "the first row names no column `address`".to_owned();
        error(reader, "no-columns", row.span.clone(), "format", message, NAMES.to_owned());
    }
    has_address.then_some(head)
}

fn add(row: &Row<'_>, head: &Head, directory: &mut RawDirectory, reader: &mut Reader<'_>) {
    if row.cells.len() != head.len() {
        let (cells, columns) = (row.cells.len(), head.len());
        let message = format!("this row has {cells} cells, and the first row names {columns}");
        let cure = "add the cells that are missing, or put a cell that holds a comma into quotes";
        error(reader, "row-length", row.span.clone(), "format", message, cure.to_owned());
        return;
    }
    let columns =
        || head.iter().zip(&row.cells).filter_map(|(column, cell)| Some(((*column)?, cell)));
    let kind = columns().find(|((_, column), _)| *column == Column::Kind).map(|(_, cell)| cell);
    let kind = match kind.map(|cell| (cell, cell.text.to_ascii_lowercase())) {
        None => Kind::User,
        Some((_, text)) if text.is_empty() || text == "user" => Kind::User,
        Some((_, text)) if text == "group" => Kind::Group,
        Some((cell, _)) => {
            let message = format!("`{}` is no kind of account", cell.text);
            let cure = "write `user` or `group`; an empty cell is a user".to_owned();
            error(reader, "wrong-value", cell.span.clone(), "C4", message, cure);
            return;
        }
    };
    let (mut table, mut limits) = (DeTable::new(), DeTable::new());
    for ((name, column), cell) in columns() {
        if cell.text.is_empty() {
            continue;
        }
        let (belongs, other) = match column {
            Column::Kind => continue,
            Column::Both => (true, ""),
            Column::GroupList => (kind == Kind::Group, "a user has none"),
            _ => (kind == Kind::User, "a group has none"),
        };
        if !belongs {
            let message = format!("`{name}` is not empty, and {other}");
            let cure = "leave the cell empty".to_owned();
            error(reader, "wrong-column", cell.span.clone(), "C4", message, cure);
            continue;
        }
        let key = toml::Spanned::new(cell.span.clone(), Cow::Borrowed(name));
        let value = toml::Spanned::new(cell.span.clone(), value(column, cell));
        match column {
            Column::UserLimit => limits.insert(key, value),
            _ => table.insert(key, value),
        };
    }
    if !limits.is_empty() {
        let key = toml::Spanned::new(row.span.clone(), Cow::Borrowed("limits"));
        table.insert(key, toml::Spanned::new(row.span.clone(), DeValue::Table(limits)));
    }
    if !table.contains_key("address") {
        let cell = columns().find(|((name, _), _)| *name == "address");
        let span = cell.map_or(row.span.clone(), |(_, cell)| cell.span.clone());
        let message = "this row has no address".to_owned();
        let cure = "write one, or remove the row".to_owned();
        error(reader, "missing-key", span, "C4", message, cure);
        return;
    }
    let node = toml::Spanned::new(row.span.clone(), DeValue::Table(table));
    match kind {
        Kind::User => put::<RawUser>("user", &node, &mut directory.user, reader),
        Kind::Group => put::<RawGroup>("group", &node, &mut directory.group, reader),
    }
}

fn put<T: Read>(name: &str, node: &Node<'_>, list: &mut List<T>, reader: &mut Reader<'_>) {
    let place = reader.place(node.span());
    let read = T::read(node, &Key::ROW.below(name, "C4"), reader);
    list.items.extend(read.map(|value| Spanned::new(value, place)));
}

fn value<'t>(column: Column, cell: &'t Cell<'_>) -> DeValue<'t> {
    let text = &*cell.text;
    match column {
        Column::UserFlag => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => DeValue::Boolean(true),
            "false" | "no" | "0" => DeValue::Boolean(false),
            // What is none of these is an error of its type.
            _ => DeValue::String(text.into()),
        },
        Column::UserLimit if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            // No zeros in front, which would be no number in TOML.
            let digits = text.trim_start_matches('0');
            let digits = if digits.is_empty() { "0" } else { digits };
            DeValue::parse(digits).map_or(DeValue::String(text.into()), toml::Spanned::into_inner)
        }
        Column::UserList | Column::GroupList => {
            let mut list = DeArray::new();
            let mut from = 0;
            let separates = |c: char| c.is_whitespace() || c == ';';
            for part in text.split(separates) {
                let start = cell.span.start + from;
                from += part.len() + 1;
                // A separator of several octets would shift the rest: then the cell is the place.
                let exact = text.is_ascii() && cell.span.len() == text.len();
                let span = if exact { start..start + part.len() } else { cell.span.clone() };
                if !part.is_empty() {
                    list.push(toml::Spanned::new(span, DeValue::String(part.into())));
                }
            }
            DeValue::Array(list)
        }
        _ => DeValue::String(text.into()),
    }
}

#[cfg(test)]
mod tests;
