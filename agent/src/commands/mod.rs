//! The program's commands, each to its exit code.

pub mod check;
pub mod key;
pub mod shadow;
mod status;
mod tap;
#[cfg(feature = "top")]
mod top;
pub mod try_lines;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use service::{config::ConfigError, exit};

use crate::{
    cli::{Cli, Command, SocketArgs, command},
    config::Config,
    run::{self, RunError},
};

/// The program's name in messages.
const PROGRAM: &str = "logseal-agent";

/// Carries out a command.
pub fn execute(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(args) => {
            service::logging::start();
            let result = Config::load(&args.config).map_err(RunError::from).and_then(run::run);
            exit::code_of(PROGRAM, result, RunError::code)
        }
        Command::Check(args) => check::execute(&args),
        Command::Try(args) => try_lines::execute(&args),
        Command::Key(args) => exit::code(PROGRAM, key::execute(&args)),
        Command::Shadow(args) => shadow::execute(&args),
        Command::Status(args) => status::execute(&args),
        Command::Tap(args) => tap::execute(&args),
        #[cfg(feature = "top")]
        Command::Top(args) => top::execute(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command(), PROGRAM, &mut io::stdout());
            ExitCode::from(exit::OK)
        }
        Command::Man => {
            exit::code(PROGRAM, clap_mangen::Man::new(command()).render(&mut io::stdout()))
        }
    }
}

/// The local socket of the agent that is meant.
fn socket(args: &SocketArgs) -> Result<PathBuf, ConfigError> {
    match &args.socket {
        Some(socket) => Ok(socket.clone()),
        None => Config::load(&args.config.config).map(|config| config.socket()),
    }
}

/// Prints to standard output. Whoever closed it does not want to read it.
fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
