//! A large configuration: one organization with as many rules, users and groups as asked for. Shared
//! by tests and by the bench `reload`.

use std::fmt::Write as _;

/// The main file and the directory that it names, as TOML and as CSV.
pub(crate) struct Large {
    /// The main file; it names `directory.toml`.
    pub(crate) main: String,
    /// The users and groups as TOML.
    pub(crate) toml: String,
    /// The same users and groups as CSV.
    pub(crate) csv: String,
}

/// The version 1 hash that every tenth user has.
const PASSWORD: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$\
                        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A configuration with 100 units and 20 routes. Of each four rules two have addresses, one a group,
/// one a pattern; each tenth user has a password, each second an alias; a group has 20 members.
#[must_use]
pub(crate) fn large(rules: usize, users: usize) -> Large {
    let groups = (users / 100).max(1);
    let (toml, csv) = directory(users, groups);
    Large { main: main(rules, groups), toml, csv }
}

fn main(rules: usize, groups: usize) -> String {
    let mut main = String::from(
        "[server]\nhostname = \"mx.solarmora.com\"\nspool = \"spool\"\n\n\
         [[listener]]\nname = \"mx\"\nrole = \"mx\"\nbind = \"127.0.0.1:0\"\n\n\
         [[organization]]\nname = \"Solarmora\"\ndomains = [\"solarmora.com\"]\nlicences = 100000\n\
         directory = \"directory.toml\"\n",
    );
    for route in 0..20 {
        // Writing to a String cannot fail.
        let _ = write!(
            main,
            "\n[[organization.route]]\nname = \"route {route}\"\nprimary = [\n  \
             {{ host = \"a{route}.example\", load = 60 }},\n  \
             {{ host = \"b{route}.example\", load = 40 }},\n]\n"
        );
    }
    for rule in 0..rules {
        let sender = match rule % 4 {
            0 | 1 => format!("{{ address = \"sender{rule}@partner.example\" }}"),
            2 => format!("{{ group = \"group{}@solarmora.com\" }}", rule % groups),
            _ => format!("{{ pattern = '@partner{rule}\\.example$' }}"),
        };
        let _ = write!(
            main,
            "\n# Rule {rule}.\n[[organization.rule]]\ndescription = \"Rule {rule}\"\n\
             org_unit = \"/unit{}\"\naffects = [\"inbound\", \"internal-receiving\"]\n\
             accounts = [\"users\", \"groups\"]\nenvelope = {{ senders = [{sender}] }}\n\
             then = {{ modify = {{ route = \"route {}\", add_headers = \
             [{{ name = \"X-Rule\", value = \"{rule}\" }}] }} }}\n",
            rule % 100,
            rule % 20,
        );
    }
    for test in 0..10 {
        let _ = write!(
            main,
            "\n[[expect]]\ndescription = \"test {test}\"\nfrom = \"a{test}@elsewhere.example\"\n\
             to = \"user{test}@solarmora.com\"\nvia = \"mailbox\"\n"
        );
    }
    main
}

fn directory(users: usize, groups: usize) -> (String, String) {
    let mut toml = String::new();
    let mut csv = String::from("kind,address,aliases,org_unit,active,password,members\n");
    for user in 0..users {
        let unit = user % 100;
        let alias = match user % 2 {
            0 => String::new(),
            _ => format!("u.{user}@solarmora.com"),
        };
        let password = if user % 10 == 0 { PASSWORD } else { "" };
        let _ = write!(toml, "[[user]]\naddress = \"user{user}@solarmora.com\"\n");
        if !alias.is_empty() {
            let _ = writeln!(toml, "aliases = [\"{alias}\"]");
        }
        let _ = writeln!(toml, "org_unit = \"/unit{unit}\"");
        if !password.is_empty() {
            let _ = writeln!(toml, "password = \"{password}\"");
        }
        let _ =
            writeln!(csv, "user,user{user}@solarmora.com,{alias},/unit{unit},true,\"{password}\",");
    }
    for group in 0..groups {
        let members: Vec<String> = (0..20.min(users))
            .map(|member| {
                format!("user{}@solarmora.com", (group * 100 + member * 7) % users.max(1))
            })
            .collect();
        let _ = writeln!(
            toml,
            "[[group]]\naddress = \"group{group}@solarmora.com\"\nmembers = [\"{}\"]",
            members.join("\", \"")
        );
        let _ = writeln!(csv, "group,group{group}@solarmora.com,,,,,{}", members.join(" "));
    }
    (toml, csv)
}
