//! Exports: complete, checkable offline, and not to be altered unnoticed.

use logseal::site::{LedgerOptions, Site, corpus::Corpus};
use logseal_tests::{Running, generate::Generator, kong_source, new_site, wait_for};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output},
};

/// Runs `logseal` with these arguments, in JSON.
pub fn logseal(site: &Site, args: &[&str]) -> (i32, Value) {
    let Output { status, stdout, stderr } =
        Command::new(site.programs.path("logseal")).arg("--json").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    let answer = serde_json::from_slice(&stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {stderr}"));
    (status.code().unwrap(), answer)
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Checks an export with the policy of the site.
fn verify(site: &Site, dir: &Path) -> (i32, Value) {
    logseal(site, &["verify", shown(dir), "--policy", shown(&site.path("policy"))])
}

/// Flips a bit in the middle of a file, has the folder checked, and puts the bit back.
fn flip(site: &Site, dir: &Path, name: &str) -> Value {
    let path = dir.join(name);
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (code, answer) = verify(site, dir);
    assert_eq!(code, 1, "{name}: {answer}");
    fs::write(&path, whole).unwrap();
    answer
}

/// A ledger of 3,000 records in a store, and nobody who serves it.
fn generated() -> (tempfile::TempDir, Site) {
    let (dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let mut generator = Generator::new(&site, 100);
    generator.add(3000);
    generator.let_go();
    (dir, site)
}

#[test]
fn an_export_over_https_is_the_ledger_and_can_be_checked_offline() {
    let running = Running::start(kong_source);
    let site = &running.site;
    let mut corpus = Corpus::new(7, 1_795_248_147_000);
    let lines: Vec<String> = (0..2000).map(|_| corpus.line("a")).collect();
    let mut log = fs::File::create(site.path("kong.log")).unwrap();
    log.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    running.wait_receipted(2000);
    let https = format!("127.0.0.1:{}", site.https_port);
    let config = site.path("auditor.toml");
    for format in ["syslog", "jsonl", "parquet"] {
        let dir = site.path(format!("export-{format}"));
        let from = ["--config", shown(&config), "--node", &https];
        let what =
            ["--from", "2020-01-01", "--to", "2100-01-01", "--format", format, "-o", shown(&dir)];
        let (code, answer) = logseal(site, &[&["export"], &from[..], &what[..]].concat());
        assert_eq!((code, &answer["manifest"]["kinds"]["record"]), (0, &2000.into()), "{answer}");
        let (code, answer) = verify(site, &dir);
        assert_eq!((code, &answer["complete"]), (0, &true.into()), "{answer}");
        let (code, answer) = logseal(site, &[&["export"], &from[..], &what[..]].concat());
        assert!(code == 2 && answer["error"].as_str().unwrap().contains("never overwritten"));
    }
    let rows = fs::read_to_string(site.path("export-jsonl/entries-000001.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let found: Vec<&str> = rows.iter().filter_map(|row| row["line"].as_str()).collect();
    assert_eq!(found, lines, "every line, in order, byte for byte");
    assert!(rows.iter().all(|row| row["kind"] != "record" || row["fields"]["user.id"].is_string()));
}

#[test]
fn a_flipped_bit_anywhere_in_an_export_is_named() {
    let (_dir, site) = generated();
    let store = site.path("store");
    let policy = site.path("policy");
    let export = |name: &str, more: &[&str]| {
        let dir = site.path(name);
        let from = ["export", "--store", shown(&store), "--policy", shown(&policy)];
        let (code, answer) = logseal(&site, &[&from, more, &["-o", shown(&dir)]].concat());
        assert_eq!(code, 0, "{answer}");
        let (code, answer) = verify(&site, &dir);
        assert_eq!(code, 0, "{answer}");
        dir
    };
    let all = export("all", &["--format", "jsonl"]);
    let first = fs::read_to_string(all.join("entries-000001.jsonl")).unwrap();
    let rows: Vec<Value> = first.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let times: Vec<u64> =
        rows.iter().filter_map(|row| row["block"]["time"].as_str()?.parse().ok()).collect();
    let moment = |at: usize| record::UnixMillis(times[at]).to_string();
    let times = [moment(times.len() / 3), moment(2 * times.len() / 3)];
    let within = export("within", &["--from", &times[0], "--to", &times[1]]);
    for name in ["entries-000001.syslog", "before", "after", "range-proof", "checkpoint"] {
        let answer = flip(&site, &within, name);
        let problem = answer.to_string();
        assert!(answer["file"] == name || name == "range-proof", "{name}: {problem}");
    }
    assert_eq!(flip(&site, &all, "entries-000001.jsonl")["file"], "entries-000001.jsonl");
    let table = export("table", &["--format", "parquet", "--first", "3", "--last", "2900"]);
    assert_eq!(flip(&site, &table, "entries-000001.parquet")["file"], "entries-000001.parquet");
    let agent = export("agent", &["--agent", "generated", "--source", "kong", "--last", "2000"]);
    flip(&site, &agent, "leaves");

    // Nothing is written under a proof that does not lead to the root.
    let (tree, dir) = (store.join("tree/level-0"), site.path("wrong"));
    let mut hashes = fs::read(&tree).unwrap();
    hashes[32 * 1000] ^= 1;
    fs::write(&tree, hashes).unwrap();
    let args = ["export", "--store", shown(&store), "--policy", shown(&policy), "-o", shown(&dir)];
    let (code, answer) = logseal(&site, &[&args[..], &["--first", "1001"]].concat());
    assert!(code == 2 && answer["error"].as_str().unwrap().contains("not those"), "{answer}");
    assert!(!dir.exists());

    // What is left out shows, even if the manifest is made to fit.
    let path = within.join("entries-000001.syslog");
    let bytes = fs::read(&path).unwrap();
    let length: usize =
        std::str::from_utf8(bytes.split(|b| *b == b' ').next().unwrap()).unwrap().parse().unwrap();
    let cut = length + length.to_string().len() + 2;
    fs::write(&path, &bytes[cut..]).unwrap();
    let (code, answer) = verify(&site, &within);
    assert_eq!(code, 1, "{answer}");
}

#[test]
fn an_export_that_was_killed_has_no_manifest_and_is_begun_again() {
    let (_dir, site) = generated();
    let (store, dir) = (site.path("store"), site.path("out"));
    let policy = site.path("policy");
    let args = ["export", "--store", shown(&store), "--policy", shown(&policy), "-o", shown(&dir)];
    for round in 0..10u64 {
        let mut child = Command::new(site.programs.path("logseal"))
            .args(args)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        if dir.exists() {
            assert_eq!(verify(&site, &dir).0, 0);
            fs::remove_dir_all(&dir).unwrap();
        }
    }
    let (code, answer) = logseal(&site, &args);
    assert_eq!(code, 0, "{answer}");
    wait_for("the folder", || (verify(&site, &dir).0 == 0).then_some(()));
    assert!(!site.path("out.partial").exists());
}
