//! The command line.

use std::path::PathBuf;

use clap::{
    Args, CommandFactory, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use clap_complete::Shell;
use pipeline::Format;

/// Where packages put the configuration.
const DEFAULT_CONFIG: &str = "/etc/logseal/agent.toml";

/// Seals this host's access records and hands them to the ledger.
///
/// The agent reads log files and receives syslog over TLS, makes each line a record, numbers,
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
    Run(ConfigArgs),
    /// Check the configuration, and the files and certificates it names, without starting
    ///
    /// Prints what is wrong with its file and line. Can be used while the agent runs.
    Check(ReportArgs),
    /// Show what would be extracted from the lines of a file, and send nothing
    ///
    /// Only the sources of the configuration are looked at; certificates and a spool need not be there.
    /// Exit codes: 0 if something was extracted from at least one line, 1 if not, 2 if the
    /// lines could not be tried.
    Try(TryArgs),
    /// Print the agent's vkey, for an operator to enrol; makes the key if there is none
    ///
    /// The key file is made once, readable by its owner only, and never overwritten. Run this as the
    /// user that the agent runs as. Keep a copy of the file, offline and encrypted: no other key can
    /// ever be enrolled under the same agent name.
    Key(ReportArgs),
    /// Print what shadow mode found out about the old syslog feed
    ///
    /// One row a period, the sum, and what it means. Needs [shadow] in the configuration.
    Shadow(ShadowArgs),
    /// Ask the running agent what it is doing: ledger, spool, and each source
    ///
    /// Exit code 0 if all is well, 1 if something needs attention (no node connected, sources held
    /// back or not running), 2 if no agent answers.
    Status(AskArgs),
    #[cfg(feature = "top")]
    /// Watch the running agent: the same as status, once a second, until 'q' is pressed
    Top(TopArgs),
    /// Watch records as the running agent seals them, until Ctrl-C
    ///
    /// Shows each record as it will stand in the ledger. Watching costs the agent next to nothing;
    /// records that come faster than they can be shown pass by, and how many did is said.
    Tap(TapArgs),
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

/// What to tell of shadow mode.
#[derive(Debug, Args)]
pub struct ShadowArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub report: ReportArgs,
    /// Leave out what lies before: 24h, 7d, 2026-11-21 or 2026-11-21T10 (UTC)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Exit with 1 if the old way lost or altered a line, or carried one that nobody sealed
    #[arg(long)]
    pub check: bool,
}

/// Which running agent to ask.
#[derive(Debug, Args)]
pub struct SocketArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub config: ConfigArgs,
    /// The agent's local socket, instead of the one that the configuration leads to
    #[arg(long, value_name = "SOCKET", conflicts_with = "config")]
    pub socket: Option<PathBuf>,
}

/// Which running agent to ask, and how to answer.
#[derive(Debug, Args)]
pub struct AskArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub agent: SocketArgs,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// Which running agent to watch.
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub agent: SocketArgs,
    /// Seconds between two looks
    #[arg(long, short, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub delay: u64,
}

/// Which records to watch.
#[derive(Debug, Args)]
pub struct TapArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub agent: SocketArgs,
    /// Only records of this source
    #[arg(long, short, value_name = "NAME")]
    pub source: Option<String>,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub count: Option<u64>,
    /// One JSON object a record
    #[arg(long)]
    pub json: bool,
}

/// Which lines to try, and as what.
#[derive(Debug, Args)]
pub struct TryArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would take it for help")]
    pub config: ConfigArgs,
    /// The source of the configuration whose lines these are; not needed if it is the only one
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Take the lines for this format, without a configuration
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["config", "source"], value_parser = formats())]
    pub format: Option<Format>,
    /// Take each line for a syslog message, and what it carries for the line
    #[arg(long)]
    pub syslog: bool,
    /// Answer in JSON: an object for each line, and one for the summary
    #[arg(long)]
    pub json: bool,
    /// Look at so many lines only
    #[arg(long, value_name = "N")]
    pub lines: Option<u64>,
    /// The file with the lines; - is the standard input
    pub file: PathBuf,
}

fn formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::name)).try_map(|name| name.parse::<Format>())
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
            "logseal-agent check --config a.toml --json",
            "logseal-agent try --source kong /var/log/kong/access.log",
            "logseal-agent try --format nginx-json --json --lines 100 -",
            "logseal-agent key",
            "logseal-agent shadow --config a.toml --json --since 24h --check",
            "logseal-agent status --json",
            "logseal-agent top --delay 2",
            "logseal-agent tap --source kong -n 10 --json",
            "logseal-agent completions bash",
            "logseal-agent man",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["logseal-agent"]).is_err());
    }
}
