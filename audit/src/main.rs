//! `logseal`, the command line of auditors and operators.

use std::process::ExitCode;

fn main() -> ExitCode {
    logseal::cli::main()
}
