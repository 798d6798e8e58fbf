//! Configuration texts.

use waypost_config::diagnostics::{Report, SourceFile};
use waypost_config::raw;

/// Any text, read as a configuration; a form feed parts the main file from an included one.
///
/// Nothing panics. Whatever is found wrong stands inside its file, on character boundaries, and
/// says message, rule and cure; reading again finds the same. No secret is shown.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let report = read(text);
    for found in report.diagnostics() {
        let file = usize::try_from(found.place.file).unwrap();
        let source = &report.sources()[file];
        let place =
            usize::try_from(found.place.start).unwrap()..usize::try_from(found.place.end).unwrap();
        assert!(source.text.get(place.clone()).is_some(), "{place:?} is no text: {found:?}");
        let words = [found.id, found.message.as_str(), found.rule, found.cure.as_str()];
        assert!(words.iter().all(|text| !text.is_empty()), "{found:?}");
    }
    let shown = report.render(false);
    assert_eq!(read(text).render(false), shown);
    assert_eq!(shown.is_empty(), report.diagnostics().is_empty());
}

fn read(text: &str) -> Report {
    let mut files = text.split('\x0c');
    let main = SourceFile::new("waypost.toml", files.next().unwrap_or_default());
    let included = files.take(2).map(|text| SourceFile::new("more.toml", text)).collect();
    match raw::read(main, included) {
        Ok((_, report)) => report,
        Err(not_toml) => {
            assert!(not_toml.report.has_errors(), "not TOML, and nothing said");
            assert!(!not_toml.to_string().is_empty());
            not_toml.report
        }
    }
}
