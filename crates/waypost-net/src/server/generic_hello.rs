//! HELO names that anyone could use (D15).

use waypost_types::Domain;

/// Whether a HELO name says nothing about its user (D15).
///
/// So does a name without a dot, such as `localhost`, one in `localhost` or `localdomain`, which a system
/// has that nobody named, and the server's own. An address literal does say something.
#[must_use]
pub fn is_generic_hello(name: &str, own: &Domain) -> bool {
    name.parse::<Domain>().is_ok_and(|name| {
        let last = name.as_str().rsplit('.').next();
        name.is_unqualified()
            || name == *own
            || last.is_some_and(|last| ["localhost", "localdomain"].contains(&last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_names_d15() {
        let own = "mx.solarmora.com".parse().unwrap();
        for (name, want) in [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("localhost.localdomain", true),
            ("printer.localdomain", true),
            ("a.b.LocalDomain.", true),
            ("app.localhost", true),
            ("localdomain.solarmora.com", false),
            ("xlocaldomain.example", false),
            ("ylmf-pc", true),
            ("MX.Solarmora.com", true),
            ("mail.solarmora.com", false),
            ("[192.0.2.1]", false),
            ("192.0.2.1", false),
        ] {
            assert_eq!(is_generic_hello(name, &own), want, "{name}");
        }
    }
}
