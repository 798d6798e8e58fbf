//! Tables as spreadsheets write them, what is wrong with others, and the same directory as TOML.

use proptest::prelude::*;

use super::*;
use crate::raw;

fn read(text: &str) -> (Option<RawDirectory>, Report) {
    let mut report = Report::default();
    let read = read_directory_csv(SourceFile::new("users.csv", text), &mut report);
    (read, report)
}

/// The same lines for the same directory, whatever it is written in.
fn said(directory: RawDirectory) -> String {
    format!("{:?}", raw::tree(&directory))
}

fn good(text: &str) -> String {
    let (directory, report) = read(text);
    assert_eq!(report.diagnostics().len(), 0, "{text}\n{}", report.render(false));
    let directory = directory.unwrap();
    assert!(directory.complete);
    said(directory)
}

fn toml(text: &str) -> String {
    let mut report = Report::default();
    said(raw::read_directory(SourceFile::new("d.toml", text), &mut report).unwrap())
}

#[test]
fn c4_tables_say_what_toml_says() {
    let marie = "[[user]]\naddress = \"marie@s.example\"\naliases = [\"m@s.example\", \"p@s.example\"]\n\
                 org_unit = \"/sales\"\n";
    let plain = "[[user]]\naddress = \"marie@s.example\"\n";
    for (csv, want) in [
        ("address\nmarie@s.example\n", plain),
        ("address\r\nmarie@s.example\r\n", plain),
        ("address\nmarie@s.example", plain),
        ("\u{feff}Address\n\n  marie@s.example  \n\n", plain),
        ("kind,address,active\nuser,marie@s.example,TRUE\n,,\n", plain),
        (
            "address,active\nmarie@s.example,no\n",
            "[[user]]\naddress = \"marie@s.example\"\nactive = false\n",
        ),
        ("org_unit,aliases,address\n/sales,m@s.example p@s.example,marie@s.example\n", marie),
        ("org_unit;aliases;address\n/sales;m@s.example p@s.example;marie@s.example\n", marie),
        ("org_unit\taliases\taddress\n/sales\tm@s.example;p@s.example\tmarie@s.example\n", marie),
        (
            "org_unit,aliases,address\n\"/sales\",\"m@s.example;\n p@s.example\",\"marie@s.example\"\n",
            marie,
        ),
        (
            "kind,address,members\ngroup,team@s.example,marie@s.example x@e.example\n",
            "[[group]]\naddress = \"team@s.example\"\nmembers = [\"marie@s.example\", \"x@e.example\"]\n",
        ),
        (
            "address,messages_per_user_per_day\nmarie@s.example,05\n",
            "[[user]]\naddress = \"marie@s.example\"\nlimits = { messages_per_user_per_day = 5 }\n",
        ),
        ("kind,address\n", ""),
    ] {
        assert_eq!(good(csv), toml(want), "{csv}");
    }
}

#[test]
fn c4_everything_wrong_is_told_at_once_with_line_column_and_cure() {
    for (csv, want) in [
        ("", &["users.csv:1:1", "the file is empty", "kind,address"][..]),
        (
            "kind,adress\n",
            &["users.csv:1:6", "there is no column `adress`", "did you mean `address`?"],
        ),
        ("kind,adress\n", &["names no column `address`"]),
        ("address,address\n", &["users.csv:1:9", "`address` is there twice"]),
        ("address\nmarie\n", &["users.csv:2:1", "marie", "write for example `marie@example.com`"]),
        ("address,aliases\nm@s.example,a@s.example b@\n", &["users.csv:2:25", "b@"]),
        ("address,active\nm@s.example,maybe\n", &["users.csv:2:13", "`true` or `false`"]),
        ("address,org_unit\nm@s.example,sales\n", &["users.csv:2:13", "sales"]),
        (
            "address,messages_per_user_per_day\nm@s.example,many\n",
            &["users.csv:2:13", "a whole number"],
        ),
        (
            "kind,address\nlist,m@s.example\n",
            &["users.csv:2:1", "`list` is no kind", "`user` or `group`"],
        ),
        ("address,members\nm@s.example,x@s.example\n", &["users.csv:2:13", "a user has none"]),
        (
            "kind,address,aliases\ngroup,m@s.example,x@s.example\n",
            &["a group has none", "leave the cell empty"],
        ),
        ("address,org_unit\nm@s.example\n", &["users.csv:2:1", "has 1 cells", "names 2"]),
        ("address,org_unit\n,/sales\n", &["users.csv:2:1", "this row has no address"]),
        ("address,org_unit\n\"m@s.example,/sales\n", &["users.csv:2:1", "never closed"]),
        (
            "address,org_unit\n\"m@s.example\"x,/sales\n",
            &["users.csv:2:14", "text follows the quote"],
        ),
    ] {
        let (_, report) = read(csv);
        let shown = report.render(false);
        for part in want {
            assert!(shown.contains(part), "{csv}: {part}\n{shown}");
        }
    }
    // All at once, and what is right is read all the same.
    let (directory, report) = read("address,active\nx,maybe\nm@s.example,perhaps\nn@s.example,\n");
    assert_eq!(report.diagnostics().len(), 3, "{}", report.render(false));
    let directory = directory.unwrap();
    let addresses = directory.user.iter().filter_map(|user| user.address.as_ref());
    assert_eq!(addresses.count(), 2);
    assert!(!directory.complete);
    // No cell with a password is shown.
    let (_, report) = read("address,password\nm@s.example,secret\n");
    let shown = report.render(false);
    assert!(shown.contains("no password hash") && !shown.contains("secret"), "{shown}");
    // A hash that cannot be checked is told by its algorithm, and not shown either (D6).
    let (_, report) =
        read("address,password\nm@s.example,$bcrypt$r=10$c29tZXNhbHQ$c29tZWhhc2hzb21laGFzaA\n");
    let shown = report.render(false);
    assert!(shown.contains("is of `bcrypt`") && !shown.contains("c29t"), "{shown}");
}

#[test]
fn c4_a_large_table_is_the_same_directory_as_its_toml() {
    let large = crate::large::large(0, 500);
    assert_eq!(good(&large.csv), toml(&large.toml));
}

proptest! {
    /// Any text: no panic, and every place is inside the file.
    #[test]
    fn any_text_is_safe(text in "(kind,address,aliases\n|address;active\n)?([a-z@.\", ;\r\né]|true){0,60}") {
        let (_, report) = read(&text);
        for found in report.diagnostics() {
            let (from, to) = (found.place.start as usize, found.place.end as usize);
            prop_assert!(from <= to && to <= text.len() + 1, "{found:?}");
        }
        let _ = report.render(false);
    }

    /// What cells hold comes back, however they are quoted.
    #[test]
    fn cells_stand_where_they_are_said_to_stand(
        cells in proptest::collection::vec(("[a-z ,\"\n]{0,6}", any::<bool>()), 1..5),
    ) {
        let quoted = |(text, quote): &(String, bool)| {
            match *quote || text.contains(['"', ',', '\n']) {
                true => format!("\"{}\"", text.replace('"', "\"\"")),
                false => text.clone(),
            }
        };
        let row = cells.iter().map(quoted).collect::<Vec<_>>().join(",");
        let (spans, fault) = spans(&row, 0, b',');
        prop_assert_eq!(fault, None);
        let found: Vec<_> = spans.iter().map(|span| row[span.clone()].replace("\"\"", "\"")).collect();
        let want: Vec<_> = cells.iter().map(|(text, _)| text.clone()).collect();
        prop_assert_eq!(found, want);
    }
}
