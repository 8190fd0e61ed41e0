//! The command line of `logseal`.

use crate::{
    backup::{self, BackupArgs, DrillArgs, RestoreArgs},
    certs_cmd::{self, CertsArgs},
    cluster::{self, ClusterArgs},
    demo::{self, DemoArgs},
    enrol::{self, EnrolArgs},
    export::{self, ExportArgs},
    forward::{self, ForwardArgs},
    monitor::{self, MonitorArgs},
    output::{Failure, Outcome, fail, finish},
    proof::{self, ProofArgs},
    prune::{self, PruneArgs},
    status::{self, StatusArgs},
    verify::{self, VerifyArgs},
    witness::{self, WitnessArgs},
};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Check, prove and administer the records of a logseal ledger.
#[derive(Debug, Parser)]
#[command(name = "logseal", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 it holds or was done, 1 evidence is broken, \
    2 usage, input/output or a refused request.")]
struct Cli {
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(VerifyArgs),
    Proof(ProofArgs),
    Export(ExportArgs),
    Forward(ForwardArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Drill(DrillArgs),
    Enrol(EnrolArgs),
    Prune(PruneArgs),
    Status(StatusArgs),
    Certs(CertsArgs),
    Cluster(ClusterArgs),
    Monitor(Box<MonitorArgs>),
    Witness(WitnessArgs),
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    match command {
        Command::Verify(args) => finish(verify::run(args), json),
        Command::Proof(args) => finish(proof::run(args), json),
        Command::Export(args) => finish(export::run(args), json),
        Command::Forward(args) => finish(forward::run(args), json),
        Command::Backup(args) => finish(backup::run_backup(args), json),
        Command::Restore(args) => finish(backup::run_restore(args), json),
        Command::Drill(args) => finish(backup::run_drill(args), json),
        Command::Enrol(args) => finish(enrol::run(args), json),
        Command::Prune(args) => finish(prune::run(args), json),
        Command::Status(args) => finish(status::run(args), json),
        Command::Certs(args) => certs(&args),
        Command::Cluster(args) => finish(cluster::run(args), json),
        Command::Monitor(args) => finish(monitor::run(*args, json), json),
        Command::Witness(args) => finish(witness::run(args), json),
        Command::Demo(args) => demo::run(&args),
        Command::Completions { shell } => finish(completions(shell), json),
        Command::Man => finish(man(), json),
    }
}

fn certs(args: &CertsArgs) -> ExitCode {
    certs_cmd::run(args).unwrap_or_else(|error| {
        service::exit::report("logseal", &error);
        ExitCode::from(service::exit::USAGE)
    })
}

fn completions(shell: clap_complete::Shell) -> Result<Outcome, Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "logseal", &mut out);
    text(out)
}

fn man() -> Result<Outcome, Failure> {
    let mut out = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut out).map_err(fail)?;
    text(out)
}

fn text(bytes: Vec<u8>) -> Result<Outcome, Failure> {
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let json = serde_json::json!({ "text": text });
    Ok(Outcome { text, json, code: service::exit::OK })
}
