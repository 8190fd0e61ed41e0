//! The kept corpus: few small inputs that together reach as much as all that were found.
//!
//! Inputs whose names begin with `found-` once broke a target, and are kept for ever. What the
//! worked examples in `fuzz/seeds` reach need not be reached again.

use super::{Places, build::Program, run::files};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The most inputs that are kept for a target, beside those that once broke it.
const MOST_FILES: usize = 64;

/// The most bytes of these.
const MOST_BYTES: u64 = 64 << 10;

/// What begins the name of an input that once broke a target.
const FOUND: &str = "found-";

/// An input, and what it reaches.
struct Input {
    path: PathBuf,
    size: u64,
    reaches: BTreeSet<u32>,
}

/// Replaces a target's kept corpus; says what is in it now.
pub(super) fn keep(places: &Places, program: &Program) -> Result<String, String> {
    let target = &program.target;
    let (kept, seeds) = (places.kept(target), places.seeds(target));
    let always = |input: &Input| input.path.starts_with(&seeds) || is_found(&input.path);
    let (given, others): (Vec<_>, Vec<_>) = measure(places, program)?.into_iter().partition(always);
    let reached = given.into_iter().flat_map(|input| input.reaches).collect();
    let chosen = choose(reached, others);
    let read = chosen.iter().map(|input| fs::read(&input.path).map_err(failed(&input.path)));
    let contents = read.collect::<Result<Vec<_>, _>>()?;
    fs::create_dir_all(&kept).map_err(failed(&kept))?;
    for old in files(&kept)?.iter().filter(|old| !is_found(old)) {
        fs::remove_file(old).map_err(failed(old))?;
    }
    // libFuzzer names inputs after their contents.
    for (input, content) in chosen.iter().zip(&contents) {
        let path = kept.join(input.path.file_name().unwrap_or_default());
        fs::write(&path, content).map_err(failed(&path))?;
    }
    let bytes: usize = contents.iter().map(Vec::len).sum();
    Ok(format!("kept {} inputs, {bytes} bytes", contents.len()))
}

/// Has libFuzzer run every input there is and say what each reaches.
fn measure(places: &Places, program: &Program) -> Result<Vec<Input>, String> {
    let target = &program.target;
    let dir = places.make("merge", target)?;
    let (control, nowhere) = (dir.join("control"), dir.join("out"));
    let _ = fs::remove_file(&control);
    let _ = fs::remove_dir_all(&nowhere);
    fs::create_dir_all(&nowhere).map_err(failed(&nowhere))?;
    let dirs = [places.make("corpus", target)?, places.kept(target), places.seeds(target)];
    let merged = Command::new(&program.path)
        .arg("-set_cover_merge=1")
        .arg(format!("-merge_control_file={}", control.display()))
        .arg(&nowhere)
        .args(dirs.iter().filter(|dir| dir.is_dir()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("{} cannot be run: {error}", program.path.display()))?;
    if !merged.success() {
        return Err(format!("{target}: libFuzzer could not compare its inputs ({merged})"));
    }
    let text = fs::read_to_string(&control).map_err(failed(&control))?;
    read_control(&text).ok_or_else(|| format!("{}: not as expected", control.display()))
}

/// Reads libFuzzer's notes on a merge: how many files, how many of them in the first folder, their
/// paths, and for each `STARTED <number> <size>` and `FT <number> <feature>…`.
fn read_control(text: &str) -> Option<Vec<Input>> {
    let mut lines = text.lines();
    let count: usize = lines.next()?.trim().parse().ok()?;
    lines.next()?;
    let paths: Vec<&str> = lines.by_ref().take(count).collect();
    let input = |path: &&str| Input { path: path.into(), size: 0, reaches: BTreeSet::new() };
    let mut inputs: Vec<Input> = paths.iter().map(input).collect();
    for line in lines {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let input = inputs.get_mut(words.next()?.parse::<usize>().ok()?)?;
        match kind {
            "STARTED" => input.size = words.next()?.parse().ok()?,
            "FT" => input.reaches = words.map(str::parse).collect::<Result<_, _>>().ok()?,
            _ => {}
        }
    }
    Some(inputs)
}

/// Takes the input that reaches most that is new, the smaller one if two do, until nothing is new
/// or there are enough.
fn choose(mut reached: BTreeSet<u32>, mut inputs: Vec<Input>) -> Vec<Input> {
    let (mut chosen, mut left) = (Vec::new(), MOST_BYTES);
    // What is seen first wins.
    inputs.sort_by(|a, b| (a.size, &a.path).cmp(&(b.size, &b.path)).reverse());
    while chosen.len() < MOST_FILES {
        inputs.retain_mut(|input| {
            input.reaches.retain(|feature| !reached.contains(feature));
            !input.reaches.is_empty() && input.size <= left
        });
        let best = inputs.iter().enumerate().max_by_key(|(_, input)| input.reaches.len());
        let Some(best) = best.map(|(index, _)| index) else { break };
        let input = inputs.remove(best);
        left -= input.size;
        reached.extend(&input.reaches);
        chosen.push(input);
    }
    chosen
}

fn is_found(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FOUND))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_small_inputs_are_kept_that_reach_everything() {
        let control = "4\n0\n/a\n/b\n/c\n/d\nSTARTED 0 9\nFT 0 1 2 3\nCOV 0 7\n\
            STARTED 1 5\nFT 1 1 2 3\nSTARTED 2 1\nFT 2 4\nSTARTED 3 70000\nFT 3 1 2 3 4 5 6\n";
        let inputs = read_control(control).unwrap();
        let chosen = choose(BTreeSet::new(), inputs);
        let paths: Vec<_> = chosen.iter().map(|input| input.path.display().to_string()).collect();
        assert_eq!(paths, ["/b", "/c"], "the smaller one, and none that is too large");
        let inputs = read_control(control).unwrap();
        assert!(choose([1, 2, 3, 4].into(), inputs).is_empty(), "the examples reach all of it");
    }
}
