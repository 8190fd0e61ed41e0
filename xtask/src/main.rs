//! The project's chores: `cargo xtask test`, `cargo xtask fuzz`, `cargo xtask sim`,
//! `cargo xtask bench spine`, `cargo xtask bench cluster`, `cargo xtask bench agent`,
//! `cargo xtask bench outage`, `cargo xtask bench store`.

mod fuzz;
mod setup;

use clap::{Parser, Subcommand, ValueEnum};
use fuzz::Fuzz;
use std::process::{Command, ExitCode};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Set up what the tests need from Debian, build the programs, run all tests
    Test {
        /// Then run every fuzz target for 60 seconds
        #[arg(long)]
        long: bool,
        /// Passed on to cargo test, such as a package (-p record) or a filter
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Feed every decoder with what nobody thought of; the last line is JSON
    Fuzz(Fuzz),
    /// Run the ledger's nodes in simulated worlds, one a seed; '--help' has the options
    Sim {
        /// Passed on: --first 1 --seeds 300 --trace --keep-going --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Measure; the last line is JSON
    Bench {
        /// What to measure
        what: Bench,
        /// Passed on to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// File to receipt, with one agent and one node
    Spine,
    /// The agent's weight and speed, next to rsyslog and syslog-ng
    Agent,
    /// File to receipt, with one agent and four nodes, next to rsyslog
    Cluster,
    /// A node's store with millions of entries
    Store,
    /// An hour without a ledger, and whether every line is there afterwards
    Outage,
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Test { long: false, rest } => test(&rest),
        Chore::Test { long: true, rest } => test(&rest).and_then(|()| fuzz::fuzz(&Fuzz::all())),
        Chore::Fuzz(asked) => fuzz::fuzz(&asked),
        Chore::Sim { rest } => sim(&rest),
        Chore::Bench { what: Bench::Spine, rest } => bench("bench-spine", &rest),
        Chore::Bench { what: Bench::Store, rest } => bench("bench-store", &rest),
        Chore::Bench { what: Bench::Outage, rest } => bench("bench-outage", &rest),
        Chore::Bench { what: Bench::Agent, rest } => setup::debian()
            .and_then(|()| setup::syslog_ng())
            .and_then(|()| bench("bench-agent", &rest)),
        Chore::Bench { what: Bench::Cluster, rest } => {
            setup::debian().and_then(|()| bench("bench-cluster", &rest))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("cargo xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn test(rest: &[String]) -> Result<(), String> {
    setup::debian()?;
    setup::syslog_ng()?;
    cargo(&["build", "--workspace", "--bins"], &[])?;
    if !rest.is_empty() {
        return cargo(&["test"], rest);
    }
    cargo(&["test", "--workspace"], &[])?;
    // What it takes to lie is in no build of the whole workspace, so the simulator is built apart.
    cargo(&["test", "--package", "logseal-sim", "--features", "planted-bugs"], &[])?;
    sim(&[])
}

fn sim(rest: &[String]) -> Result<(), String> {
    let run = ["run", "--quiet", "--package", "logseal-sim", "--features", "byzantine", "--"];
    cargo(&run, rest)
}

fn bench(name: &str, rest: &[String]) -> Result<(), String> {
    cargo(&["build", "--release", "--workspace", "--bins"], &[])?;
    let run = ["run", "--release", "--quiet", "--package", "logseal-tests", "--bin", name, "--"];
    cargo(&run, rest)
}

fn cargo(args: &[&str], rest: &[String]) -> Result<(), String> {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(program).args(args).args(rest).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("'cargo {}' failed: {status}", args.join(" "))),
        Err(error) => Err(format!("cargo cannot be run: {error}")),
    }
}
