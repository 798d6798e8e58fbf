//! Pages that show files and commands: each command answers what the page says, `UPDATE_GOLDENS=1` writes it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// The words of a command; blanks inside of single quotes are part of a word.
fn arguments(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (place, part) in line.split('\'').enumerate() {
        match place % 2 {
            0 => {
                for (place, word) in part.split(' ').enumerate() {
                    if place > 0 {
                        words.push(String::new());
                    }
                    words.last_mut().unwrap().push_str(word);
                }
            }
            _ => words.last_mut().unwrap().push_str(part),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What `waypost` answers to the line of a page, run in a folder; input may come by `<`. Where the exit
/// status is not 0, it is told at the end.
fn answer(folder: &Path, line: &str) -> String {
    let (command, input) = line.split_once(" < ").unwrap_or((line, ""));
    let words = command.strip_prefix("waypost ").unwrap_or_else(|| panic!("{line}"));
    let stdin = match input {
        "" => Stdio::null(),
        file => File::open(folder.join(file)).unwrap().into(),
    };
    let output = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(arguments(words))
        .current_dir(folder)
        .stdin(stdin)
        .output()
        .unwrap();
    let mut said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_ne!(output.status.code(), Some(2), "{line}: {said}");
    // A page shows no blanks at the ends of lines, which editors take away.
    said = said.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if !output.status.success() {
        writeln!(said, "[exit status {}]", output.status.code().unwrap()).unwrap();
    }
    said
}

/// Plays a page: blocks whose fence names a file are written, those of the console are run. Returns the page
/// as it should be, and how many commands it has.
fn played(page: &str) -> (String, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (mut out, mut ran, mut rest) = (String::new(), 0, page);
    while let Some((before, block)) = rest.split_once("\n```") {
        let (fence, block) = block.split_once('\n').unwrap();
        let (text, behind) = block.split_once("\n```").unwrap_or_else(|| panic!("{fence}"));
        write!(out, "{before}\n```{fence}\n").unwrap();
        match fence.split_once(' ') {
            None if fence == "console" => {
                let mut shown = String::new();
                let mut lines = text.lines();
                while let Some(line) = lines.next() {
                    let Some(line) = line.strip_prefix("$ ") else { continue };
                    let (mut written, mut whole) = (line.to_owned(), line.to_owned());
                    while let Some(begun) = whole.strip_suffix('\\') {
                        let next = lines.next().unwrap();
                        write!(written, "\n{next}").unwrap();
                        whole = format!("{begun}{}", next.trim());
                    }
                    write!(shown, "$ {written}\n{}", answer(folder.path(), &whole)).unwrap();
                    ran += 1;
                }
                out.push_str(shown.trim_end());
            }
            Some((_, name)) => {
                fs::write(folder.path().join(name), format!("{text}\n")).unwrap();
                out.push_str(text);
            }
            None => out.push_str(text),
        }
        out.push_str("\n```");
        rest = behind;
    }
    out.push_str(rest);
    (out, ran)
}

fn is_true(name: &str, commands: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let page = fs::read_to_string(&path).unwrap();
    let (should, ran) = played(&page);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(path, &should).unwrap();
    } else if let Some((is, should)) =
        page.lines().zip(should.lines()).find(|(is, ought)| is != ought)
    {
        panic!("{name} says\n{is}\nand it is\n{should}\nUPDATE_GOLDENS=1 writes it");
    }
    assert!(!should.contains("\nFAILED"), "{name}: an [[expect]] test fails");
    assert!(ran >= commands, "{name}: {ran} commands");
}

#[test]
fn the_guide_shows_what_the_commands_say() {
    is_true("docs/GUIDE.md", 11);
}

#[test]
fn the_pages_for_those_who_come_from_elsewhere_show_what_the_commands_say() {
    for page in ["hosted", "postfix", "exim"] {
        is_true(&format!("docs/migrate/{page}.md"), 1);
    }
}
