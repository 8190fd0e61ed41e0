//! Tailing when the pipeline is slow, files are many, and everything happens at once.

use super::*;
use std::{path::Path, sync::atomic::AtomicUsize};

#[test]
fn a_stop_is_prompt_although_nobody_takes_the_lines() {
    let mut bench = Bench::new(&["a.log"]);
    bench.append("a.log", vec![b'\n'; 4 << 20]);
    bench.start();
    let Running { rx, stop, ended, .. } = bench.running.take().unwrap();
    until("the channel is full", || rx.len() == rx.max_capacity());
    let asked = Instant::now();
    stop.send(Phase::Stop).unwrap();
    ended.blocking_recv().unwrap();
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
}

#[test]
fn a_rotation_while_the_pipeline_is_stuck_loses_nothing() {
    let mut bench = Bench::new(&["a.log"]);
    // Three chunks: two fill the channel and one waits in front of it.
    let filler: String = (0..60_000).map(|n| format!("filler {n:06}\n")).collect();
    bench.append("a.log", &filler);
    bench.start();
    for generation in 1..=3 {
        let open_files = &bench.stats().open_files;
        until("the new file is open", || open_files.load(Relaxed) == generation);
        bench.append("a.log", format!("last of {generation}\n"));
        bench.rename("a.log", &format!("a.log.{generation}"));
        bench.append("a.log", format!("first of {}\n", generation + 1));
    }
    let mut expected: Vec<_> = filler.lines().map(str::to_owned).collect();
    expected.extend(
        ["last of 1", "first of 2", "last of 2", "first of 3", "last of 3"].map(Into::into),
    );
    expected.push("first of 4".into());
    let lines = bench.next_lines(expected.len());
    assert!(lines == expected, "{:?}", &lines[lines.len() - 10..]);
    bench.finish();
}

#[test]
fn files_that_cannot_all_be_open_are_all_read() {
    let mut bench = Bench::new(&["*.log"]);
    bench.config.max_open = 3;
    bench.config.grace = Duration::from_millis(20);
    for file in 0..10 {
        bench.append(&format!("{file}.log"), format!("{file}a\n"));
    }
    bench.start();
    for round in ["a", "b", "c"] {
        let mut lines = bench.next_lines(10);
        lines.sort();
        let expected: Vec<_> = (0..10).map(|file| format!("{file}{round}")).collect();
        assert_eq!(lines, expected);
        assert!(bench.stats().open_files.load(Relaxed) <= 3);
        let next = if round == "a" { "b" } else { "c" };
        if round != "c" {
            (0..10)
                .for_each(|file| bench.append(&format!("{file}.log"), format!("{file}{next}\n")));
        }
    }
    assert_eq!(bench.positions.len(), 10);
    bench.finish();
}

#[test]
fn every_line_of_a_busy_log_comes_once_through_rotations_and_restarts() {
    const LINES: usize = 60_000;
    let mut bench = Bench::new(&["a.log*"]);
    let dir = bench.dir.path().to_owned();
    let writer = thread::spawn(move || {
        let open = || OpenOptions::new().append(true).create(true).open(dir.join("a.log")).unwrap();
        let (mut file, mut rotations) = (open(), 0);
        for line in 0..LINES {
            // Lines are torn between two writes, and the writer goes on writing after a rename.
            let text = format!("line {line:06} {}\n", "x".repeat(line % 97));
            let (front, back) = text.split_at(line % text.len());
            file.write_all(front.as_bytes()).unwrap();
            if line % 1999 == 1998 {
                rotations += 1;
                fs::rename(dir.join("a.log"), dir.join(format!("a.log.{rotations}"))).unwrap();
                file.write_all(back.as_bytes()).unwrap();
                file = open();
            } else {
                file.write_all(back.as_bytes()).unwrap();
            }
        }
    });
    let mut lines = Vec::new();
    while lines.len() < LINES {
        bench.start();
        let enough = (lines.len() + 7919).min(LINES) - lines.len();
        lines.extend(bench.next_lines(enough));
        bench.stop();
        lines.append(&mut bench.next_lines(0));
    }
    writer.join().unwrap();
    lines.sort();
    let expected = (0..LINES).map(|line| format!("line {line:06} {}", "x".repeat(line % 97)));
    assert!(lines.into_iter().eq(expected));
    bench.finish();
}

/// Writes numbered lines into `a.log`, and rotates it by `copytruncate`, under numbers that grow
/// with age. Eight are kept, and half of one may be unread.
fn copytruncate(dir: &Path, lines: usize, each: usize, seen: &AtomicUsize) {
    let name = |n: usize| dir.join(format!("a.log.{n}"));
    let mut file = OpenOptions::new().append(true).create(true).open(dir.join("a.log")).unwrap();
    for line in 0..lines {
        file.write_all(format!("line {line:06} {}\n", "x".repeat(line % 97)).as_bytes()).unwrap();
        if line % each == each - 1 {
            until("it was read", || {
                let seen = seen.load(Relaxed);
                seen > 0 && seen + each / 2 > line
            });
            (1..8).rev().for_each(|n| drop(fs::rename(name(n), name(n + 1))));
            fs::copy(dir.join("a.log"), name(1)).unwrap();
            file.set_len(0).unwrap();
        }
    }
}

/// Up to which line nothing is missing.
fn whole(lines: &[String]) -> usize {
    let mut there = vec![false; lines.len() + 1];
    for line in lines {
        let number: usize = line[5..11].parse().unwrap();
        there.get_mut(number).into_iter().for_each(|there| *there = true);
    }
    there.iter().position(|there| !there).unwrap_or_default()
}

fn busy_copytruncate(pattern: &str, pace: u64) {
    const LINES: usize = 20_000;
    let mut bench = Bench::new(&[pattern]);
    let (dir, seen) = (bench.dir.path().to_owned(), Arc::new(AtomicUsize::new(0)));
    bench.append("a.log", "");
    let read = Arc::clone(&seen);
    let writer = thread::spawn(move || copytruncate(&dir, LINES, 499, &read));
    let mut lines = Vec::new();
    let mut dice = pace;
    while lines.len() < LINES {
        bench.start();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041) % 100_003;
        let enough = (lines.len() + 1 + dice as usize % 900).min(LINES) - lines.len();
        for stopped in [false, true] {
            if stopped {
                bench.stop();
            }
            let wanted = lines.len() + if stopped { 0 } else { enough };
            loop {
                lines.append(&mut bench.next_lines(usize::from(lines.len() < wanted)));
                seen.store(whole(&lines), Relaxed);
                if lines.len() >= wanted {
                    break;
                }
            }
        }
    }
    writer.join().unwrap();
    lines.sort();
    let expected = (0..LINES).map(|line| format!("line {line:06} {}", "x".repeat(line % 97)));
    let first = lines.iter().zip(expected.clone()).position(|(a, b)| *a != b);
    assert!(lines.into_iter().eq(expected), "first at {first:?}");
    bench.finish();
}

#[test]
fn every_line_of_a_busy_log_comes_once_through_copytruncate_and_restarts() {
    busy_copytruncate("a.log", 1);
}

#[test]
fn every_line_of_a_busy_log_comes_once_through_copytruncate_with_copies_that_match() {
    busy_copytruncate("a.log*", 2);
}
