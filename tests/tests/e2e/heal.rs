//! Disks that lie, files that vanish: a node of several gets back what it lost from the others, without being told.

use logseal::site::{Home, LedgerOptions, Programs};
use logseal_tests::{
    LIMIT,
    cluster::{Cluster, Dice, NODES, turn},
    faults::{Failing, Fault},
    wait_for,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ALL: [usize; 4] = [0, 1, 2, 3];
/// The node whose disk fails.
const HURT: usize = 2;
const FLIPS: usize = 500;
/// Flips between two starts.
const AT_ONCE: usize = 100;

/// A ledger of four with several segments a node, which are looked at without a pause.
fn started(lines: usize) -> Cluster {
    let node = |site: &logseal::site::Site, index: usize| {
        let config = site.node_dir(index).join("ledger.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replacen("[store]\n", "[store]\nsegment_mib = 1\n", 1);
        fs::write(&config, text + "\n[scrub]\nmib_per_s = 10000\n").unwrap();
        site.spawn_node(index, &[]).unwrap()
    };
    let homes = vec![Home::default(); NODES];
    let mut cluster = Cluster::start_at(turn(), homes, &LedgerOptions::default(), node);
    cluster.log.write(lines);
    cluster.wait_settled(&ALL);
    cluster
}

fn store(cluster: &Cluster) -> PathBuf {
    cluster.site.node_dir(HURT).join("store")
}

/// Files below a folder whose names end so.
pub fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Flips so many bits in these files.
pub fn flip(files: &[PathBuf], count: usize, dice: &mut Dice) {
    for _ in 0..count {
        let full: Vec<&PathBuf> =
            files.iter().filter(|file| file.metadata().is_ok_and(|m| m.len() > 0)).collect();
        if full.is_empty() {
            return;
        }
        let file = full[dice.below(full.len() as u64) as usize];
        let mut bytes = fs::read(file).unwrap();
        let at = dice.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << dice.below(8);
        fs::write(file, bytes).unwrap();
    }
}

/// `logseal verify --store` of the node that was hurt.
fn verify(cluster: &Cluster) -> (Option<i32>, serde_json::Value) {
    let program = Programs::beside_this().unwrap().path("logseal");
    let output = Command::new(program)
        .args(["verify", "--json", "--deep", "--store"])
        .arg(store(cluster))
        .arg("--policy")
        .arg(cluster.site.path("policy"))
        .arg("--members")
        .arg(cluster.site.path("members.toml"))
        .output()
        .unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// Starts the hurt node and waits until its store is whole again and it votes.
fn start_and_heal(cluster: &mut Cluster, what: &str) {
    cluster.restart(HURT);
    let mut last = serde_json::Value::Null;
    let begun = std::time::Instant::now();
    loop {
        if !cluster.nodes[HURT].is_running() {
            // As a service manager does.
            cluster.restart(HURT);
        }
        let (code, said) = verify(cluster);
        if code == Some(0) && said["entries"].as_u64() > Some(0) {
            break;
        }
        last = if said.is_null() { last } else { said };
        assert!(
            begun.elapsed() < LIMIT,
            "{what}: not healed: {last}\n{}",
            cluster.nodes[HURT].log_tail()
        );
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    cluster.wait_back(HURT);
}

#[test]
fn whatever_bits_a_disk_flips_the_node_has_everything_again_and_lost_nothing() {
    let mut cluster = started(40_000);
    let mut dice = Dice::new(2026);
    for (folder, suffix) in [
        ("blocks", ".seg"),
        ("blocks", ".idx"),
        ("tree", ""),
        ("index", ""),
        ("votes", ".seg"),
        ("", "checkpoint"),
    ] {
        let mut flipped = 0;
        while flipped < FLIPS {
            cluster.log.write(200);
            cluster.kill(HURT);
            flip(&files(&store(&cluster).join(folder), suffix), AT_ONCE, &mut dice);
            flipped += AT_ONCE;
            start_and_heal(&mut cluster, &format!("{flipped} bits flipped in {folder}/*{suffix}"));
        }
        println!("{flipped} bits flipped in {folder}/*{suffix}: all there again");
    }
    cluster.wait_settled(&ALL);
    cluster.assert_complete(&ALL);
}

#[test]
fn files_that_vanish_or_are_cut_short_come_back() {
    let mut cluster = started(40_000);
    let mut dice = Dice::new(7);
    let all = |cluster: &Cluster| files(&store(cluster), "");
    let count = all(&cluster).len();
    for at in 0..count {
        cluster.kill(HURT);
        let now = all(&cluster);
        let Some(file) = now.get(at % now.len()).cloned() else { continue };
        if at % 2 == 0 {
            fs::remove_file(&file).unwrap();
        } else {
            let length = dice.below(file.metadata().unwrap().len() + 1);
            fs::File::options().write(true).open(&file).unwrap().set_len(length).unwrap();
        }
        start_and_heal(&mut cluster, &format!("{} deleted or cut", file.display()));
    }
    // Whole folders, each alone.
    for folder in ["tree", "index", "votes"] {
        cluster.kill(HURT);
        fs::remove_dir_all(store(&cluster).join(folder)).unwrap();
        start_and_heal(&mut cluster, &format!("{folder} deleted"));
    }
    println!("{count} files deleted or cut one by one, and three folders: all there again");
    cluster.log.write(500);
    cluster.wait_settled(&ALL);
    cluster.assert_complete(&ALL);
}

#[test]
fn damage_that_happens_while_a_node_runs_is_found_and_mended_while_it_runs() {
    let mut cluster = started(40_000);
    let segments = files(&store(&cluster).join("blocks"), ".seg");
    let (_, sealed) = segments.split_last().unwrap();
    assert!(sealed.len() > 1, "{segments:?}");
    // A start begins a scrub at once: the damage is done while the node is down, the mending is not.
    cluster.nodes[HURT].stop(LIMIT).unwrap();
    flip(sealed, 20, &mut Dice::new(11));
    fs::remove_file(&sealed[0]).unwrap();
    cluster.restart(HURT);
    cluster.wait_back(HURT);
    cluster.log.write(300);
    wait_for("a store that is whole", || (verify(&cluster).0 == Some(0)).then_some(()));
    let said = cluster.nodes[HURT].log_text();
    assert!(said.contains("are there again, from other nodes"), "{said}");
    assert!(said.contains(&sealed[0].display().to_string()), "the file is named: {said}");
    wait_for("a status that says so", || {
        let stores = cluster.overview().stores;
        let store = &stores[cluster.site.node_name(HURT).as_str()];
        let mended = store.mended.iter().any(|(kind, count)| kind == "block" && *count > 1);
        (mended && store.faults.is_empty()).then_some(())
    });
    cluster.wait_settled(&ALL);
    cluster.assert_complete(&ALL);
}

#[test]
fn a_node_that_is_killed_again_and_again_while_it_heals_heals_all_the_same() {
    let mut cluster = started(40_000);
    let mut dice = Dice::new(31);
    let mut kills = 0;
    for _ in 0..4 {
        cluster.log.write(300);
        cluster.kill(HURT);
        // Segments to be fetched, and an index and a tree to be made again.
        flip(&files(&store(&cluster).join("blocks"), ".seg"), 30, &mut dice);
        flip(&files(&store(&cluster).join("tree"), ""), 30, &mut dice);
        let index = store(&cluster).join("index");
        if index.exists() {
            fs::remove_dir_all(index).unwrap();
        }
        for _ in 0..10 {
            cluster.restart(HURT);
            dice.pause(std::time::Duration::from_millis(400));
            cluster.kill(HURT);
            kills += 1;
        }
        start_and_heal(&mut cluster, "killed while it healed");
    }
    println!("{kills} kills while it healed");
    cluster.wait_settled(&ALL);
    cluster.assert_complete(&ALL);
}

/// Starts the hurt node on a disk that is full for such calls at one place of its store: it ends, and says so.
fn expect_no_start(cluster: &Cluster, call: &str, at: &str) {
    let name = cluster.site.node_name(HURT);
    let (config, log) = (format!("{name}/ledger.toml"), format!("{name}.log"));
    let fault = Fault::of(call, "error=ENOSPC").on(vec![store(cluster).join(at)]);
    let program = ["logseal-ledger", config.as_str(), log.as_str()];
    let mut failing = Failing::start(&cluster.site, program, &fault);
    let started = failing.wait_ready();
    assert!(started.is_err(), "{call} at {at}: {}", failing.said());
    let words = failing.last_words();
    assert!(words.contains(at) && words.contains("free space"), "{call}: {words}");
}

#[test]
fn a_disk_that_is_full_while_a_node_puts_its_store_away_does_not_keep_it_from_healing() {
    let mut cluster = started(40_000);
    cluster.nodes[HURT].stop(LIMIT).unwrap();
    let segments = files(&store(&cluster).join("blocks"), ".seg");
    assert!(segments.len() > 2, "{segments:?}");
    // The index is to be made again from blocks that cannot be read.
    flip(&segments[..1], 20, &mut Dice::new(5));
    fs::remove_dir_all(store(&cluster).join("index")).unwrap();
    for (call, at) in [
        ("openat", "rejoining"),
        ("mkdir", "damaged-1"),
        ("rename", "votes"),
        ("rename", "blocks"),
        ("rename", "tree"),
    ] {
        expect_no_start(&cluster, call, at);
    }
    // What was not put away any more stands beside an empty block log.
    assert!(store(&cluster).join("checkpoint").exists());
    start_and_heal(&mut cluster, "a store that was put away in part");
    cluster.wait_settled(&ALL);
    cluster.assert_complete(&ALL);
    cluster.assert_calm();
}

#[test]
fn a_disk_that_is_full_when_a_node_begins_to_heal_does_not_keep_it_from_healing() {
    let mut cluster = started(1);
    // Many heights, of which many are lost.
    for _ in 0..20 {
        cluster.log.write(50);
        cluster.wait_settled(&ALL);
    }
    cluster.nodes[HURT].stop(LIMIT).unwrap();
    let newest = files(&store(&cluster).join("blocks"), ".seg").pop().unwrap();
    let file = fs::File::options().write(true).open(&newest).unwrap();
    file.set_len(newest.metadata().unwrap().len() / 2).unwrap();
    // Each of its steps, one start after the other: what it does not remember is put away, and that is marked.
    for (call, at) in [("mkdir", "damaged-1"), ("rename", "votes"), ("openat", "rejoining")] {
        expect_no_start(&cluster, call, at);
    }
    start_and_heal(&mut cluster, "a disk that was full");
    cluster.wait_settled(&ALL);
    cluster.assert_complete(&ALL);
    cluster.assert_calm();
}

#[test]
fn a_store_from_last_week_catches_up_beside_the_living_ledger() {
    let mut cluster = started(3_000);
    cluster.kill(HURT);
    let (now, old) = (store(&cluster), cluster.site.node_dir(HURT).join("last-week"));
    let copy = Command::new("cp").arg("-a").args([&now, &old]).status().unwrap();
    assert!(copy.success());
    cluster.restart(HURT);
    cluster.wait_back(HURT);
    cluster.log.write(3_000);
    cluster.wait_settled(&ALL);
    cluster.nodes[HURT].stop(LIMIT).unwrap();
    fs::remove_dir_all(&now).unwrap();
    fs::rename(&old, &now).unwrap();
    start_and_heal(&mut cluster, "a store from last week");
    cluster.log.write(500);
    cluster.wait_settled(&ALL);
    cluster.assert_complete(&ALL);
    cluster.assert_calm();
}
