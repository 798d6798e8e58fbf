// From README.md, by scripts/outside --update.
use std::collections::HashMap;
use waypost_config::{compile, diagnostics::SourceFile, raw, run_expectations};

const TEXT: &str = r#"
server = { hostname = "mx.solarmora.com", spool = "spool" }
listener = [{ name = "mx", role = "mx", bind = "127.0.0.1:2525" }]
expect = [{ description = "unknown", from = "a@b.example", to = "x@solarmora.com", route = "exchange" }]
[[organization]]
name = "Solarmora"
domains = ["solarmora.com"]
licences = 10
route = [{ name = "exchange", host = "exchange.corp.example" }]
[[organization.rule]]
description = "Split delivery"
affects = ["inbound"]
accounts = ["unrecognized"]
then = { modify = { route = "exchange" } }
"#;

fn main() -> Result<(), raw::NotToml> {
    let (config, mut report) = raw::read(SourceFile::new("waypost.toml", TEXT), Vec::new())?;
    let files: HashMap<String, Vec<u8>> = HashMap::new(); // those that the text names
    let compiled = compile(&config, &files, &mut report);
    let policy = compiled.unwrap_or_else(|| panic!("{}", report.render(false))).into_policy("1");
    assert!(run_expectations(&policy, &config).iter().all(|test| test.passed));
    Ok(())
}
