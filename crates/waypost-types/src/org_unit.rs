//! A place in an organization's tree.

use std::fmt;
use std::str::FromStr;

/// The path of an organizational unit: `/`, `/sales`, `/sales/emea` (A11, C8).
///
/// Compared without ASCII case (kept in lower case). At most 512 octets; names between slashes are
/// not empty, hold no control character, and have no blank at their ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct OrgUnit(Box<str>);

/// Why a text is no path of an organizational unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrgUnitError {
    /// It does not begin with `/`.
    #[error("the path of an organizational unit begins with `/`, as `/sales` does")]
    NotAbsolute,
    /// A name is empty, has blanks at its ends, or holds a control character.
    #[error(
        "a name in the path of an organizational unit is empty, ends in a blank or holds a control character"
    )]
    Name,
    /// More than 512 octets.
    #[error("the path of an organizational unit has more than 512 octets")]
    TooLong,
}

impl OrgUnit {
    /// The root unit, `/`.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit above; `None` at the root.
    #[must_use]
    pub fn parent(&self) -> Option<OrgUnit> {
        match self.0.rsplit_once('/')? {
            _ if &*self.0 == "/" => None,
            ("", _) => Some(Self::root()),
            (above, _) => Some(Self(above.into())),
        }
    }

    /// This unit, then those above it up to the root.
    pub fn lineage(&self) -> impl Iterator<Item = OrgUnit> {
        std::iter::successors(Some(self.clone()), OrgUnit::parent)
    }

    /// Whether this is `ancestor` or a unit below it.
    #[must_use]
    pub fn is_at_or_below(&self, ancestor: &OrgUnit) -> bool {
        match self.0.strip_prefix(&*ancestor.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || &*ancestor.0 == "/",
            None => false,
        }
    }
}

impl Default for OrgUnit {
    fn default() -> Self {
        Self::root()
    }
}

impl FromStr for OrgUnit {
    type Err = OrgUnitError;

    fn from_str(text: &str) -> Result<Self, OrgUnitError> {
        if text.len() > 512 {
            return Err(OrgUnitError::TooLong);
        }
        let names = text.strip_prefix('/').ok_or(OrgUnitError::NotAbsolute)?;
        if names.is_empty() {
            return Ok(Self::root());
        }
        for name in names.split('/') {
            if name.is_empty() || name.trim() != name || name.contains(char::is_control) {
                return Err(OrgUnitError::Name);
            }
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for OrgUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for OrgUnit {
    type Error = OrgUnitError;

    fn try_from(text: String) -> Result<Self, OrgUnitError> {
        text.parse()
    }
}

impl From<OrgUnit> for String {
    fn from(unit: OrgUnit) -> String {
        unit.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_climbs_c8() {
        for (text, want) in [
            ("/", Ok("/")),
            ("/Sales/EMEA", Ok("/sales/emea")),
            ("", Err(OrgUnitError::NotAbsolute)),
            ("sales", Err(OrgUnitError::NotAbsolute)),
            ("/sales/", Err(OrgUnitError::Name)),
            ("//", Err(OrgUnitError::Name)),
            ("/ sales", Err(OrgUnitError::Name)),
        ] {
            assert_eq!(
                text.parse::<OrgUnit>().as_ref().map(OrgUnit::as_str),
                want.as_ref().copied()
            );
        }
        let unit: OrgUnit = "/sales/emea".parse().unwrap();
        let lineage: Vec<_> = unit.lineage().map(|u| u.to_string()).collect();
        assert_eq!(lineage, ["/sales/emea", "/sales", "/"]);
        assert!(unit.is_at_or_below(&"/sales".parse().unwrap()));
        assert!(unit.is_at_or_below(&OrgUnit::root()));
        assert!(!unit.is_at_or_below(&"/sal".parse().unwrap()));
    }
}
