//! `cargo xtask fuzz`: every target of `fuzz/`, with coverage and AddressSanitizer, for so long.
//!
//! What it guarantees: each target that `fuzz/Cargo.toml` names is run; a finding is never passed
//! over, and its input is left where the report says. It needs no tool beside the pinned compiler
//! and a C++ compiler, and changes nothing in the checkout unless it is told to `--keep`.

mod build;
mod corpus;
mod run;

use clap::Args;
use run::Outcome;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

/// How long a target runs if nothing else is asked for.
const SECONDS: u32 = 60;

/// What to fuzz, and for how long.
#[derive(Args)]
pub struct Fuzz {
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = SECONDS, value_name = "N")]
    pub seconds: u32,
    /// How many targets run at a time; as many as there are processors
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Write what was found to be worth keeping to fuzz/corpus
    #[arg(long)]
    pub keep: bool,
    /// Only these targets; without any, all
    pub targets: Vec<String>,
}

impl Fuzz {
    /// Every target, for as long as a change deserves.
    pub fn all() -> Self {
        Fuzz { seconds: SECONDS, jobs: None, keep: false, targets: Vec::new() }
    }
}

/// Where things are.
struct Places {
    /// The checkout's `fuzz/`.
    fuzz: PathBuf,
    /// Everything that is built and found, below the build's folder.
    work: PathBuf,
}

impl Places {
    fn find() -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let build = own.ancestors().nth(2).ok_or("this program is not in a build's folder")?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no checkout")?;
        Ok(Places { fuzz: root.join("fuzz"), work: build.join("fuzz") })
    }

    /// The kept inputs of a target.
    fn kept(&self, target: &str) -> PathBuf {
        self.fuzz.join("corpus").join(target)
    }

    /// The worked examples of a target.
    fn seeds(&self, target: &str) -> PathBuf {
        self.fuzz.join("seeds").join(target)
    }

    /// A folder for a target, made if it is not there.
    fn make(&self, what: &str, target: &str) -> Result<PathBuf, String> {
        let dir = self.work.join(what).join(target);
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(dir)
    }
}

/// Builds and runs the targets and reports; the last line of the output is JSON.
///
/// # Errors
/// When something cannot be built or run, and when anything was found.
pub fn fuzz(asked: &Fuzz) -> Result<(), String> {
    let places = Places::find()?;
    let programs = build::build(&places, &asked.targets)?;
    let jobs =
        asked.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    eprintln!("{} targets, {} s each, {jobs} at a time", programs.len(), asked.seconds);
    let outcomes = in_parallel(jobs, &programs, |program| {
        let outcome = run::run(&places, program, asked.seconds)?;
        println!("{outcome}");
        if asked.keep && outcome.findings.is_empty() {
            println!("{:16} {}", program.target, corpus::keep(&places, program)?);
        }
        Ok(outcome)
    })?;
    let findings: usize = outcomes.iter().map(|outcome| outcome.findings.len()).sum();
    let fuzz: Vec<_> = outcomes.iter().map(Outcome::json).collect();
    let summary = json!({
        "fuzz": fuzz, "targets": outcomes.len(), "seconds": asked.seconds, "findings": findings,
    });
    println!("{summary}");
    match findings {
        0 => Ok(()),
        _ => Err(format!("the fuzz targets found {findings}: see above")),
    }
}

/// Does this with each of them, so many at a time, and answers in their order.
fn in_parallel<T: Sync, U: Send>(
    jobs: usize,
    all: &[T],
    work: impl Fn(&T) -> Result<U, String> + Sync,
) -> Result<Vec<U>, String> {
    let queue = Mutex::new(all.iter().enumerate());
    let next = || queue.lock().map_or(None, |mut queue| queue.next());
    let mut done = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            while let Some((index, item)) = next() {
                done.push((index, work(item)));
            }
            done
        };
        let workers: Vec<_> =
            (0..jobs.clamp(1, all.len().max(1))).map(|_| scope.spawn(worker)).collect();
        let joined =
            workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker panicked"));
        joined
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.into_iter().flatten().collect::<Vec<_>>())
    })?;
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, done)| done).collect()
}
