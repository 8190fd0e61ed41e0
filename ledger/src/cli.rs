//! The command line of `logseal-ledger`.

use crate::{
    config::{Config, Keys},
    run::{self, RunError},
};
use clap::{CommandFactory, Parser, Subcommand};
use service::exit;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// A node of a logseal ledger: takes sealed batches from agents, orders them, keeps them, and
/// proves that it does.
#[derive(Debug, Parser)]
#[command(name = "logseal-ledger", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 all is well, 1 the machine failed and another start may help, \
    2 the command or its configuration is at fault.\nThe environment variable LOGSEAL_LOG sets the log level (debug, info, warn, …)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node until SIGTERM; SIGHUP makes it read its certificates again.
    Run {
        #[command(flatten)]
        file: File,
        /// This node's store is lost, or it joins a ledger that exists: fetch everything from the
        /// other nodes, and vote only when that is safe. Without effect if there is a store.
        #[arg(long)]
        rejoin: bool,
    },
    /// Check the configuration, its files, keys and certificates, without starting.
    Check(File),
    /// Make the node's private keys if they are missing, and print the ledger's policy.
    Keys {
        #[command(flatten)]
        file: File,
        /// Print the node's table for members.toml instead, without its addresses
        #[arg(long)]
        member: bool,
    },
    /// Print the ledger's policy: what agents and auditors must be given to trust this ledger.
    Policy {
        #[command(flatten)]
        file: File,
        /// Print the policy of auditors and monitors, which asks for the outside witnesses too.
        #[arg(long)]
        audit: bool,
    },
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Debug, clap::Args)]
struct File {
    /// The configuration file.
    #[arg(long, default_value = "/etc/logseal/ledger.toml")]
    config: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    exit::code_of("logseal-ledger", carry_out(Cli::parse().command), RunError::code)
}

fn carry_out(command: Command) -> Result<(), RunError> {
    match command {
        Command::Run { file, rejoin } => {
            service::logging::start();
            run::run(&Config::load(&file.config)?, rejoin)
        }
        Command::Check(file) => {
            let checked = run::check(&Config::load(&file.config)?)?;
            let text = checked.warnings.iter().map(|w| format!("warning: {w}\n"));
            let cluster = checked.cluster.iter().map(|cluster| format!("cluster: {cluster}\n"));
            let ok = format!("{}: ok\n", file.config.display());
            let text: String = text.chain(cluster).chain([ok]).collect();
            print(if file.json { json(&checked) } else { text })
        }
        Command::Keys { file, member } => {
            let config = Config::load(&file.config)?;
            let keys = config.make_keys()?;
            match member {
                false => print_policy(&config.policy(&keys), file.json),
                true => print_member(&config, &keys, file.json),
            }
        }
        Command::Policy { file, audit } => {
            let config = Config::load(&file.config)?;
            let keys = config.load_keys()?;
            let policy = if audit { config.audit_policy(&keys)? } else { config.policy(&keys) };
            print_policy(&policy, file.json)
        }
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "logseal-ledger", &mut out);
            print(String::from_utf8_lossy(&out).into_owned())
        }
        Command::Man => {
            let mut out = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut out);
            rendered.map_err(|source| RunError::System { what: "write", source })?;
            print(String::from_utf8_lossy(&out).into_owned())
        }
    }
}

fn print_policy(policy: &str, as_json: bool) -> Result<(), RunError> {
    print(if as_json { json(&serde_json::json!({ "policy": policy })) } else { policy.to_owned() })
}

/// What the administrators of a cluster's nodes exchange to write the members file.
fn print_member(config: &Config, keys: &Keys, as_json: bool) -> Result<(), RunError> {
    let (name, consensus) = (config.name.as_str(), keys.consensus.vkey().to_string());
    let (log, cosigner) = (keys.log.vkey().to_string(), keys.cosigner.vkey().to_string());
    if as_json {
        let member = serde_json::json!({
            "name": name, "consensus": consensus, "log": log, "cosigner": cosigner,
        });
        return print(json(&member));
    }
    // A JSON string is a TOML string too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    print(format!(
        "[[node]]\nname = {}\npeers = \"HOST:7515\"\nagents = \"HOST:7514\"\n\
         https = \"HOST:7580\"\nconsensus = {}\nlog = {}\ncosigner = {}\n",
        quoted(name),
        quoted(&consensus),
        quoted(&log),
        quoted(&cosigner),
    ))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data") + "\n"
}

fn print(text: String) -> Result<(), RunError> {
    let written = io::stdout().write_all(text.as_bytes());
    written.map_err(|source| RunError::System { what: "write to standard output", source })
}
