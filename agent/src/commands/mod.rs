//! The program's commands, each to its exit code.

pub mod check;
pub mod key;

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use service::exit;

use crate::{
    cli::{Cli, Command, command},
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
            let drain = Duration::from_secs(args.drain);
            let config = Config::load(&args.config.config).map_err(RunError::from);
            let result = config.and_then(|config| run::run(config, drain));
            exit::code_of(PROGRAM, result, RunError::code)
        }
        Command::Check(args) => check::execute(&args),
        Command::Key(args) => exit::code(PROGRAM, key::execute(&args)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut command(), PROGRAM, &mut io::stdout());
            ExitCode::from(exit::OK)
        }
        Command::Man => {
            exit::code(PROGRAM, clap_mangen::Man::new(command()).render(&mut io::stdout()))
        }
    }
}

/// Prints to standard output. Whoever closed it does not want to read it.
fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
