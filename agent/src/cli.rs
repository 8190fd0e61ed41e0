//! The command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Where packages put the configuration.
const DEFAULT_CONFIG: &str = "/etc/logseal/agent.toml";

/// Seals this host's access records and hands them to the ledger.
///
/// The agent reads log files and the journal, receives syslog, makes each line a record, numbers,
/// hashes and signs the records in batches, keeps them in its spool and hands them to the ledger.
/// It lets go of a batch only when it has verified the ledger's receipt for it.
#[derive(Debug, Parser)]
#[command(name = "logseal-agent", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, or stopped as asked; 1 the machine failed and another start may help; 2 the command \
line, the configuration or the ledger's state needs a person.

The environment variable LOGSEAL_LOG sets what is logged: info (the default), debug, warn, or a \
filter such as logseal_agent=debug.";

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM or SIGINT; SIGHUP takes up new certificates and revocation lists
    Run(RunArgs),
    /// Check the configuration, and the files and certificates it names, without starting
    ///
    /// Prints what is wrong with its file and line. Can be used while the agent runs.
    Check(ReportArgs),
    /// Print the agent's vkey, for an operator to enrol; makes the key if there is none
    ///
    /// The key file is made once, readable by its owner only, and never overwritten. Run this as the
    /// user that the agent runs as. Keep a copy of the file, offline and encrypted: no other key can
    /// ever be enrolled under the same agent name.
    Key(ReportArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page (roff)
    Man,
}

/// Which configuration to use.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// Which configuration to use, and how to end.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub config: ConfigArgs,
    /// When all sources have come to their end, as standard input does, wait so many seconds for
    /// the ledger's receipts before the program ends
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain: u64,
}

/// Which configuration to use, and how to answer.
#[derive(Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub config: ConfigArgs,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// The command line, for completions and the manual.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_the_documentation_are_understood() {
        command().debug_assert();
        for line in [
            "logseal-agent run --config /etc/logseal/agent.toml",
            "logseal-agent run --config a.toml --drain 5",
            "logseal-agent check --config a.toml --json",
            "logseal-agent key",
            "logseal-agent completions bash",
            "logseal-agent man",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["logseal-agent"]).is_err());
    }
}
