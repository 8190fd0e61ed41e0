//! `logseal-agent`: seals this host's access records and hands them to the ledger.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    logseal_agent::commands::execute(logseal_agent::cli::Cli::parse())
}
