//! Backups of running nodes, and what can be made of them.

use crate::export::logseal;
use age::secrecy::ExposeSecret;
use logseal::site::{LedgerOptions, Site};
use logseal_tests::{
    Running, cluster::Cluster, generate::Generator, kong_source, new_site, records, wait_for,
};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A node's store and the ledger's policy, and a repository beside them.
pub(crate) struct Case {
    pub(crate) site: Site,
    pub(crate) store: PathBuf,
    pub(crate) policy: PathBuf,
    pub(crate) repo: PathBuf,
}

impl Case {
    pub(crate) fn of(site: Site, store: PathBuf) -> Self {
        let (policy, repo) = (site.path("policy"), site.path("repo"));
        Case { site, store, policy, repo }
    }

    pub(crate) fn run(&self, args: &[&str]) -> (i32, Value) {
        logseal(&self.site, args)
    }

    pub(crate) fn backup_args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let own = ["backup", "--store", shown(&self.store), "--to", shown(&self.repo)];
        [&own[..], &["--policy", shown(&self.policy)], more].concat()
    }

    pub(crate) fn backup(&self, more: &[&str]) -> Value {
        let (code, answer) = self.run(&self.backup_args(more));
        assert_eq!(code, 0, "{answer}");
        answer
    }

    pub(crate) fn restore_args<'a>(&'a self, to: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let own = ["restore", "--from", shown(&self.repo), "--to", shown(to)];
        [&own[..], &["--policy", shown(&self.policy)], more].concat()
    }

    pub(crate) fn check(&self) -> (i32, Value) {
        self.run(&["backup", "check", shown(&self.repo)])
    }

    /// Runs `logseal` and kills it after so long, if it has not ended.
    pub(crate) fn run_and_kill(&self, args: &[&str], after: Duration) {
        let program = self.site.programs.path("logseal");
        let mut command = Command::new(program);
        let mut child =
            command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Some file below the repository's objects, the largest.
    fn largest_object(&self) -> PathBuf {
        let mut files = Vec::new();
        for folder in fs::read_dir(self.repo.join("objects")).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let file = file.unwrap();
                files.push((file.metadata().unwrap().len(), file.path()));
            }
        }
        files.into_iter().max().unwrap().1
    }
}

/// A store of so many records, in blocks of 50.
fn generated(count: u64) -> (tempfile::TempDir, Case, Generator) {
    let (dir, site) = new_site();
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let mut generator = Generator::new(&site, 50);
    generator.add(count);
    generator.let_go();
    let store = site.path("store");
    (dir, Case::of(site, store), generator)
}

pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_node_is_backed_up_while_it_runs_and_starts_from_what_was_restored() {
    let mut running = Running::start(kong_source);
    let mut log = fs::File::create(running.site.path("kong.log")).unwrap();
    let mut corpus = logseal::site::corpus::Corpus::new(7, 1_795_248_147_000);
    let mut write = |lines: usize| {
        for _ in 0..lines {
            writeln!(log, "{}", corpus.line("a")).unwrap();
        }
    };
    write(500);
    running.wait_receipted(500);
    let (store, repo) = (running.site.path("store"), running.site.path("repo"));
    let config = running.site.path("ledger.toml");
    let policy = running.site.path("policy");
    let args =
        ["backup", "--config", shown(&config), "--policy", shown(&policy), "--to", shown(&repo)];
    let first = wait_for("a checkpoint to back up", || {
        let (code, answer) = logseal(&running.site, &args);
        (code == 0).then_some(answer)
    });
    assert!(first["proven"] == true && first["policy"] == true, "{first}");
    // Under load, and while the newest segment grows.
    for round in 1..=5 {
        write(1000);
        let (code, answer) = logseal(&running.site, &args);
        assert_eq!(code, 0, "{answer}");
        running.wait_receipted(500 + 1000 * round);
    }
    let (checkpoint, before) = records(&running.site);
    running.agent.stop(logseal_tests::LIMIT).unwrap();
    running.ledger.stop(logseal_tests::LIMIT).unwrap();
    let (code, last) = logseal(&running.site, &args);
    assert_eq!((code, &last["size"]), (0, &checkpoint.size.0.into()), "{last}");
    let gone = running.site.path("gone");
    fs::rename(&store, &gone).unwrap();
    let restore =
        ["restore", "--from", shown(&repo), "--to", shown(&store), "--policy", shown(&policy)];
    let (code, restored) = logseal(&running.site, &restore);
    assert_eq!((code, &restored["rejoins"]), (0, &false.into()), "{restored}");
    assert_eq!(restored["root"], checkpoint.root.to_string());
    assert!(store.join("from-backup/ledger.toml").is_file());
    running.ledger = running.site.start_ledger().unwrap();
    let (again, after) = records(&running.site);
    assert!(again.size >= checkpoint.size && after == before, "the same records, proven again");
    // It goes on: the agent's next batch follows what was restored.
    running.agent = running.site.start_agent("gw01").unwrap();
    write(100);
    running.wait_receipted(100);
    let (code, answer) = logseal(&running.site, &restore);
    assert!(code == 2 && answer["error"].as_str().unwrap().contains("not empty"), "{answer}");
}

#[test]
fn the_second_backup_copies_what_is_new() {
    let (_dir, case, mut generator) = generated(150_000);
    let first = case.backup(&[]);
    assert!(first["segments"].as_u64().unwrap() >= 2, "{first}");
    let same = case.backup(&[]);
    assert_eq!((&same["new_objects"], &same["new_bytes"]), (&0.into(), &0.into()), "{same}");
    generator.go_on();
    generator.add(1000);
    generator.let_go();
    let second = case.backup(&[]);
    let bytes = |answer: &Value| answer["new_bytes"].as_u64().unwrap();
    assert!(second["new_objects"] == 1 && bytes(&second) < bytes(&first), "{first} {second}");
    let full = case.backup(&["--full"]);
    assert_eq!(full["new_objects"], 0, "{full}");
    let (code, list) = case.run(&["backup", "list", shown(&case.repo)]);
    assert_eq!((code, list["snapshots"].as_array().unwrap().len()), (0, 4));
    assert_eq!(case.check().0, 0);
    let (code, pruned) = case.run(&["backup", "prune", shown(&case.repo), "--keep", "100"]);
    assert_eq!((code, &pruned["objects"]), (0, &0.into()), "{pruned}");
    // Any snapshot, not only the newest.
    let to = case.site.path("old");
    let id = first["snapshot"].as_str().unwrap();
    let (code, restored) = case.run(&case.restore_args(&to, &["--snapshot", id]));
    assert_eq!((code, &restored["root"]), (0, &first["root"]), "{restored}");
    let (code, pruned) = case.run(&["backup", "prune", shown(&case.repo), "--keep", "1"]);
    assert_eq!((code, &pruned["snapshots"], &pruned["objects"]), (0, &3.into(), &1.into()));
    let to = case.site.path("newest");
    let (code, restored) = case.run(&case.restore_args(&to, &[]));
    assert_eq!((code, &restored["root"]), (0, &full["root"]), "{restored}");
    assert_eq!((case.check().0, case.backup(&[])["new_objects"].as_u64()), (0, Some(0)));
}

#[test]
fn a_kill_at_any_moment_leaves_a_repository_and_no_half_a_store() {
    let (_dir, case, _generator) = generated(20_000);
    for round in 0..25u64 {
        case.run_and_kill(&case.backup_args(&[]), Duration::from_millis(7 * round));
        if case.repo.join("repository.json").exists() {
            let (code, answer) = case.check();
            assert_eq!(code, 0, "round {round}: {answer}");
        }
    }
    case.backup(&[]);
    assert_eq!(case.check().0, 0);
    let to = case.site.path("restored");
    for round in 0..25u64 {
        case.run_and_kill(&case.restore_args(&to, &[]), Duration::from_millis(9 * round));
        if to.exists() {
            assert!(to.join("checkpoint").is_file() && to.join("blocks").is_dir());
            fs::remove_dir_all(&to).unwrap();
        }
    }
    let (code, answer) = case.run(&case.restore_args(&to, &[]));
    assert_eq!((code, &answer["proven"]), (0, &true.into()), "{answer}");
    assert!(!case.site.path("restored.restoring").exists());
}

#[test]
fn a_flipped_bit_in_an_object_or_in_the_store_is_named() {
    let (_dir, case, _generator) = generated(5000);
    case.backup(&[]);
    let object = case.largest_object();
    flip(&object);
    let (code, answer) = case.check();
    let problem = answer["problems"][0].as_str().unwrap().to_owned();
    assert!(code == 1 && problem.contains(shown(&object)) && problem.contains(".seg"), "{answer}");
    let to = case.site.path("restored");
    let (code, answer) = case.run(&case.restore_args(&to, &[]));
    let error = answer["error"].as_str().unwrap();
    assert!(code == 2 && error.contains(shown(&object)) && !to.exists(), "{answer}");
    flip(&object);

    let segment = case.store.join("blocks/00000000000000000000.seg");
    flip(&segment);
    let (code, answer) = case.run(&case.backup_args(&["--full"]));
    assert!(code == 2 && answer["error"].as_str().unwrap().contains(shown(&segment)), "{answer}");
    let answer = case.backup(&["--full", "--allow-damaged"]);
    assert_eq!(answer["proven"], false);
    let id = answer["snapshot"].as_str().unwrap().to_owned();
    let (code, answer) = case.run(&case.restore_args(&to, &["--snapshot", &id]));
    assert!(code == 2 && answer["error"].as_str().unwrap().contains("--allow-damaged"), "{answer}");
    flip(&segment);
    // Nobody believes the damaged snapshot: the next one is whole again.
    assert_eq!(case.backup(&[])["proven"], true);
    let (code, _) = case.run(&case.restore_args(&to, &[]));
    assert_eq!(code, 0);
}

#[test]
fn an_encrypted_repository_opens_with_its_identity_only_and_drills_are_reported() {
    let (_dir, case, _generator) = generated(2000);
    let key = |name: &str| {
        let identity = age::x25519::Identity::generate();
        let path = case.site.path(name);
        let text = format!("# made by a test\n{}\n", identity.to_string().expose_secret());
        fs::write(&path, text).unwrap();
        (identity.to_public().to_string(), path)
    };
    let ((recipient, ours), (_, other)) = (key("ours"), key("other"));
    case.backup(&["--recipient", &recipient]);
    // Once said is enough.
    assert_eq!(case.backup(&[])["new_objects"], 0);
    let bytes = fs::read(case.largest_object()).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1"));
    assert_eq!(case.check().0, 0, "it can be checked without an identity");
    let to = case.site.path("restored");
    let (code, answer) = case.run(&case.restore_args(&to, &["--identity", shown(&other)]));
    assert!(code == 2 && answer["error"].as_str().unwrap().contains("identity"), "{answer}");
    let (code, answer) = case.run(&case.restore_args(&to, &[]));
    assert!(code == 2 && answer["error"].as_str().unwrap().contains("--identity"), "{answer}");

    let (scratch, report) = (case.site.path("scratch"), case.site.path("report.json"));
    fs::create_dir_all(&scratch).unwrap();
    let (cert, private) =
        (case.site.cert("operator", "operator"), case.site.key("operator", "operator"));
    let drill = ["drill", "--from", shown(&case.repo), "--scratch", shown(&scratch)];
    let with = ["--identity", shown(&ours), "--policy", shown(&case.policy)];
    let signed = ["--report", shown(&report), "--cert", shown(&cert), "--key", shown(&private)];
    let (code, answer) = case.run(&[&drill[..], &with, &signed].concat());
    assert_eq!((code, &answer["records"]), (0, &2000.into()), "{answer}");
    let file: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let said: Value = serde_json::from_str(file["report"].as_str().unwrap()).unwrap();
    assert!(said == answer && file["signature"].is_string());
    let (code, answer) = case.run(&["drill", "--check", shown(&report)]);
    assert!(code == 0 && answer["signer"].as_str().unwrap().contains("operator"), "{answer}");
    let forged = fs::read_to_string(&report).unwrap().replacen("true", "fals", 1);
    fs::write(&report, forged).unwrap();
    assert_eq!(case.run(&["drill", "--check", shown(&report)]).0, 1);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left behind");
    flip(&case.largest_object());
    let (code, answer) = case.run(&[&drill[..], &with].concat());
    assert!(code == 1 && answer["problem"].as_str().unwrap().contains("objects/"), "{answer}");
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
}

#[test]
fn a_member_of_a_cluster_comes_back_from_an_old_backup_without_contradicting_itself() {
    let mut cluster = Cluster::start(&LedgerOptions::default());
    cluster.log.write(500);
    cluster.wait_receipted(500);
    let dir = cluster.site.node_dir(2);
    let (config, store) = (dir.join("ledger.toml"), dir.join("store"));
    let (repo, policy) = (cluster.site.path("repo"), cluster.site.path("policy"));
    let args =
        ["backup", "--config", shown(&config), "--policy", shown(&policy), "--to", shown(&repo)];
    wait_for("a checkpoint to back up", || (logseal(&cluster.site, &args).0 == 0).then_some(()));
    cluster.log.write(500);
    cluster.wait_receipted(1000);
    cluster.kill(2);
    fs::remove_dir_all(&store).unwrap();
    cluster.log.write(500);
    cluster.wait_receipted(1500);
    let restore =
        ["restore", "--from", shown(&repo), "--to", shown(&store), "--policy", shown(&policy)];
    let (code, answer) = logseal(&cluster.site, &restore);
    assert_eq!((code, &answer["rejoins"]), (0, &true.into()), "{answer}");
    assert!(store.join("rejoining").exists() && store.join("from-backup/members.toml").exists());
    cluster.restart(2);
    cluster.wait_back(2);
    assert!(!store.join("rejoining").exists(), "it votes again");
    cluster.log.write(500);
    cluster.wait_receipted(2000);
    cluster.wait_agreed(&[0, 1, 2, 3], 2000);
    let overview = cluster.overview();
    assert!(overview.rows.iter().all(|row| row.voting), "{}", cluster.describe());
}

#[test]
fn what_came_of_a_drill_is_an_entry_of_the_ledger() {
    let running = Running::start(kong_source);
    let mut log = fs::File::create(running.site.path("kong.log")).unwrap();
    let mut corpus = logseal::site::corpus::Corpus::new(7, 1_795_248_147_000);
    (0..300).for_each(|_| writeln!(log, "{}", corpus.line("a")).unwrap());
    running.wait_receipted(300);
    let site = &running.site;
    let (store, repo, scratch) = (site.path("store"), site.path("repo"), site.path("scratch"));
    fs::create_dir_all(&scratch).unwrap();
    let case = Case { store, policy: site.path("policy"), repo, site: running.site };
    let config = case.site.path("ledger.toml");
    let (policy, repo) = (shown(&case.policy), shown(&case.repo));
    let args = ["backup", "--config", shown(&config), "--policy", policy, "--to", repo];
    wait_for("a checkpoint to back up", || (case.run(&args).0 == 0).then_some(()));

    let (report, operator) = (case.site.path("report.json"), case.site.path("operator.toml"));
    let drill = ["drill", "--from", repo, "--scratch", shown(&scratch), "--policy", policy];
    let submit = ["--submit", shown(&operator), "--report", shown(&report)];
    let (code, held) = case.run(&[&drill[..], &submit].concat());
    assert_eq!((code, &held["verified"]), (0, &true.into()), "{held}");
    flip(&case.largest_object());
    let (code, failed) = case.run(&[&drill[..], &submit[..2]].concat());
    assert_eq!((code, &failed["verified"]), (1, &false.into()), "{failed}");

    let text = fs::read_to_string(&report).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let digest = record::crypto::sha256(&[file["report"].as_str().unwrap().as_bytes()]);
    let dir = case.site.path("exported");
    let auditor = case.site.path("auditor.toml");
    let export = ["export", "--config", shown(&auditor), "--output", shown(&dir)];
    let (code, exported) = case.run(&export);
    assert_eq!(code, 0, "{exported}");
    let mut declared = Vec::new();
    for path in crate::heal::files(&dir, "") {
        let lines = fs::read_to_string(&path).unwrap_or_default();
        for line in lines.lines().filter(|line| line.contains("[drill@")) {
            declared.push(line[line.find('<').unwrap()..].to_owned());
        }
    }
    assert_eq!(declared.len(), 2, "{declared:?}");
    let of = |line: &str| {
        let entry = record::entry::Entry::parse(line.as_bytes()).unwrap();
        let declaration = record::declaration::Declaration::from_entry(&entry).unwrap();
        let record::declaration::Matter::Drill(drill) = declaration.matter else {
            panic!("{line}")
        };
        drill
    };
    let (held, failed) = (of(&declared[0]), of(&declared[1]));
    assert!(held.verified && held.report.0 == digest && held.size.0 >= 300, "{held:?}");
    assert!(!failed.verified && failed.size.0 == 0, "{failed:?}");
}
