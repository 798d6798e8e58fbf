//! The command `waypost`: Waypost's crates put together for administrators.
//!
//! Each command is a module with its arguments and a function `run`. Exit status: 0 done, 1 the answer
//! is no, 2 unusable input.

mod answer;
mod batch;
mod demo;
mod hash_password;
mod received;
mod serve;
mod source_ip;
mod table;
mod test_tag;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Mail routing: checks and explains a configuration, and runs it.
#[derive(Parser)]
#[command(
    name = "waypost",
    version,
    after_help = "Exit status: 0 done; 1 the answer is no (errors found, failed tests, a refused \
                  message); 2 unusable input."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    SourceIp(source_ip::Arguments),
    Received(received::Arguments),
    TestTag(test_tag::Arguments),
    HashPassword(hash_password::Arguments),
    Serve(serve::Arguments),
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::SourceIp(arguments) => source_ip::run(&arguments),
        Command::Received(arguments) => received::run(&arguments),
        Command::TestTag(arguments) => test_tag::run(&arguments),
        Command::HashPassword(arguments) => hash_password::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    };
    answer::exit(ended)
}
