//! `logseal witness`: an outside witness of any transparency log, <https://c2sp.org/tlog-witness>.
//!
//! It remembers one checkpoint a log, and cosigns another one only if that is shown to extend it.
//! What holds for every cosignature that leaves it: the checkpoint is on disk, synced, and no
//! cosignature of this key at that size, or on a smaller tree, will ever differ, whatever crashes.
//! It reads no entries and trusts nobody: a log's keys only keep strangers from moving its state.

mod book;
mod config;
mod server;

pub use book::{Book, BookError, Refused};
pub use config::{Config, WatchedLog};

use crate::{
    client::block_on,
    output::{Failure, Outcome, fail},
};
use clap::{Args, Subcommand};
use record::{
    note::{KeyName, SignatureType},
    policy::Policy,
    witness::TreeHead,
};
use serde_json::{Value, json};
use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Be an outside witness of ledgers and other transparency logs.
///
/// A witness on a machine that the ledger's administrators do not run keeps them from rolling it
/// back or showing two histories unnoticed.
#[derive(Args, Debug)]
pub struct WitnessArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make a folder with a key, an empty memory and a configuration to adapt.
    Init {
        /// The folder; it must not hold a witness yet
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The name of the key, for ever: a URL without scheme, such as witness.example/w1
        #[arg(long)]
        name: KeyName,
        /// Where it will listen; beyond loopback it needs a certificate
        #[arg(long, default_value = "127.0.0.1:7590")]
        listen: std::net::SocketAddr,
        /// The policy of a ledger to witness, as you were given it
        #[arg(long, value_name = "FILE")]
        policy: Vec<PathBuf>,
    },
    /// Run it until SIGTERM; SIGHUP makes it read its certificate again.
    Run(File),
    /// Print its key, and what it cosigned last of each log.
    Show(File),
}

#[derive(Args, Debug)]
struct File {
    /// The configuration file
    #[arg(long, default_value = "/etc/logseal/witness.toml")]
    config: PathBuf,
}

/// Carries the command out.
pub fn run(args: WitnessArgs) -> Result<Outcome, Failure> {
    match args.command {
        Command::Init { dir, name, listen, policy } => init(&dir, &name, listen, &policy),
        Command::Run(file) => {
            service::logging::start();
            let config = Config::load(&file.config).map_err(fail)?;
            block_on(server::run(config))
        }
        Command::Show(file) => show(&Config::load(&file.config).map_err(fail)?),
    }
}

fn init(
    dir: &Path,
    name: &KeyName,
    listen: std::net::SocketAddr,
    policies: &[PathBuf],
) -> Result<Outcome, Failure> {
    let config = dir.join("witness.toml");
    if config.exists() {
        let problem = "exists: a witness is made once, and its key and memory belong together";
        return Err(Failure(format!("{} {problem}", config.display())));
    }
    let private = |dir: &Path| {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(Failure::file(dir))
    };
    let mut logs = String::new();
    for path in policies {
        let bytes = std::fs::read(path).map_err(Failure::file(path))?;
        let parsed = Policy::parse(&bytes);
        let parsed = parsed.map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        logs += &config::tables(&parsed);
    }
    private(&dir.join("state"))?;
    let made = service::keys::create(&dir.join("witness.key"), name, SignatureType::CosignatureV1);
    let vkey = made.map_err(fail)?.vkey().to_string();
    let text = config::template(name, listen, &logs);
    std::fs::write(&config, text).map_err(Failure::file(&config))?;
    let shown = config.display();
    let text = format!(
        "{vkey}\n{shown}: adapt it, then 'logseal witness run --config {shown}'. The line above is \
         the key for a ledger's [[witness]] and for policies\n"
    );
    let json = json!({ "vkey": vkey, "config": shown.to_string() });
    Ok(Outcome { text, json, code: service::exit::OK })
}

fn show(config: &Config) -> Result<Outcome, Failure> {
    let signer = config.load_key().map_err(fail)?;
    let vkey = signer.vkey().to_string();
    let mut text = format!("{vkey}\n");
    let mut logs: Vec<Value> = Vec::new();
    for log in &config.logs {
        let note = book::read(&config.state, &log.origin, signer.vkey()).map_err(fail)?;
        let head = note.as_ref().and_then(|(note, _)| TreeHead::of(note));
        let time = note.as_ref().map(|(_, time)| *time);
        text += &match (&head, time) {
            (Some(head), Some(time)) => {
                format!("{}  {} entries, cosigned {time}\n", log.origin, head.size)
            }
            _ => format!("{}  nothing cosigned yet\n", log.origin),
        };
        logs.push(json!({
            "origin": log.origin,
            "size": head.as_ref().map(|head| head.size.0),
            "root": head.as_ref().map(|head| head.root.to_string()),
            "time": time.map(|time| time.0),
        }));
    }
    let json = json!({ "vkey": vkey, "logs": logs });
    Ok(Outcome { text, json, code: service::exit::OK })
}
