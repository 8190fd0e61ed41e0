//! Every fuzz target on all inputs that are kept for it: what was found once stays mended.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

use logseal_fuzz::{TARGETS, Target};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The files of a folder; none if it is not there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        dir.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Says which input it was when a target panics.
struct Trying<'a>(&'a Path);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}", self.0.display());
        }
    }
}

fn try_all(name: &str, target: Target) -> usize {
    let inputs = ["seeds", "corpus"].map(|kind| files(&fuzz().join(kind).join(name))).concat();
    for input in &inputs {
        let _trying = Trying(input);
        target(&std::fs::read(input).unwrap());
    }
    target(b"");
    inputs.len()
}

#[test]
fn nothing_that_a_fuzzer_found_breaks_a_decoder_again() {
    let tried: usize = TARGETS.iter().map(|(name, target)| try_all(name, *target)).sum();
    assert!(tried >= TARGETS.len(), "{tried} inputs: where is the corpus?");
}

#[test]
fn every_target_is_in_every_list() {
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap().iter();
    let registered: BTreeSet<&str> = bins.map(|bin| bin["name"].as_str().unwrap()).collect();
    let listed: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(registered, listed, "fuzz/Cargo.toml and TARGETS in fuzz/src/lib.rs");
    for kind in ["seeds", "corpus"] {
        for dir in files(&fuzz().join(kind)) {
            let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
            assert!(listed.contains(name.as_str()), "fuzz/{kind}/{name} belongs to no target");
        }
    }
}
