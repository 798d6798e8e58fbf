//! `waypost config-reference`: every key of the configuration, for people and for editors.

use std::io::{self, Write as _};

use waypost_config::reference::{self, Document};

use crate::answer::{Answer, Failure};

/// Print every key of the configuration: type, default, requirement, what it does, an example
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// This table and those below it alone, such as `organization.rule`
    #[arg(long, value_name = "NAME", conflicts_with = "schema")]
    table: Option<String>,
    /// A JSON Schema for editors instead (draft 2020-12)
    #[arg(long, visible_alias = "json")]
    schema: bool,
    /// With --schema: of which kind of file
    #[arg(long, value_name = "FILE", value_enum, default_value = "main", requires = "schema")]
    of: File,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum File {
    /// The main file
    Main,
    /// One that `include` finds
    Include,
    /// One of `directory`, in TOML
    Directory,
}

impl File {
    fn document(self) -> Document {
        match self {
            File::Main => Document::Main,
            File::Include => Document::Included,
            File::Directory => Document::Directory,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let text = match arguments.schema {
        true => reference::schema(arguments.of.document()),
        false => reference::markdown(arguments.table.as_deref())
            .ok_or_else(|| no_table(arguments.table.as_deref().unwrap_or_default()))?,
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Answer::Done)
}

fn no_table(name: &str) -> Failure {
    let tables: Vec<String> = reference::sections().into_iter().map(|one| one.path).collect();
    Failure::Input(format!("there is no table `{name}`; the tables are {}", tables.join(", ")))
}
