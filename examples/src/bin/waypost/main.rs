//! The command `waypost`: Waypost's crates put together for administrators.
//!
//! Each command is a module with its arguments and a function `run`. Exit status: 0 done, 1 the answer
//! is no, 2 unusable input.

mod answer;
mod ask;
mod audit;
mod batch;
mod check;
mod config_reference;
mod configuration;
mod dates;
mod demo;
mod diff;
mod explain;
mod hash_password;
mod look;
mod messages;
mod milter;
mod pick_host;
mod policy_server;
mod privileges;
mod progress;
mod queue;
mod quota;
mod received;
mod reload;
mod replay;
mod serve;
mod service_manager;
mod sockets;
mod source_ip;
mod table;
mod test_tag;
mod test_tls;

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
    Demo(demo::Arguments),
    Check(check::Arguments),
    Explain(explain::Arguments),
    Diff(diff::Arguments),
    SourceIp(source_ip::Arguments),
    Received(received::Arguments),
    PickHost(pick_host::Arguments),
    TestTag(test_tag::Arguments),
    TestTls(test_tls::Arguments),
    Quota(quota::Arguments),
    HashPassword(hash_password::Arguments),
    Serve(serve::Arguments),
    PolicyServer(policy_server::Arguments),
    Milter(milter::Arguments),
    Queue(queue::Arguments),
    Reload(reload::Arguments),
    Audit(audit::Arguments),
    ConfigReference(config_reference::Arguments),
}

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Check(arguments) => check::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::SourceIp(arguments) => source_ip::run(&arguments),
        Command::Received(arguments) => received::run(&arguments),
        Command::PickHost(arguments) => pick_host::run(&arguments),
        Command::TestTag(arguments) => test_tag::run(&arguments),
        Command::TestTls(arguments) => test_tls::run(&arguments),
        Command::Quota(arguments) => quota::run(&arguments),
        Command::HashPassword(arguments) => hash_password::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::PolicyServer(arguments) => policy_server::run(&arguments),
        Command::Milter(arguments) => milter::run(&arguments),
        Command::Queue(arguments) => queue::run(arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::ConfigReference(arguments) => config_reference::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    };
    answer::exit(ended)
}
