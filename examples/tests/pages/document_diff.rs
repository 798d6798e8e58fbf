//! The commands of docs/DIFF.md answer what the page says.

use std::path::Path;
use std::process::Command;

#[test]
fn the_commands_of_the_page_on_diff_answer_so_c9() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = root.join("docs/DIFF.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let mut written = text.clone();
    let mut ran = 0;
    for block in text.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let (command, answer) = block.split_once('\n').unwrap();
        let words: Vec<&str> = command.strip_prefix("$ waypost ").unwrap().split(' ').collect();
        let output = Command::new(env!("CARGO_BIN_EXE_waypost"))
            .args(&words)
            .current_dir(root)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        written = written.replace(block, &format!("{command}\n{said}"));
        ran += 1;
        if std::env::var_os("UPDATE_GOLDENS").is_none() {
            assert_eq!(answer, said, "{command}: UPDATE_GOLDENS=1 writes it");
        }
    }
    assert_eq!(ran, 1);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(page, written).unwrap();
    }
}

/// What the page shows of the configuration can be read.
#[test]
fn the_settings_of_the_page_on_diff_are_taken_c9() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/DIFF.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut taken = 0;
    for block in text.split("```toml\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let named = "[server]\nhostname = \"mx.solarmora.com\"\n";
        let block = match block.strip_prefix("[server]\n") {
            Some(rest) => format!("{named}{rest}"),
            None => format!("{named}{block}"),
        };
        let more = "[[listener]]\nname = \"mx\"\nrole = \"mx\"\nbind = \"127.0.0.1:0\"\n\
                    [[organization]]\nname = \"S\"\ndomains = [\"s.example\"]\nlicences = 1\n";
        let path = folder.path().join("waypost.toml");
        std::fs::write(&path, format!("{block}{more}")).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_waypost")).arg("check").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("record"), "{block}\n{said}");
        taken += 1;
    }
    assert_eq!(taken, 2);
}
