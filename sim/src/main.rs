//! `logseal-sim`: runs worlds, one a seed, and says what went wrong. `cargo xtask sim` runs it.

use clap::Parser;
use logseal_sim::{Outcome, Summary, run};
use std::{
    process::ExitCode,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

/// Runs the ledger's replicas in simulated worlds, one a seed.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Cli {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many seeds
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// Print what happens, one seed after the other
    #[arg(long)]
    trace: bool,
    /// Go on after a violation
    #[arg(long)]
    keep_going: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let summary = if cli.trace { one_by_one(&cli) } else { side_by_side(&cli) };
    if cli.json {
        json(&summary)
    } else {
        text(&summary)
    }
    for (seed, violation) in &summary.violations {
        eprintln!("seed {seed}: {}", violation.0);
        eprintln!("  cargo xtask sim --first {seed} --seeds 1 --trace");
    }
    if summary.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one_by_one(cli: &Cli) -> Summary {
    let mut summary = Summary::default();
    for seed in cli.first..cli.first.saturating_add(cli.seeds) {
        summary.add(run(seed, true));
        if !summary.violations.is_empty() && !cli.keep_going {
            break;
        }
    }
    summary
}

/// Each core takes the next seed.
fn side_by_side(cli: &Cli) -> Summary {
    let (next, last) = (AtomicU64::new(cli.first), cli.first.saturating_add(cli.seeds));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (sender, outcomes) = mpsc::channel::<Outcome>();
    let mut summary = Summary::default();
    thread::scope(|scope| {
        for _ in 0..cores {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || sender.send(run(seed, false)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for outcome in outcomes {
            let failed = outcome.violation.is_some();
            summary.add(outcome);
            if summary.seeds.is_multiple_of(50) {
                eprintln!("{} of {} seeds", summary.seeds, cli.seeds);
            }
            if failed && !cli.keep_going {
                next.store(last, Ordering::Relaxed);
            }
        }
    });
    summary
}

fn text(summary: &Summary) {
    let count = |what| summary.tally.counts.get(what).copied().unwrap_or_default();
    for (what, count) in &summary.tally.counts {
        println!("{count:>12} {what}");
    }
    for (kind, count) in &summary.convicted {
        println!("{count:>12} equivocation of {kind} in ledgers");
    }
    for (lie, [worlds, said, caught]) in &summary.lies {
        println!("{lie:>12}: {worlds} seeds, self-contradiction in {said}, convicted in {caught}");
    }
    println!(
        "sim: {} seeds, {} virtual hours, {} blocks, {} receipts, {} faults, {} lies, {} violations",
        summary.seeds,
        summary.seconds / 3600,
        count("blocks"),
        count("receipts"),
        count("faults"),
        count("lies"),
        summary.violations.len(),
    );
}

fn json(summary: &Summary) {
    let violations: Vec<_> = summary
        .violations
        .iter()
        .map(|(seed, violation)| serde_json::json!({ "seed": seed, "what": violation.0 }))
        .collect();
    let summary = serde_json::json!({
        "seeds": summary.seeds,
        "virtual_seconds": summary.seconds,
        "counts": summary.tally.counts,
        "equivocation": summary.convicted,
        "lies": summary.lies,
        "violations": violations,
    });
    println!("{summary}");
}
