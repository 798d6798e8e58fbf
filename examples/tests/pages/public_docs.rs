//! What the pages of the crates promise: the parts of each head in their order, features, defaults of
//! bounds, and ids that are in docs/REQUIREMENTS.md. That `# Errors` and `# Panics` stand where they
//! must is clippy's to check (`missing_errors_doc`, `missing_panics_doc`).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Name and folder of each crate.
fn crates() -> Vec<(String, PathBuf)> {
    let folders = fs::read_dir(root().join("crates")).unwrap();
    let crates = folders.map(|folder| folder.unwrap());
    crates.map(|folder| (folder.file_name().into_string().unwrap(), folder.path())).collect()
}

/// The doc comment at the head of a crate.
fn head(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

/// Every source file of the crates.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<_> = crates().into_iter().map(|(_, path)| path.join("src")).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => {
                    let text = fs::read_to_string(&path).unwrap();
                    found.push((path, text));
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn the_head_of_each_crate_has_its_parts_in_order() {
    const PARTS: [&str; 9] = [
        "**For:**",
        "**Begin with:**",
        "**In:**",
        "**Out:**",
        "**Units:**",
        "**Bounds:**",
        "**Errors:**",
        "**Source:**",
        "**Not here:**",
    ];
    for (name, folder) in crates().into_iter().filter(|(name, _)| name != "waypost") {
        let head = head(&folder);
        let words = head.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut rest = words.as_str();
        for part in PARTS {
            rest = rest.split_once(part).unwrap_or_else(|| panic!("{name}: {part} in its place")).1;
        }
        assert!(rest.contains("# Example ") && rest.contains("```"), "{name}: an example");
        assert!(words.find("**For:**") < Some(200), "{name}: what it is, in one sentence");
    }
}

#[test]
fn each_feature_is_told_in_the_head() {
    for (name, folder) in crates() {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let features = manifest.split_once("\n[features]\n").map_or("", |(_, behind)| behind);
        let features = features.split("\n[").next().unwrap_or_default();
        let features = features.lines().filter_map(|line| line.split_once(" = "));
        let head = head(&folder);
        for (feature, _) in features.filter(|(feature, _)| *feature != "default") {
            let told = head.split_once("# Features\n").is_some_and(|(_, behind)| {
                behind.split("\n# ").next().unwrap_or_default().contains(&format!("`{feature}`"))
            });
            assert!(told, "{name}: # Features says what `{feature}` does");
        }
    }
}

/// Whoever leaves a bound as it is wants to know what it is.
#[test]
fn bounds_name_their_defaults() {
    let has_default =
        Regex::new(r"(?m)^impl Default for (\w*(?:Limits|Timeouts|Options|Retry)) \{").unwrap();
    let number =
        Regex::new(r"^    pub \w+: (?:Option<)?(?:Duration|u8|u16|u32|u64|usize|Backlog)\b")
            .unwrap();
    let mut seen = 0;
    for (path, text) in sources() {
        for found in has_default.captures_iter(&text) {
            let head = format!("\npub struct {} {{\n", &found[1]);
            let Some((_, body)) = text.split_once(&head) else { continue };
            let mut doc = String::new();
            for line in body.lines().take_while(|line| *line != "}") {
                match line.trim().strip_prefix("///") {
                    Some(text) => doc.push_str(text),
                    None => {
                        let told = doc.contains("by default") || doc.contains("[`");
                        assert!(told || !number.is_match(line), "{}: {line}", path.display());
                        seen += usize::from(number.is_match(line));
                        doc.clear();
                    }
                }
            }
        }
    }
    assert!(seen > 50, "{seen} bounds were looked at");
}

/// The lint sees that the section is there; a type alone does not say when.
#[test]
fn errors_say_when() {
    let mut seen = 0;
    for (path, text) in sources() {
        for section in text.split("/// # Errors\n").skip(1) {
            let is_item = |line: &&str| !line.starts_with("///") && !line.starts_with('#');
            let item = section.lines().map(str::trim_start).find(is_item);
            if !item.is_some_and(|line| line.starts_with("pub ")) {
                continue;
            }
            let lines = section.lines().map_while(|line| line.trim_start().strip_prefix("///"));
            let words = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
            let told = words.split(' ').count() > 4 || words.starts_with("As [`");
            assert!(told, "{}: # Errors says only: {words}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} sections were looked at");
}

/// A comment that names a point of the requirements names one that can be read.
#[test]
fn ids_are_those_of_the_requirements() {
    let page = fs::read_to_string(root().join("docs/REQUIREMENTS.md")).unwrap();
    let point = Regex::new(r"(?m)^- \*\*([A-EO]\d+)\*\* ").unwrap();
    let known: BTreeSet<&str> =
        point.captures_iter(&page).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(known.len() > 60, "{known:?}");
    let named = Regex::new(r"\(((?:[A-EO]\d{1,2})(?:(?:, |-| to )[A-EO]\d{1,2})*)\)").unwrap();
    let id = Regex::new(r"[A-EO]\d{1,2}").unwrap();
    let mut seen = 0;
    for (path, text) in sources() {
        for line in text.lines().filter(|line| line.trim_start().starts_with("//")) {
            for found in named.captures_iter(line) {
                for id in id.find_iter(&found[1]) {
                    seen += 1;
                    assert!(known.contains(id.as_str()), "{}: {line}", path.display());
                }
            }
        }
    }
    assert!(seen > 500, "{seen} ids were looked at");
}
