//! What stays of entries that were given up, when a disk lies or the process is killed: the other nodes have it, too.

use crate::{
    heal::{files, flip},
    prune,
};
use logseal::site::{Process, Site};
use logseal_tests::{LIMIT, cluster::Dice, generate::Generator, wait_for};
use serde_json::Value;
use service::members::FaultModel;
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const OLD: u64 = 20_000;
const SEGMENT_BYTES: u64 = 64 << 10;
/// The node whose disk fails.
const HURT: usize = 2;
const FLIPS: usize = 500;
const AT_ONCE: usize = 100;

/// A ledger of four, most of which can be given up.
struct Old {
    site: Site,
    nodes: Vec<Process>,
    _dir: TempDir,
    _turn: logseal_tests::cluster::Turn,
}

impl Old {
    fn start() -> Self {
        let turn = logseal_tests::cluster::turn();
        let dir = tempfile::tempdir().unwrap();
        let site = Site::make_with(dir.path(), 4, FaultModel::Byzantine).unwrap();
        let extra = format!("{}[scrub]\nmib_per_s = 10000\n", prune::RETENTION);
        site.configure_nodes(&prune::options(&extra)).unwrap();
        let mut generator = Generator::aged(&site, 100, Some(SEGMENT_BYTES), 500 * prune::DAY);
        generator.add(OLD);
        generator.pass(499 * prune::DAY);
        generator.add(3_000);
        generator.let_go();
        let nodes = site.start_nodes().unwrap();
        Old { site, nodes, _dir: dir, _turn: turn }
    }

    fn prune(&self) {
        let (code, said) = prune::prune(&self.site, &["--yes"]);
        assert_eq!(code, 0, "{said}");
    }

    fn store(&self, node: usize) -> PathBuf {
        self.site.node_dir(node).join("store")
    }

    fn wait_pruned(&self, node: usize) {
        wait_for("deleted segments", || (prune::first_block(&self.store(node)) > 1).then_some(()));
    }

    /// Starts the hurt node again until its store is whole.
    fn heal(&mut self, what: &str) {
        self.nodes[HURT] = self.site.spawn_node(HURT, &[]).unwrap();
        let (begun, mut last) = (Instant::now(), Value::Null);
        loop {
            if !self.nodes[HURT].is_running() {
                // As a service manager does.
                self.nodes[HURT] = self.site.spawn_node(HURT, &[]).unwrap();
            }
            let (code, said) = prune::verify(&self.site, HURT);
            if code == 0 && said["entries"].as_u64() > Some(0) {
                return;
            }
            last = if said.is_null() { last } else { said };
            let log = self.nodes[HURT].log_tail();
            assert!(begun.elapsed() < LIMIT, "{what}: not healed: {last}\n{log}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// What the others serve, the hurt node serves.
    fn assert_same(&self) {
        for path in ["/minimum-index", "/base", "/tile/0/000", "/tile/0/037", "/tile/1/000.p/80"] {
            let (right, here) =
                (prune::get(&self.site, 0, path), prune::get(&self.site, HURT, path));
            assert!(right.0 == 200 && right == here, "{path}: {} and {}", right.0, here.0);
        }
    }

    fn stop(mut self) {
        for node in &mut self.nodes {
            node.stop(LIMIT).unwrap();
        }
    }
}

#[test]
fn what_stays_of_entries_that_were_given_up_comes_back_from_the_others() {
    let mut old = Old::start();
    old.prune();
    (0..4).for_each(|node| old.wait_pruned(node));
    let mut dice = Dice::new(91);
    for (folder, suffix) in [("", "base"), ("tree", ""), ("blocks", ".seg")] {
        let mut flipped = 0;
        while flipped < FLIPS {
            old.nodes[HURT].kill().unwrap();
            flip(&files(&old.store(HURT).join(folder), suffix), AT_ONCE, &mut dice);
            flipped += AT_ONCE;
            old.heal(&format!("{flipped} bits flipped in {folder}/*{suffix}"));
        }
        println!("{flipped} bits flipped in {folder}/*{suffix} of a pruned store: all there again");
    }
    for name in ["base", "tree", "tree/level-0", "tree/level-1", "index"] {
        old.nodes[HURT].kill().unwrap();
        let path = old.store(HURT).join(name);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        old.heal(&format!("{name} deleted"));
    }
    // Both that the one is made from.
    old.nodes[HURT].kill().unwrap();
    fs::remove_file(old.store(HURT).join("base")).unwrap();
    fs::remove_dir_all(old.store(HURT).join("index")).unwrap();
    old.heal("base and index deleted");
    println!("base, tree, index deleted, alone and together: all there again");
    old.assert_same();
    old.stop();
}

#[test]
fn a_node_that_is_killed_while_it_gives_entries_up_has_what_must_stay() {
    let (mut dice, mut kills) = (Dice::new(17), 0);
    let mut old = Old::start();
    // The others decide; this one carries it out under the axe, from the same store each time.
    old.nodes[HURT].stop(LIMIT).unwrap();
    let (store, before) = (old.store(HURT), old.site.node_dir(HURT).join("before"));
    let copy = |from: &PathBuf, to: &PathBuf| {
        let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(copied.success());
    };
    copy(&store, &before);
    old.prune();
    (0..4).filter(|node| *node != HURT).for_each(|node| old.wait_pruned(node));
    for _ in 0..10 {
        fs::remove_dir_all(&store).unwrap();
        copy(&before, &store);
        for _ in 0..4 {
            old.nodes[HURT] = old.site.spawn_node(HURT, &[]).unwrap();
            dice.pause(Duration::from_millis(350));
            old.nodes[HURT].kill().unwrap();
            kills += 1;
        }
        old.heal("killed while it gave entries up");
        old.wait_pruned(HURT);
        old.assert_same();
        old.nodes[HURT].kill().unwrap();
    }
    println!("{kills} kills while entries were given up: nothing lost that was to stay");
    old.heal("after all");
    old.stop();
}

#[test]
fn a_node_that_is_killed_while_it_begins_again_goes_on() {
    let mut old = Old::start();
    old.prune();
    (0..4).for_each(|node| old.wait_pruned(node));
    let (mut dice, mut kills) = (Dice::new(23), 0);
    for _ in 0..5 {
        old.nodes[HURT].kill().unwrap();
        fs::remove_dir_all(old.store(HURT)).unwrap();
        for _ in 0..5 {
            old.nodes[HURT] = old.site.spawn_node(HURT, &["--rejoin"]).unwrap();
            dice.pause(Duration::from_millis(500));
            old.nodes[HURT].kill().unwrap();
            kills += 1;
        }
        old.nodes[HURT] = old.site.spawn_node(HURT, &["--rejoin"]).unwrap();
        wait_for("a whole store", || (prune::verify(&old.site, HURT).0 == 0).then_some(()));
        old.assert_same();
    }
    println!("{kills} kills while a node began again behind what was given up");
    old.stop();
}
