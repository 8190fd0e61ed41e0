//! Rotation of every kind, with the agent killed at random moments in between: each line of each
//! case is in the ledger once, byte for byte.
//!
//! One agent tails one source for each case. The cases go their own ways at
//! the same time; what must happen while the agent is down waits until it is.

mod cases;
mod stage;

use cases::{CASES, Case};
use logseal::site::{Process, Site};
use logseal_tests::{
    Running,
    cluster::{Dice, tell},
    join_parts, records, wait_for,
};
use stage::{Control, Stage};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Lines by their source.
type Ledger = HashMap<String, Vec<Vec<u8>>>;

fn source(dir: &Path, case: &Case) -> String {
    let paths: Vec<_> = case.patterns.iter().map(|pattern| dir.join(pattern)).collect();
    let watch = if case.polled { "watch = \"poll\"\n" } else { "" };
    format!("[[source.file]]\nname = \"{}\"\npaths = {paths:?}\n{watch}", case.name)
}

fn read(site: &Site) -> Ledger {
    let mut by_source: HashMap<String, Vec<_>> = HashMap::new();
    for record in records(site).1 {
        by_source.entry(record.source.clone()).or_default().push(record);
    }
    by_source
        .into_iter()
        .map(|(source, records)| (source, join_parts(records.into_iter())))
        .collect()
}

/// A line's file, as its writer called it.
fn generation(line: &[u8]) -> &[u8] {
    line.split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// What is wrong with the lines of a case, if anything is.
fn judge(case: &Case, expected: &[Vec<u8>], found: &[Vec<u8>]) -> Option<String> {
    let mut count: BTreeMap<&[u8], i64> = BTreeMap::new();
    expected.iter().for_each(|line| *count.entry(line).or_default() += 1);
    found.iter().for_each(|line| *count.entry(line).or_default() -= 1);
    let some = |wrong: fn(i64) -> bool| {
        let lines = count.iter().filter(|(_, n)| wrong(**n)).map(|(line, _)| *line);
        let lines: Vec<_> =
            lines.map(|line| line[..line.len().min(20)].escape_ascii().to_string()).collect();
        format!("{} {:?}", lines.len(), &lines[..lines.len().min(4)])
    };
    if count.values().any(|n| *n != 0) {
        return Some(format!("lost {}, too often {}", some(|n| n > 0), some(|n| n < 0)));
    }
    let ordered = |lines: &[Vec<u8>]| -> Vec<Vec<u8>> {
        let mut lines = lines.to_vec();
        if !case.ordered {
            lines.sort_by(|a, b| generation(a).cmp(generation(b)));
        }
        lines
    };
    (ordered(expected) != ordered(found)).then(|| "out of order".to_owned())
}

/// Kills and starts the agent until all cases are through. Answers how often.
fn torment(agent: &mut Process, site: &Site, control: &Control, seed: u64) -> usize {
    let (mut dice, mut kills) = (Dice::new(seed), 0);
    while !control.wait_for_end(Duration::from_millis(20 + dice.below(250))) {
        agent.kill().unwrap();
        kills += 1;
        // Sometimes it comes back before anybody knows.
        if dice.below(3) == 0 {
            control.down();
        }
        *agent = site.start_agent("gw01").unwrap();
    }
    kills
}

#[test]
fn rotation_of_any_kind_under_kills_loses_and_repeats_nothing() {
    let begun = Instant::now();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = std::env::var("LOGSEAL_SEED").map_or(seed, |seed| seed.parse().unwrap());
    tell(&format!("rotation: LOGSEAL_SEED={seed}"));
    assert!(CASES.len() >= 25);
    let dir = |site: &Site, case: &Case| site.path("logs").join(case.name);
    let mut running = Running::start(|site| {
        let cases = CASES.iter().map(|case| {
            std::fs::create_dir_all(dir(site, case)).unwrap();
            source(&dir(site, case), case)
        });
        cases.collect()
    });
    let Running { site, agent, .. } = &mut running;
    let site = &*site;
    let control = Arc::new(Control::new(CASES.len()));
    let (mut stages, kills) = std::thread::scope(|scope| {
        let watch = Arc::clone(&control);
        let observer = scope.spawn(move || {
            while !watch.wait_for_end(Duration::from_millis(50)) {
                watch.publish(read(site));
            }
        });
        let plays: Vec<_> = CASES
            .iter()
            .enumerate()
            .map(|(n, case)| {
                let seed = seed.wrapping_add(n as u64 + 1);
                let dir = dir(site, case);
                let mut stage = Stage::new(case.name, dir, Arc::clone(&control), seed);
                scope.spawn(move || {
                    let _end = stage.end();
                    (case.play)(&mut stage);
                    stage
                })
            })
            .collect();
        let kills = torment(agent, site, &control, seed);
        observer.join().unwrap();
        let stages = plays.into_iter().map(|play| play.join().unwrap()).collect::<Vec<_>>();
        (stages, kills)
    });
    finish(site, agent, &mut stages);
    let ledger = read(site);
    let nothing = Vec::new();
    let wrong: Vec<String> = CASES
        .iter()
        .zip(&stages)
        .filter_map(|(case, stage)| {
            let found = ledger.get(case.name).unwrap_or(&nothing);
            judge(case, &stage.expected, found).map(|wrong| format!("{}: {wrong}", case.name))
        })
        .collect();
    let lines: usize = stages.iter().map(|stage| stage.expected.len()).sum();
    tell(&format!(
        "{} cases of rotation, {lines} lines, {kills} kills of the agent, {:.1?}",
        CASES.len(),
        begun.elapsed()
    ));
    if !wrong.is_empty() {
        let kept = std::env::temp_dir().join("logseal-rotation-agent.log");
        let _ = std::fs::copy(site.path("gw01.log"), &kept);
        panic!("seed {seed}, the agent's log is {}\n{}", kept.display(), wrong.join("\n"));
    }
}

/// Waits until everything is in the ledger; then shows with another start that nothing comes twice.
fn finish(site: &Site, agent: &mut Process, stages: &mut [Stage]) {
    let count = |stages: &[Stage]| stages.iter().map(|stage| stage.expected.len()).sum::<usize>();
    let all = count(stages);
    // Less than all is judged below.
    let deadline = Instant::now() + Duration::from_secs(20);
    wait_for("all lines", || {
        let there = read(site).values().map(Vec::len).sum::<usize>();
        (there >= all || Instant::now() > deadline).then_some(())
    });
    agent.kill().unwrap();
    *agent = site.start_agent("gw01").unwrap();
    stages.iter_mut().for_each(Stage::last_line);
    wait_for("the last lines", || {
        let ledger = read(site);
        let has = |stage: &Stage| {
            let last = stage.expected.last();
            ledger.get(stage.name).is_some_and(|lines| lines.iter().any(|line| Some(line) == last))
        };
        (stages.iter().all(has) || Instant::now() > deadline + Duration::from_secs(20))
            .then_some(())
    });
}
