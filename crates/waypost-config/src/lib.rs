//! Waypost's configuration: TOML text in, a compiled mail-routing policy and all diagnostics out.
//!
//! **For:** programs that take this configuration as `waypost` does, and tools that write, check or
//! explain it. **Begin with:** [`raw::read`], [`compile`], then [`Compiled::into_policy`] and
//! [`Policy::explain`](policy::Policy::explain).
//!
//! **In:** the text of the main file and of those that it includes ([`raw::read`]), and the files
//! that it names ([`Files`]). **Out:** [`Compiled`], the parts of a policy, and a
//! [`Report`](diagnostics::Report): every mistake and doubt at once, each with file, line, the text
//! underlined, the requirement that it breaks and the cure. [`raw::RawConfig::keys`] is the format
//! as data, and [`mod@reference`] what is made of it: a page for people, a schema for editors.
//!
//! **Units:** spans of time and sizes are written with their unit. **Bounds:** time and memory are
//! linear in the text; patterns compile to 1 MiB at most. **Errors:** a text that is not TOML is
//! [`raw::NotToml`]; everything else is in the report. **Source:** A1-A11, B1-B4, C1-C8, D1-D6,
//! D10-D12, E1-E11, O2, O6, O7.
//!
//! **Not here:** no file is opened: the caller resolves relative paths (they start at the directory
//! of the main file) and the patterns of `include`.
//!
//! # Example
//!
//! ```
//! use std::collections::HashMap;
//!
//! use waypost_config::diagnostics::SourceFile;
//! use waypost_config::{compile, raw};
//!
//! let text = r#"
//! [server]
//! hostname = "mx.solarmora.com"
//! admni = "127.0.0.1:8025"
//! "#;
//! let (config, mut report) = raw::read(SourceFile::new("waypost.toml", text), Vec::new())?;
//! let files: HashMap<String, Vec<u8>> = HashMap::new();
//! assert!(compile(&config, &files, &mut report).is_none());
//! let shown = report.render(false);
//! assert!(shown.contains("waypost.toml:4:1"));
//! assert!(shown.contains("did you mean `admin`?"));
//! # Ok::<(), raw::NotToml>(())
//! ```

mod build;
pub mod diagnostics;
pub mod difference;
pub mod directory;
pub mod dns;
mod duration;
mod expect;
#[cfg(test)]
#[path = "../testdata/large/mod.rs"]
mod large;
pub mod milter;
pub mod policy;
pub mod postfix;
pub mod raw;
pub mod reference;
pub mod replay;
pub mod settings;
mod size;

pub use build::{Compiled, Files, compile};
pub use expect::{Tested, run_expectations};
pub use size::Size;
