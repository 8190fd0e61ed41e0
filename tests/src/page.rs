//! A page of docs/ as its reader meets it: the shell commands that it shows, with what it says
//! that they print. A page that cannot be carried out is wrong, and so is a program that cannot be
//! used as its page says.

use record::note::VerifierKey;
use std::{path::Path, process::Command};

/// Stands between the outputs of two commands.
const MARK: char = '\u{1e}';

/// A command of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its line in the page.
    pub line: usize,
    /// True if it is shown with root's prompt, `#`.
    pub root: bool,
    /// What is to be typed.
    pub text: String,
    /// The lines that it is said to print.
    pub prints: Vec<String>,
}

/// What a command of a page did.
#[derive(Clone, Debug)]
pub struct Done {
    /// The command.
    pub shown: Shown,
    /// What it printed to standard output.
    pub output: String,
}

/// The commands in the `sh` blocks below a heading of `docs/<name>`, up to the next heading of any
/// level.
///
/// # Panics
/// If there is no such heading, or nothing to type below it.
pub fn commands(name: &str, heading: &str) -> Vec<Shown> {
    let mut found = Vec::new();
    fenced(name, heading, "sh", |line, text| add(&mut found, line, text));
    found
}

/// What stands in the blocks of another language there.
///
/// # Panics
/// As [`commands`].
pub fn text(name: &str, heading: &str, language: &str) -> String {
    let mut found = String::new();
    fenced(name, heading, language, |_, text| found += &format!("{text}\n"));
    found
}

/// Gives the lines of the blocks in a language to `each`, with their numbers.
fn fenced(name: &str, heading: &str, language: &str, mut each: impl FnMut(usize, &str)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let page = std::fs::read_to_string(&path).unwrap();
    let (mut here, mut fence, mut found) = (false, None, false);
    for (line, text) in (1..).zip(page.lines()) {
        match (text.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) => fence = Some(language),
            (None, None) if text.starts_with('#') => here = text == heading,
            (None, Some(of)) if here && of == language => {
                found = true;
                each(line, text);
            }
            _ => {}
        }
    }
    assert!(found, "{}: no {language} below '{heading}'", path.display());
}

fn add(found: &mut Vec<Shown>, line: usize, text: &str) {
    let typed = text.strip_prefix("$ ").map(|typed| (false, typed));
    let typed = typed.or_else(|| text.strip_prefix("# ").map(|typed| (true, typed)));
    if let Some((root, typed)) = typed {
        found.push(Shown { line, root, text: typed.to_owned(), prints: Vec::new() });
    } else {
        let shown = found.last_mut().unwrap_or_else(|| panic!("line {line} prints without cause"));
        shown.prints.push(text.to_owned());
    }
}

/// The commands with what is another's here: names, ports, sizes.
///
/// # Panics
/// If one of them is not on the page any more.
pub fn adapted(commands: Vec<Shown>, here: &[(&str, &str)]) -> Vec<Shown> {
    let mut commands = commands;
    for (from, to) in here {
        let mut used = false;
        for shown in &mut commands {
            let prints = shown.prints.iter_mut();
            for text in std::iter::once(&mut shown.text).chain(prints) {
                used |= text.contains(from);
                *text = text.replace(from, to);
            }
        }
        assert!(used, "'{from}' is not on the page");
    }
    commands
}

/// Has a shell, started by `shell`, carry out the commands one after the other, and checks that each
/// works and prints what the page says.
///
/// # Panics
/// With the line of the page that is not so.
pub fn carry_out(commands: &[Shown], shell: &mut Command) -> Vec<Done> {
    let typed = commands.iter().map(|shown| format!("{}\nprintf '{MARK}'\n", shown.text));
    let script: String = typed.collect();
    let output = shell.args(["bash", "-eu", "-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut outputs = said.split(MARK);
    let mut done = Vec::new();
    for (at, shown) in commands.iter().enumerate() {
        let text = outputs.next().unwrap_or_default().to_owned();
        if !output.status.success() && at == said.matches(MARK).count() {
            let error = String::from_utf8_lossy(&output.stderr);
            panic!("line {}: '{}' fails: {text}{error}", shown.line, shown.text);
        }
        if !shown.prints.is_empty() {
            assert_printed(shown, &text);
        }
        done.push(Done { shown: shown.clone(), output: text });
    }
    done
}

/// Numbers may be others, `…` on a line of its own stands for any lines, and a public key that ends
/// in `…` for any key of that name.
fn assert_printed(shown: &Shown, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let alike = match shown.prints.iter().position(|line| line == "…") {
        None => lines.len() == shown.prints.len() && all_alike(&shown.prints, &lines),
        Some(at) => {
            let (first, last) = (&shown.prints[..at], &shown.prints[at + 1..]);
            lines.len() >= first.len() + last.len()
                && all_alike(first, &lines)
                && all_alike(last, &lines[lines.len() - last.len()..])
        }
    };
    let (line, typed, said) = (shown.line, &shown.text, shown.prints.join("\n"));
    assert!(alike, "line {line}: '{typed}' is said to print\n{said}\nand prints\n{text}");
}

fn all_alike(said: &[String], printed: &[&str]) -> bool {
    said.iter().zip(printed).all(|(said, printed)| {
        let (said, printed): (Vec<&str>, Vec<&str>) =
            (said.split(' ').collect(), printed.split(' ').collect());
        said.len() == printed.len() && said.iter().zip(&printed).all(|(a, b)| word_alike(a, b))
    })
}

fn word_alike(said: &str, printed: &str) -> bool {
    if said.ends_with('…') {
        let name = said.split('+').next();
        return printed.split('+').next() == name && printed.parse::<VerifierKey>().is_ok();
    }
    let shape = |word: &str| {
        let mut shape: Vec<char> =
            word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        shape.dedup_by(|a, b| *a == '0' && *b == '0');
        shape
    };
    shape(said) == shape(printed)
}

#[cfg(test)]
mod tests {
    use super::word_alike;

    #[test]
    fn numbers_may_be_others_and_words_may_not() {
        assert!(word_alike("2026-11-21T10:05:00Z", "1999-1-1T0:00:00Z"));
        assert!(word_alike("403117", "7"));
        assert!(!word_alike("403117", "7,"));
        assert!(!word_alike("alarms", "alarm"));
        assert!(!word_alike("witness.example/w1+0a1b2c3d+BK…", "witness.example/w1+0a1b2c3d+BK"));
    }
}
