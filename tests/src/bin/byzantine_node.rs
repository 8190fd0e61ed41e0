//! `byzantine-node run --config ledger.toml`: stands in for a node, and lies. For tests only.

use std::{path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let [_, run, option, config] = args.as_slice() else {
        eprintln!("byzantine-node run --config FILE");
        return ExitCode::from(2);
    };
    assert!(run == "run" && option == "--config", "started as a node is");
    match logseal_tests::byzantine::run(&PathBuf::from(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("byzantine-node: {failure}");
            ExitCode::FAILURE
        }
    }
}
