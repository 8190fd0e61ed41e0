//! `cargo demo`: builds the programs and runs `logseal demo` with the arguments given.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let packages = ["logseal", "logseal-agent", "logseal-ledger"];
    let mut build = Command::new(cargo);
    build.args(["build", "--release"]);
    packages.iter().for_each(|package| {
        build.args(["--package", package]);
    });
    match build.status() {
        Ok(status) if status.success() => {}
        other => {
            eprintln!("cargo demo: the programs could not be built ({other:?})");
            return ExitCode::FAILURE;
        }
    }
    // The programs are beside this one.
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("target/release/demo"));
    let error = Command::new(own.with_file_name("logseal"))
        .arg("demo")
        .args(std::env::args_os().skip(1))
        .exec();
    eprintln!("cargo demo: {}: {error}", own.with_file_name("logseal").display());
    ExitCode::FAILURE
}
