//! Leaves that are names, lines and paths.

use toml::de::DeValue;

use super::keys::Form;
use super::leaf::{Fault, Leaf, quoted, text};

/// A name or description: one line, not blank; without blanks at its ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for Name {
    const EXPECTED: &'static str = "a name";
    const EXAMPLE: &'static str = "\"a name\"";

    fn form() -> Form {
        Form::Matching(r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let name = OneLine::from_value(value)?;
        match name.0.trim() {
            "" => Err(Fault::value("the name is empty")),
            name => Ok(Self(name.into())),
        }
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

/// A text without control characters: it injects nothing into a reply or header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OneLine(Box<str>);

impl OneLine {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for OneLine {
    const EXPECTED: &'static str = "a text of one line";
    const EXAMPLE: &'static str = "\"text\"";

    fn form() -> Form {
        Form::Matching(r"^[^\x00-\x1f\x7f-\x9f]*$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        match text.chars().find(|c| c.is_control()) {
            None => Ok(Self(text.into())),
            Some(control) => Err(Fault::Value {
                message: format!("the text holds the control character {control:?}"),
                cure: Some("write it in one line without control characters".into()),
            }),
        }
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

/// The path of a file or directory; a relative one starts at the directory of the main file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FilePath(Box<str>);

impl FilePath {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.into())
    }

    /// The path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for FilePath {
    const EXPECTED: &'static str = "the path of a file";
    const EXAMPLE: &'static str = "\"file\"";

    fn form() -> Form {
        Form::Matching(r"^[^\x00]+$")
    }

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let text = text(value)?;
        if text.is_empty() || text.contains('\0') {
            return Err(Fault::value("the path is empty or holds NUL"));
        }
        Ok(Self(text.into()))
    }

    fn to_toml(&self) -> String {
        quoted(&self.0)
    }
}

/// The files of a directory: one, or several that are read as if they were one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryFiles(Vec<FilePath>);

impl DirectoryFiles {
    /// Their paths, in the order as written.
    #[must_use]
    pub fn paths(&self) -> &[FilePath] {
        &self.0
    }
}

impl Leaf for DirectoryFiles {
    const EXPECTED: &'static str = "the path of a file, or a list of paths";
    const EXAMPLE: &'static str = "\"users.csv\"";

    fn from_value(value: &DeValue<'_>) -> Result<Self, Fault> {
        let Some(list) = value.as_array() else {
            return Ok(Self(vec![FilePath::from_value(value)?]));
        };
        let mut paths: Vec<FilePath> = Vec::new();
        for node in list.iter() {
            let path = FilePath::from_value(node.get_ref())?;
            if paths.contains(&path) {
                return Err(Fault::value(format_args!("`{}` is there twice", path.as_str())));
            }
            paths.push(path);
        }
        Ok(Self(paths))
    }

    fn to_toml(&self) -> String {
        match self.0.as_slice() {
            [one] => one.to_toml(),
            several => {
                let paths: Vec<String> = several.iter().map(Leaf::to_toml).collect();
                format!("[{}]", paths.join(", "))
            }
        }
    }
}
