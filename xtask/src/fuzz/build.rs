//! Builds the targets the way cargo-fuzz does, with the compiler that is pinned.

use super::Places;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What libFuzzer needs of the compiler. Assertions stay in: most findings are broken ones.
const FLAGS: [&str; 10] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
    "-Zsanitizer=address",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];

/// A target that was built.
pub(super) struct Program {
    pub(super) target: String,
    pub(super) path: PathBuf,
}

/// Builds these targets, or all that `fuzz/Cargo.toml` names.
pub(super) fn build(places: &Places, wanted: &[String]) -> Result<Vec<Program>, String> {
    let manifest = places.fuzz.join("Cargo.toml");
    let targets = choose(registered(&manifest)?, wanted)?;
    let triple = triple()?;
    let mut cargo = Command::new(cargo());
    cargo.args(["build", "--release", "--target", &triple, "--manifest-path"]).arg(&manifest);
    cargo.arg("--target-dir").arg(&places.work);
    for target in &targets {
        cargo.args(["--bin", target]);
    }
    // Coverage passes and sanitizers are not stable, and no nightly compiler is pinned.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS.join(" "));
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    eprintln!("building {} fuzz targets", targets.len());
    let status = cargo.status().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !status.success() {
        return Err(format!(
            "the fuzz targets cannot be built ({status}). They need a C++ compiler (apt-get install g++)"
        ));
    }
    let folder = places.work.join(triple).join("release");
    Ok(targets.into_iter().map(|target| Program { path: folder.join(&target), target }).collect())
}

/// The names of all targets, in alphabetical order.
fn registered(manifest: &Path) -> Result<Vec<String>, String> {
    let metadata = output(
        Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(manifest),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let targets = metadata["packages"].as_array().into_iter().flatten();
    let targets = targets.filter_map(|package| package["targets"].as_array()).flatten();
    let bins = targets.filter(|target| target["kind"][0] == "bin");
    let mut names: Vec<String> =
        bins.filter_map(|bin| bin["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    if names.is_empty() {
        return Err(format!("{} names no target", manifest.display()));
    }
    Ok(names)
}

fn choose(all: Vec<String>, wanted: &[String]) -> Result<Vec<String>, String> {
    if let Some(unknown) = wanted.iter().find(|wanted| !all.contains(wanted)) {
        return Err(format!("there is no fuzz target '{unknown}': use one of {}", all.join(", ")));
    }
    Ok(all.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect())
}

/// The machine that this compiler compiles for.
fn triple() -> Result<String, String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say what it compiles for".to_owned())
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).map_err(|error| format!("{command:?}: {error}"))
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("{command:?} failed: {said}"))
        }
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
