//! The name of a route.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// A route's name: 1 to 128 characters, no control characters, not blank (A1).
///
/// Kept as written, without blanks at its ends; compared without case.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct RouteName(Box<str>);

/// Why a text is no route name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteNameError {
    /// Nothing, or blanks only.
    #[error("a route's name is empty (A1); give it one, such as `exchange`")]
    Empty,
    /// More than 128 characters.
    #[error("a route's name has {0} characters; at most 128 are allowed (A1)")]
    TooLong(usize),
    /// A control character.
    #[error("a route's name holds a control character (A1)")]
    Control,
}

impl RouteName {
    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in lower case: the form in which two names are compared.
    pub fn folded(&self) -> impl Iterator<Item = char> {
        self.0.chars().flat_map(char::to_lowercase)
    }
}

impl FromStr for RouteName {
    type Err = RouteNameError;

    fn from_str(text: &str) -> Result<Self, RouteNameError> {
        let name = text.trim();
        if name.is_empty() {
            return Err(RouteNameError::Empty);
        }
        if name.contains(char::is_control) {
            return Err(RouteNameError::Control);
        }
        match name.chars().count() {
            ..=128 => Ok(Self(name.into())),
            long => Err(RouteNameError::TooLong(long)),
        }
    }
}

impl PartialEq for RouteName {
    fn eq(&self, other: &Self) -> bool {
        self.folded().eq(other.folded())
    }
}

impl Eq for RouteName {}

impl PartialOrd for RouteName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RouteName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(other.folded())
    }
}

impl Hash for RouteName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for c in self.folded() {
            c.hash(state);
        }
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RouteName {
    type Error = RouteNameError;

    fn try_from(text: String) -> Result<Self, RouteNameError> {
        text.parse()
    }
}

impl From<RouteName> for String {
    fn from(name: RouteName) -> String {
        name.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a1() {
        assert_eq!("Edge".parse::<RouteName>(), "eDGE ".parse::<RouteName>());
        assert_eq!("".parse::<RouteName>(), Err(RouteNameError::Empty));
        assert_eq!(" \t ".parse::<RouteName>(), Err(RouteNameError::Empty));
        assert!("é".repeat(128).parse::<RouteName>().is_ok());
        assert_eq!("é".repeat(129).parse::<RouteName>(), Err(RouteNameError::TooLong(129)));
        assert_eq!("a\nb".parse::<RouteName>(), Err(RouteNameError::Control));
    }
}
