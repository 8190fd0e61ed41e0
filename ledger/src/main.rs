//! `logseal-ledger`, a node of the ledger.

use std::process::ExitCode;

fn main() -> ExitCode {
    logseal_ledger::cli::main()
}
