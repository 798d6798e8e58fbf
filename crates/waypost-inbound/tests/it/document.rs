//! Parts of a page that are made of the code's own tables.

use std::path::PathBuf;

/// A file of this package.
pub(crate) fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), name].iter().collect()
}

/// Holds a page's part between `<!-- NAME: begin -->` and `<!-- NAME: end -->` against what it must be;
/// with `UPDATE_GOLDENS` in the environment it is written anew.
pub(crate) fn section(page: &str, name: &str, want: &str) {
    let path = path(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->\n"));
    let from = text.find(&begin).unwrap() + begin.len();
    let to = text.find(&end).unwrap();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, [&text[..from], want, &text[to..]].concat()).unwrap();
        return;
    }
    assert_eq!(&text[from..to], want, "write it anew with UPDATE_GOLDENS=1");
}
