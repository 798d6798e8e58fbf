//! The lines of a scenario file: statements with their blocks, before anybody asks what they mean.

use std::collections::BTreeMap;
use std::fmt;

/// What a statement begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Given,
    When,
    Then,
}

/// A line, and what is indented below it.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) line: usize,
    pub(crate) keyword: Keyword,
    pub(crate) words: Vec<Word>,
    /// Indentation is taken away.
    pub(crate) block: Vec<(usize, String)>,
}

/// A word of a statement; blanks inside of quotation marks are a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) is_quoted: bool,
}

/// A file, read.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// The requirements that it proves.
    pub(crate) proves: Vec<String>,
    /// The promise in a sentence.
    pub(crate) because: String,
    pub(crate) statements: Vec<Statement>,
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) line: usize,
    pub(crate) found: String,
    pub(crate) rule: String,
    pub(crate) cure: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`: {}; {}", self.line, self.found, self.rule, self.cure)
    }
}

impl Wrong {
    pub(crate) fn new(line: usize, found: &str, rule: &str, cure: &str) -> Self {
        let [found, rule, cure] = [found, rule, cure].map(str::to_owned);
        Self { line, found, rule, cure }
    }
}

/// Reads a whole file. `override_of` gives a number another value than the file does.
pub(crate) fn read(
    text: &str,
    override_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Text, Wrong> {
    let lines: Vec<(usize, String)> =
        text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect();
    let mut this = Text::default();
    let head = lines.iter().take_while(|(_, line)| keyword(line).is_none()).count();
    let (head, body) = lines.split_at(head);
    let mut is_because = false;
    for (number, line) in head {
        if let Some(proves) = line.strip_prefix("proves: ") {
            this.proves = proves.split(", ").map(str::to_owned).collect();
            is_because = false;
        } else if let Some(because) = line.strip_prefix("because: ") {
            because.clone_into(&mut this.because);
            is_because = true;
        } else if is_because && line.starts_with("  ") {
            this.because = format!("{} {}", this.because, line.trim());
        } else if !line.is_empty() && !line.starts_with('#') {
            let cure = "write `proves: `, `because: ` or a line that begins with `given `";
            return Err(Wrong::new(*number, line, "the head holds two keys", cure));
        }
    }
    if this.proves.is_empty() || this.because.is_empty() {
        let cure = "write `proves: O1` and `because: ` with one sentence on top";
        return Err(Wrong::new(1, "", "a scenario says what it proves and why", cure));
    }
    this.statements = statements(body, &mut BTreeMap::new(), override_of)?;
    Ok(this)
}

/// Reads statements, with the numbers that the file has defined so far.
pub(crate) fn statements(
    lines: &[(usize, String)],
    numbers: &mut BTreeMap<String, String>,
    override_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Statement>, Wrong> {
    let mut found: Vec<Statement> = Vec::new();
    let mut before = None;
    for (number, line) in lines {
        let line = with_numbers(line, numbers);
        let is_inside = line.starts_with(' ') || line.is_empty();
        if is_inside {
            match found.last_mut() {
                Some(last) => last.block.push((*number, line)),
                None if line.is_empty() => {}
                None => {
                    let cure = "begin it with `given`, `when` or `then`, not with a blank";
                    return Err(Wrong::new(*number, &line, "a block belongs to a statement", cure));
                }
            }
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let keyword = match (keyword(&line), before) {
            (Some(keyword), _) => keyword,
            (None, Some(before)) if first == "and" => before,
            _ => {
                let cure = "begin it with `given`, `when`, `then`, or `and` for the same again";
                return Err(Wrong::new(*number, &line, "this is no statement", cure));
            }
        };
        before = Some(keyword);
        let words = words(rest).ok_or_else(|| {
            Wrong::new(*number, &line, "a quotation has no end", "put a `\"` behind it")
        })?;
        if let [what, name, equals, value] = &words[..]
            && (what.text.as_str(), equals.text.as_str()) == ("number", "=")
        {
            let value = override_of(&name.text).unwrap_or_else(|| value.text.clone());
            numbers.insert(name.text.clone(), value);
            continue;
        }
        found.push(Statement { line: *number, keyword, words, block: Vec::new() });
    }
    for statement in &mut found {
        undent(&mut statement.block);
    }
    Ok(found)
}

fn keyword(line: &str) -> Option<Keyword> {
    match line.split(' ').next() {
        Some("given") => Some(Keyword::Given),
        Some("when") => Some(Keyword::When),
        Some("then") => Some(Keyword::Then),
        _ => None,
    }
}

fn with_numbers(line: &str, numbers: &BTreeMap<String, String>) -> String {
    let mut line = line.to_owned();
    for (name, value) in numbers {
        line = line.replace(&format!("{{{name}}}"), value);
    }
    line
}

fn undent(block: &mut Vec<(usize, String)>) {
    while block.last().is_some_and(|(_, line)| line.trim().is_empty()) {
        block.pop();
    }
    let blanks = |line: &str| line.len() - line.trim_start().len();
    let filled = block.iter().filter(|(_, line)| !line.trim().is_empty());
    let common = filled.map(|(_, line)| blanks(line)).min().unwrap_or_default();
    for (_, line) in block {
        *line = line.get(common..).unwrap_or_default().to_owned();
    }
}

/// `None`: a quotation mark is missing.
fn words(text: &str) -> Option<Vec<Word>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (text, behind) = quoted.split_once('"')?;
                (Word { text: text.to_owned(), is_quoted: true }, behind)
            }
            None => {
                let (text, behind) = rest.split_once(' ').unwrap_or((rest, ""));
                (Word { text: text.to_owned(), is_quoted: false }, behind)
            }
        };
        found.push(word);
        rest = behind.trim_start();
    }
    Some(found)
}

/// The words of a statement, one after the other.
pub(crate) struct Words<'a> {
    statement: &'a Statement,
    at: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn of(statement: &'a Statement) -> Self {
        Self { statement, at: 0 }
    }

    /// The text of the statement, for errors.
    pub(crate) fn text(&self) -> String {
        let keyword = match self.statement.keyword {
            Keyword::Given => "given",
            Keyword::When => "when",
            Keyword::Then => "then",
        };
        let mut text = keyword.to_owned();
        for word in &self.statement.words {
            let mark = if word.is_quoted { "\"" } else { "" };
            text.push_str(&format!(" {mark}{}{mark}", word.text));
        }
        text
    }

    pub(crate) fn wrong(&self, rule: &str, cure: &str) -> Wrong {
        Wrong::new(self.statement.line, &self.text(), rule, cure)
    }

    /// The next word, if it is there and not quoted.
    pub(crate) fn peek(&self) -> Option<&'a str> {
        let word = self.statement.words.get(self.at)?;
        (!word.is_quoted).then_some(word.text.as_str())
    }

    /// Whether the next words are these; they are passed over then.
    pub(crate) fn take(&mut self, text: &str) -> bool {
        let words: Vec<&str> = text.split(' ').collect();
        let next = self.statement.words.get(self.at..self.at + words.len());
        let fits = next.is_some_and(|next| {
            next.iter().zip(&words).all(|(word, want)| !word.is_quoted && word.text == **want)
        });
        if fits {
            self.at += words.len();
        }
        fits
    }

    /// The next words must be these.
    pub(crate) fn expect(&mut self, text: &str) -> Result<(), Wrong> {
        match self.take(text) {
            true => Ok(()),
            false => Err(self.wrong(
                &format!("behind word {} this verb wants `{text}`", self.at),
                "look it up in README.md",
            )),
        }
    }

    /// Any next word.
    pub(crate) fn word(&mut self, what: &str) -> Result<String, Wrong> {
        let word = self.statement.words.get(self.at);
        let word = word.ok_or_else(|| self.wrong(&format!("{what} is missing"), "write it"))?;
        self.at += 1;
        Ok(word.text.clone())
    }

    /// A next word in quotation marks, if there is one.
    pub(crate) fn quoted(&mut self) -> Option<String> {
        let word = self.statement.words.get(self.at).filter(|word| word.is_quoted)?;
        self.at += 1;
        Some(word.text.clone())
    }

    pub(crate) fn number(&mut self, what: &str) -> Result<usize, Wrong> {
        let word = self.word(what)?;
        word.parse().map_err(|_| {
            self.wrong(&format!("{what} is a whole number, and `{word}` is none"), "mend it")
        })
    }

    /// Words with a comma behind each but the last.
    pub(crate) fn list(&mut self, what: &str) -> Result<Vec<String>, Wrong> {
        let mut found = Vec::new();
        loop {
            let word = self.word(what)?;
            let Some(word) = word.strip_suffix(',') else {
                found.push(word);
                return Ok(found);
            };
            found.push(word.to_owned());
        }
    }

    /// Nothing must be left, and no block where none is wanted.
    pub(crate) fn end(self, wants_block: bool) -> Result<(), Wrong> {
        if let Some(word) = self.statement.words.get(self.at) {
            let rule = format!("nothing is known of `{}` here", word.text);
            return Err(self.wrong(&rule, "look the verb up in README.md"));
        }
        match (wants_block, self.statement.block.is_empty()) {
            (true, true) => Err(self.wrong("an indented block is missing", "write it below")),
            (false, false) => Err(self.wrong("this verb takes no indented block", "take it away")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "proves: O1\nbecause: It is so.\n";

    fn wrong(text: &str) -> String {
        match read(&format!("{HEAD}{text}"), &|_| None) {
            Ok(read) => {
                let step = super::super::step::steps(&read.statements, &|_| None);
                step.map(drop).unwrap_err().to_string()
            }
            Err(wrong) => wrong.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_line_rule_and_cure() {
        for (text, said) in [
            ("gvien x\n", "3: `gvien x`: the head holds two keys; write"),
            ("given sink a\nfoo\n", "4: `foo`: this is no statement; begin it with `given`"),
            ("given snik a\n", "3: `given snik a`: no verb begins like that; known are"),
            ("when send \"x\n", "a quotation has no end; put a"),
            ("when send a to b from c to\n", "a recipient is missing; write it"),
            ("when send a to b from c to d count x\n", "is a whole number, and `x` is none"),
            ("when kill a b\n", "nothing is known of `b` here"),
            ("when kill a\n    x\n", "takes no indented block"),
            ("given server a with\n", "an indented block is missing"),
            ("given sink a\n    rcpt: explodes\n", "4: `rcpt: explodes`: "),
            ("given dns\n    a.example B c\n", "4: `a.example B c`: "),
            ("when clock steps by 1d\n", "a step begins with `+` or `-`"),
        ] {
            let came = wrong(text);
            assert!(came.contains(said), "{text}\n{came}\nwanted: {said}");
        }
        let headless = read("given sink a\n", &|_| None).unwrap_err().to_string();
        assert!(headless.contains("says what it proves"), "{headless}");
    }

    #[test]
    fn numbers_may_be_set_from_outside_and_and_repeats_the_keyword() {
        let text = format!(
            "{HEAD}given number N = 3\nand sink a\nwhen repeat {{N}} times\n    when kill a\n"
        );
        let ours = |override_of: &dyn Fn(&str) -> Option<String>| {
            let read = read(&text, override_of).unwrap();
            read.statements.iter().map(|one| Words::of(one).text()).collect::<Vec<_>>()
        };
        assert_eq!(ours(&|_| None), ["given sink a", "when repeat 3 times"]);
        let more = |name: &str| (name == "N").then(|| "9".to_owned());
        assert_eq!(ours(&more), ["given sink a", "when repeat 9 times"]);
    }
}
