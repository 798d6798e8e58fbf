//! The batch forms: JSON lines on stdin, one answer each on stdout, in order.

use std::cell::RefCell;
use std::io::{self, BufRead, Write};

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::Value;
use waypost_types::shown_json;

use crate::answer::{Answer, Failure};

/// Answers each line of stdin. A line that cannot be used is answered by an error and the rest goes
/// on. Keys that are not known are passed over.
///
/// What is answered is written out whenever nothing more has been read ahead, so a peer may wait for
/// each answer before it writes the next line.
pub(crate) fn run<Question, Reply, Because>(
    answer: impl FnMut(Question) -> Result<Reply, Because>,
) -> Result<Answer, Failure>
where
    Question: DeserializeOwned,
    Reply: Serialize,
    Because: ToString,
{
    let input = io::BufReader::with_capacity(1 << 16, io::stdin().lock());
    let output = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    answer_lines(input, output, answer)?;
    Ok(Answer::Done)
}

fn answer_lines<Question, Reply, Because, Input: io::Read>(
    mut input: io::BufReader<Input>,
    mut output: impl Write,
    mut answer: impl FnMut(Question) -> Result<Reply, Because>,
) -> Result<(), Failure>
where
    Question: DeserializeOwned,
    Reply: Serialize,
    Because: ToString,
{
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        let read =
            read.map_err(|error| Failure::Input(format!("stdin cannot be read: {error}")))?;
        if read == 0 {
            return output.flush().map_err(Failure::from);
        }
        let id = id_of(&line);
        let answered = question(&line)
            .and_then(|question| answer(question).map_err(|because| because.to_string()));
        match answered {
            Ok(answer) => write_line(&mut output, &Answered { id, answer })?,
            Err(error) => write_line(&mut output, &Refused { id, error })?,
        }
        if input.buffer().is_empty() {
            output.flush()?;
        }
    }
}

fn question<Question: DeserializeOwned>(line: &[u8]) -> Result<Question, String> {
    // An array of the values alone would be taken for the object.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err("the line is no JSON object; write {\"id\": …} on one line".to_owned());
    }
    serde_json::from_slice(line)
        .map_err(|error| format!("the line is not the JSON object that is needed: {error}"))
}

/// Writes a value as one line of JSON, in which no letter misleads: such ones stand as `\u` escapes.
pub(crate) fn write_line(output: &mut impl Write, value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(io::Error::from)?;
    output.write_all(shown_json(&line).as_bytes())?;
    output.write_all(b"\n").map_err(Failure::from)
}

/// The bytes that a text carries, one code point U+0000 to U+00FF each.
///
/// # Errors
/// Names the first larger code point and the cure.
pub(crate) fn bytes(key: &str, text: &str) -> Result<Vec<u8>, String> {
    let byte = |(place, c): (usize, char)| {
        u8::try_from(u32::from(c)).map_err(|_| {
            format!(
                "`{key}` holds U+{:04X} as character {}, but it carries bytes: write each as one \
                 code point U+0000 to U+00FF",
                u32::from(c),
                place + 1
            )
        })
    };
    text.chars().enumerate().map(byte).collect()
}

#[derive(Serialize)]
struct Answered<T> {
    id: Value,
    #[serde(flatten)]
    answer: T,
}

#[derive(Serialize)]
struct Refused {
    id: Value,
    error: String,
}

/// The line's `id`, found even where the rest of the line is broken; else null.
fn id_of(line: &[u8]) -> Value {
    let found = RefCell::new(Value::Null);
    // A line that breaks behind its id has said its id.
    let _ = Id(&found).deserialize(&mut serde_json::Deserializer::from_slice(line));
    found.into_inner()
}

struct Id<'a>(&'a RefCell<Value>);

impl<'de> DeserializeSeed<'de> for Id<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Id<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "id" {
                self.0.replace(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Question {
        n: u8,
    }

    #[derive(Serialize)]
    struct Reply {
        twice: u8,
    }

    #[test]
    fn each_line_has_one_answer_in_order() {
        for (line, want) in [
            (r#"{"id":"1","n":2}"#, r#"{"id":"1","twice":4}"#),
            (r#"{"n":2,"id":7,"more":[1]}"#, r#"{"id":7,"twice":4}"#),
            (r#"{"n":2}"#, r#"{"id":null,"twice":4}"#),
            (r#"{"id":"a","n":200}"#, r#"{"id":"a","error":"200 is too much"}"#),
        ] {
            assert_eq!(answers(line.as_bytes()), format!("{want}\n"), "{line}");
        }
    }

    #[test]
    fn a_bad_line_keeps_its_id_and_the_rest_goes_on() {
        for (line, id) in [
            (&br#"{"id":"1","n":"two"}"#[..], r#""1""#),
            (br#"{"id":"1","n":"#, r#""1""#),
            (br#"{"id":"1"}"#, r#""1""#),
            (br#"{"n":1"id":"1"}"#, "null"),
            (b"", "null"),
            (b"[1]", "null"),
            (b"\xff", "null"),
        ] {
            let mut input = line.to_vec();
            input.extend_from_slice(b"\n{\"id\":\"z\",\"n\":1}");
            let answers = answers(&input);
            let lines: Vec<_> = answers.lines().collect();
            assert!(lines[0].starts_with(&format!(r#"{{"id":{id},"error":""#)), "{answers}");
            assert_eq!(lines[1..], [r#"{"id":"z","twice":2}"#], "{answers}");
        }
    }

    #[test]
    fn bytes_are_code_points() {
        assert_eq!(bytes("line", "a\u{ff}\0").unwrap(), b"a\xff\0");
        let error = bytes("line", "ab€").unwrap_err();
        assert!(error.contains("`line` holds U+20AC as character 3"), "{error}");
    }

    fn answers(input: &[u8]) -> String {
        let mut output = Vec::new();
        let twice = |question: Question| match question.n.checked_mul(2) {
            Some(twice) => Ok(Reply { twice }),
            None => Err(format!("{} is too much", question.n)),
        };
        answer_lines(io::BufReader::new(input), &mut output, twice).unwrap();
        String::from_utf8(output).unwrap()
    }
}
