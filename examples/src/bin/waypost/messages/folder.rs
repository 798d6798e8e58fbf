//! The messages of a folder.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders within folders deeper than this are not looked at.
const DEEPEST: u32 = 32;

/// Adds the paths of a folder's messages, in order of their names.
///
/// A folder with `cur` or `new` is a Maildir: every file in those two is a message, `tmp` is not looked
/// at. Anywhere else files named `*.eml`, `*.mbox` and `mbox` are. Folders inside are looked at; links to
/// folders are not, so that nothing is found twice.
pub(super) fn list(folder: &Path, out: &mut Vec<String>, tell: &mut impl FnMut(String)) {
    list_at(folder, 0, out, tell);
}

fn list_at(folder: &Path, depth: u32, out: &mut Vec<String>, tell: &mut impl FnMut(String)) {
    let is_maildir = ["cur", "new"].iter().any(|name| folder.join(name).is_dir());
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for (path, kind) in entries(folder, tell) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if kind.is_dir() {
            match name.as_str() {
                "cur" | "new" if is_maildir => {
                    let mail = entries(&path, tell).into_iter().filter(|(_, kind)| !kind.is_dir());
                    files.extend(mail.map(|(path, _)| path));
                }
                "tmp" if is_maildir => {}
                _ => folders.push(path),
            }
        } else if !is_maildir && is_mail(&name) {
            files.push(path);
        }
    }
    files.sort();
    out.extend(files.iter().map(|path| path.to_string_lossy().into_owned()));
    folders.sort();
    for folder in folders {
        if depth < DEEPEST {
            list_at(&folder, depth + 1, out, tell);
        }
    }
}

fn is_mail(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".eml") || name.ends_with(".mbox") || name == "mbox"
}

fn entries(folder: &Path, tell: &mut impl FnMut(String)) -> Vec<(PathBuf, fs::FileType)> {
    let mut failed = |error| {
        tell(format!("{}: cannot be listed: {error}; check its rights", folder.display()));
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            failed(error);
            return Vec::new();
        }
    };
    let mut out = Vec::new();
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
            Ok(found) => out.push(found),
            Err(error) => failed(error),
        }
    }
    out
}
