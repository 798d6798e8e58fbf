//! File names by pattern: `*` is any characters of a name, `?` is one.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Whether a path has a wildcard.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// The files that a pattern names, sorted by path. Directories that do not exist have none; a
/// wildcard does not match a leading dot.
///
/// # Errors
/// The directory that cannot be read, and why.
pub(super) fn files(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut found = vec![base.to_owned()];
    for component in Path::new(pattern).components() {
        let name = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !is_pattern(&name) {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let mut below = Vec::new();
        for directory in found {
            let names = names(&directory).map_err(|error| (directory.clone(), error))?;
            let fits = names.into_iter().filter(|one| matches(&name, one));
            below.extend(fits.map(|one| directory.join(one)));
        }
        found = below;
    }
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let shown = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    match std::fs::read_dir(shown) {
        Ok(entries) => {
            let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
            entries.filter_map(|entry| entry.map(name).transpose()).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether a name fits a pattern: steps back to the last `*` only, so time is the product of both
/// lengths at most.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (p, n) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, want) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            (".*", ".toml", true),
            ("*.toml", "a.toml.bak", false),
            ("a?c*", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxb", true),
            ("*a*b*", "xxbxxa", false),
            ("**", "x", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
