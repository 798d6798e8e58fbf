//! The format as a JSON Schema.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{Section, exactly_one, is_required, sections, short_form};
use crate::raw::{Form, KeyInfo, Kind, Need, RawConfig, RawDirectory, RawInclude};

/// A schema, in the order in which it is printed.
#[derive(Default, Serialize)]
struct Schema {
    #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
    dialect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(rename = "x-requirement", skip_serializing_if = "Option::is_none")]
    requirement: Option<&'static str>,
    #[serde(rename = "$ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "enum", skip_serializing_if = "Vec::is_empty")]
    values: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum: Option<u64>,
    #[serde(rename = "minItems", skip_serializing_if = "Option::is_none")]
    least_items: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<Box<Schema>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<Value>,
    #[serde(rename = "additionalProperties", skip_serializing_if = "Option::is_none")]
    others: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required: Vec<&'static str>,
    #[serde(rename = "anyOf", skip_serializing_if = "Vec::is_empty")]
    either: Vec<Schema>,
    #[serde(rename = "oneOf", skip_serializing_if = "Vec::is_empty")]
    exactly_one: Vec<Schema>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    properties: Pairs,
    #[serde(rename = "$defs", skip_serializing_if = "Pairs::is_empty")]
    definitions: Pairs,
}

/// Names and schemas, in the order of the format.
#[derive(Default)]
struct Pairs(Vec<(String, Schema)>);

impl Pairs {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, schema) in &self.0 {
            map.serialize_entry(name, schema)?;
        }
        map.end()
    }
}

/// A kind of file that holds tables of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Document {
    /// The main file.
    #[default]
    Main,
    /// A file that `include` finds.
    Included,
    /// A file of `directory` in TOML; one in CSV is no JSON.
    Directory,
}

impl Document {
    /// All of them.
    pub const ALL: [Document; 3] = [Document::Main, Document::Included, Document::Directory];

    /// The name of its schema in `docs/`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Document::Main => "config.schema.json",
            Document::Included => "include.schema.json",
            Document::Directory => "directory.schema.json",
        }
    }

    /// Title, what it is, under which table its keys stand in the main file, its keys.
    fn parts(self) -> (&'static str, &'static str, &'static str, Vec<KeyInfo>) {
        match self {
            Document::Main => ("Waypost configuration", "The main file.", "", RawConfig::keys()),
            Document::Included => (
                "Waypost configuration, included",
                "A file that `include` finds.",
                "",
                RawInclude::keys(),
            ),
            Document::Directory => (
                "Waypost directory",
                "A file of `directory`: users and groups of an organization.",
                "organization",
                RawDirectory::keys(),
            ),
        }
    }
}

/// The format of a kind of file as a JSON Schema (draft 2020-12), for [`Document::file`] in `docs/`.
///
/// Each table is a definition under its path in the main file; `x-requirement` is the id of the
/// requirement that a key serves. Whatever [`compile`](crate::compile) accepts, the schema accepts.
#[must_use]
pub fn schema(document: Document) -> String {
    let sections = sections();
    let (title, doc, above, keys) = document.parts();
    let path = |key: &KeyInfo| match above {
        "" => key.name.to_owned(),
        above => format!("{above}.{}", key.name),
    };
    let roots: Vec<String> = keys.iter().map(path).collect();
    let is_below = |path: &str| {
        let below = |root: &String| path.strip_prefix(root.as_str());
        roots.iter().filter_map(below).any(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let needed = sections
        .iter()
        .filter(|one| is_below(&one.path) || one.also.iter().any(|path| is_below(path)));
    let root = Schema {
        dialect: Some("https://json-schema.org/draft/2020-12/schema"),
        title: Some(title),
        definitions: Pairs(
            needed.map(|one| (one.path.clone(), definition(one, &sections))).collect(),
        ),
        ..table(above, doc, &keys, &sections)
    };
    let mut text = serde_json::to_string_pretty(&root).unwrap_or_default();
    text.push('\n');
    text
}

fn definition(one: &Section, all: &[Section]) -> Schema {
    table(&one.path, &one.doc, &one.keys, all)
}

fn table(path: &str, doc: &str, keys: &[KeyInfo], all: &[Section]) -> Schema {
    let choice = exactly_one(path).iter();
    Schema {
        kind: Some("object"),
        description: Some(one_line(doc)),
        others: Some(false),
        required: keys.iter().filter(|key| is_required(path, key)).map(|key| key.name).collect(),
        exactly_one: choice
            .map(|key| Schema { required: vec![key], ..Schema::default() })
            .collect(),
        properties: Pairs(
            keys.iter().map(|key| (key.name.to_owned(), property(path, key, all))).collect(),
        ),
        ..Schema::default()
    }
}

fn property(path: &str, key: &KeyInfo, all: &[Section]) -> Schema {
    let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
    let one = match &key.kind {
        Kind::Leaf { form, .. } => leaf(form),
        Kind::Table { keys, .. } => {
            let here = all.iter().find(|one| one.path == path || one.also.contains(&path));
            let reference = here.map(|one| format!("#/$defs/{}", one.path));
            let whole = Schema { reference, ..Schema::default() };
            let short = short_form(&path).and_then(|name| keys.iter().find(|key| key.name == name));
            match short.map(|key| &key.kind) {
                Some(Kind::Leaf { form, .. }) => {
                    Schema { either: vec![leaf(form), whole], ..Schema::default() }
                }
                _ => whole,
            }
        }
    };
    let schema = match key.need {
        Need::List => {
            let (above, _) = path.rsplit_once('.').unwrap_or_default();
            let least_items = is_required(above, key).then_some(1);
            let items = Some(Box::new(one));
            Schema { kind: Some("array"), items, least_items, ..Schema::default() }
        }
        _ => one,
    };
    Schema {
        description: Some(one_line(&key.doc)),
        requirement: Some(key.rule).filter(|rule| *rule != "format"),
        default: match &key.need {
            Need::Default(text) => value(&format!("x = {text}"), "x"),
            _ => None,
        },
        examples: key.example.and_then(|text| value(text, key.name)).into_iter().collect(),
        ..schema
    }
}

fn leaf(form: &Form) -> Schema {
    let text = |word: &&str| Value::from(*word);
    match form {
        Form::Text => Schema { kind: Some("string"), ..Schema::default() },
        Form::Matching(pattern) => {
            Schema { kind: Some("string"), pattern: Some(pattern), ..Schema::default() }
        }
        Form::Flag => Schema { kind: Some("boolean"), ..Schema::default() },
        Form::Whole(least, most) => Schema {
            kind: Some("integer"),
            minimum: Some(*least),
            maximum: Some(*most),
            ..Schema::default()
        },
        Form::Number => Schema { kind: Some("number"), ..Schema::default() },
        Form::Words(words) => {
            Schema { values: words.iter().map(text).collect(), ..Schema::default() }
        }
        Form::Numbers(numbers) => Schema {
            values: numbers.iter().map(|number| Value::from(*number)).collect(),
            ..Schema::default()
        },
        Form::List(element) => Schema {
            kind: Some("array"),
            least_items: Some(1),
            items: Some(Box::new(leaf(element))),
            ..Schema::default()
        },
        Form::Either(forms) => {
            Schema { either: forms.iter().map(leaf).collect(), ..Schema::default() }
        }
    }
}

fn one_line(doc: &str) -> String {
    doc.replace('\n', " ")
}

/// The value of a key of a TOML text as JSON.
fn value(text: &str, key: &str) -> Option<Value> {
    let table = DeTable::parse(text).ok()?;
    table.get_ref().get(key).map(|found| json(found.get_ref()))
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Integer(number) => {
            Value::from(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or_default())
        }
        DeValue::Float(number) => Value::from(number.as_str().parse::<f64>().unwrap_or_default()),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(list) => list.iter().map(|one| json(one.get_ref())).collect(),
        DeValue::Table(table) => {
            let pairs = table.iter();
            pairs.map(|(key, one)| (key.get_ref().to_string(), json(one.get_ref()))).collect()
        }
    }
}
