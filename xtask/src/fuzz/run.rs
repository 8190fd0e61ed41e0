//! Runs one target and understands what libFuzzer says.

use super::{Places, build::Program};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fmt,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// An input on which a target works for so long is a finding. Machines may be busy.
const SLOWEST_SECONDS: u32 = 25;

/// A target that takes so much memory is a finding. AddressSanitizer keeps what was freed for a
/// while, so most of it is not the target's own.
const MOST_MIB: u32 = 2048;

/// What a run came to.
pub(super) struct Outcome {
    target: String,
    executions: u64,
    per_second: u64,
    /// Edges of the program that were reached.
    coverage: u64,
    /// The same, counted with how often and with which comparisons.
    features: u64,
    corpus_files: u64,
    /// In bytes; libFuzzer rounds it.
    corpus_size: String,
    /// Inputs that broke the target, or its log if it broke without one.
    pub(super) findings: Vec<PathBuf>,
    /// How to see a finding again.
    replay: String,
    log: PathBuf,
}

/// Runs a target for so long, from all inputs that are kept or were found earlier in this build.
pub(super) fn run(places: &Places, program: &Program, seconds: u32) -> Result<Outcome, String> {
    let target = &program.target;
    let found = places.make("corpus", target)?;
    let artifacts = places.make("artifacts", target)?;
    let log = places.make("log", target)?.join("run.log");
    let before = files(&artifacts)?;
    let file = |path: &Path| File::create(path).map_err(|e| format!("{}: {e}", path.display()));
    let status = Command::new(&program.path)
        .arg(&found)
        .args([places.kept(target), places.seeds(target)].iter().filter(|dir| dir.is_dir()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOWEST_SECONDS}"))
        .arg(format!("-rss_limit_mb={MOST_MIB}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file(&log)?)
        .status()
        .map_err(|error| format!("{} cannot be run: {error}", program.path.display()))?;
    let said = std::fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut outcome = Outcome::read(target, &String::from_utf8_lossy(&said));
    outcome.replay = format!("{} <the input>", program.path.display());
    if !status.success() {
        outcome.findings = files(&artifacts)?.difference(&before).cloned().collect();
        if outcome.findings.is_empty() {
            outcome.findings.push(log.clone());
        }
    }
    outcome.log = log;
    Ok(outcome)
}

impl Outcome {
    fn read(target: &str, log: &str) -> Self {
        let stat = |name: &str| {
            let value = log.lines().rev().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let last = log.lines().rev().find(|line| line.starts_with('#') && line.contains(" ft: "));
        let words: Vec<&str> = last.unwrap_or_default().split_whitespace().collect();
        let behind = |name: &str| {
            let at = words.iter().position(|word| *word == name);
            at.and_then(|at| words.get(at + 1)).copied().unwrap_or("0")
        };
        let (files, size) = behind("corp:").split_once('/').unwrap_or(("0", "0b"));
        Outcome {
            target: target.to_owned(),
            executions: stat("stat::number_of_executed_units:"),
            per_second: stat("stat::average_exec_per_sec:"),
            coverage: behind("cov:").parse().unwrap_or(0),
            features: behind("ft:").parse().unwrap_or(0),
            corpus_files: files.parse().unwrap_or(0),
            corpus_size: size.to_owned(),
            findings: Vec::new(),
            replay: String::new(),
            log: PathBuf::new(),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "target": self.target, "executions": self.executions, "per_second": self.per_second,
            "coverage": self.coverage, "features": self.features,
            "corpus_files": self.corpus_files, "findings": self.findings,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:16} {:>10} executions  {:>7}/s  coverage {:>5}  features {:>6}  corpus {:>5} files, {:>6}  findings {}",
            self.target,
            self.executions,
            self.per_second,
            self.coverage,
            self.features,
            self.corpus_files,
            self.corpus_size,
            self.findings.len(),
        )?;
        for finding in &self.findings {
            write!(f, "\n    FOUND  {}", finding.display())?;
        }
        if !self.findings.is_empty() {
            write!(f, "\n    log    {}\n    replay {}", self.log.display(), self.replay)?;
            write!(
                f,
                "\n    mend it, write a test of its crate, and keep the input as fuzz/corpus/{}/found-<what>",
                self.target
            )?;
        }
        Ok(())
    }
}

/// The files of a folder.
pub(super) fn files(dir: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", dir.display());
    let entries = std::fs::read_dir(dir).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_run_are_read_from_its_log() {
        let log = "INFO: seed corpus\n\
            #12\tINITED cov: 7 ft: 9 corp: 1/2b exec/s: 0 rss: 40Mb\n\
            #524288\tpulse  cov: 312 ft: 1029 corp: 77/3091b lim: 4096 exec/s: 174762 rss: 500Mb\n\
            #600001\tDONE   cov: 313 ft: 1030 corp: 78/31Kb lim: 4096 exec/s: 9836 rss: 500Mb\n\
            Done 600001 runs in 61 second(s)\n\
            stat::number_of_executed_units: 600001\nstat::average_exec_per_sec:     9836\n";
        let outcome = Outcome::read("note", log);
        assert_eq!((outcome.executions, outcome.per_second), (600_001, 9836));
        assert_eq!((outcome.coverage, outcome.features), (313, 1030));
        assert_eq!((outcome.corpus_files, outcome.corpus_size.as_str()), (78, "31Kb"));
    }
}
