//! Who looks at a ledger from outside: a witness, and a monitor, as programs.

use crate::{LIMIT, auditor};
use logseal::{
    client::block_on,
    cluster::WitnessPlan,
    output::fail,
    site::{Process, Programs, Site, free_ports},
    tiles::Tiles,
};
use record::note::VerifierKey;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A witness on loopback, without TLS.
pub struct Witness {
    /// Its folder.
    pub dir: PathBuf,
    /// Where it listens.
    pub port: u16,
    /// Its public key.
    pub vkey: VerifierKey,
    programs: Programs,
    process: Option<Process>,
}

impl Witness {
    /// Makes a witness in `dir`, without starting it.
    pub fn make(dir: &Path) -> Self {
        let programs = Programs::beside_this().unwrap();
        let [port] = free_ports().unwrap();
        let output = Command::new(programs.path("logseal"))
            .args(["--json", "witness", "init", "--name", "witness.example/w1", "--dir"])
            .arg(dir)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let vkey = made["vkey"].as_str().unwrap().parse().unwrap();
        Witness { dir: dir.to_owned(), port, vkey, programs, process: None }
    }

    /// Adds a log to its configuration.
    pub fn add_log(&self, origin: &str, vkeys: &[String]) {
        let path = self.dir.join("witness.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        write!(text, "\n[[log]]\norigin = {origin:?}\nvkeys = {vkeys:?}\n").unwrap();
        std::fs::write(&path, text).unwrap();
    }

    /// Adds the ledger of a site, with the keys of all its nodes.
    pub fn add_ledger(&self, site: &Site) {
        let policy = std::fs::read_to_string(site.path("policy")).unwrap();
        let keys = policy.lines().filter_map(|line| line.strip_prefix("log "));
        let keys: Vec<String> = keys.map(str::to_owned).collect();
        let origin = keys[0].split('+').next().unwrap();
        self.add_log(origin, &keys);
    }

    /// As nodes are to be configured.
    pub fn plan(&self) -> WitnessPlan {
        let url = format!("http://127.0.0.1:{}", self.port).parse().unwrap();
        WitnessPlan { url, vkey: self.vkey.clone(), ca: None }
    }

    /// Starts it, and waits until it listens.
    pub fn start(&mut self) {
        let mut process = self.spawn();
        process.wait_ready(LIMIT).unwrap();
        self.process = Some(process);
    }

    /// Starts it without waiting.
    pub fn spawn(&self) -> Process {
        let config = self.dir.join("witness.toml").display().to_string();
        let args = ["witness", "run", "--config", &config];
        Process::start(&self.programs.path("logseal"), &args, &self.dir.join("witness.log"))
            .unwrap()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.take().unwrap().kill().unwrap();
    }

    /// All of its log.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.dir.join("witness.log")).unwrap_or_default()
    }
}

/// A monitor of a site's nodes.
pub struct Monitor {
    /// The process.
    pub process: Process,
}

/// Writes the policy that asks for outside witnesses, as a node's configuration has them.
pub fn write_audit_policy(site: &Site) -> PathBuf {
    let config = site.node_dir(0).join("ledger.toml").display().to_string();
    let args = ["policy", "--audit", "--config", &config];
    let policy = site.output("logseal-ledger", &args).unwrap();
    let path = site.path("audit-policy");
    std::fs::write(&path, policy).unwrap();
    path
}

fn arguments(site: &Site, policy: &Path, more: &[&str]) -> Vec<String> {
    let words = [
        "monitor".into(),
        "--json".into(),
        "--config".into(),
        site.path("auditor.toml").display().to_string(),
        "--policy".into(),
        policy.display().to_string(),
    ];
    let usual = ["--state".into(), site.path("monitor").display().to_string()];
    let state = usual.into_iter().filter(|_| !more.contains(&"--state"));
    let more = more.iter().map(|word| (*word).to_owned());
    words.into_iter().chain(state).chain(more).collect()
}

impl Monitor {
    /// Starts a monitor that looks every second, and waits until it does.
    pub fn start(site: &Site, policy: &Path, more: &[&str]) -> Self {
        let args = arguments(site, policy, &[&["--interval", "1"], more].concat());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let program = site.programs.path("logseal");
        let mut process = Process::start(&program, &args, &site.path("monitor.log")).unwrap();
        process.wait_ready(LIMIT).unwrap();
        Monitor { process }
    }

    /// Everything that it, and those before it, said, an object a line.
    pub fn said(&self) -> Vec<serde_json::Value> {
        let text = self.process.log_text();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The words of all alarms so far.
    pub fn alarms(&self) -> Vec<String> {
        let said = self.said().into_iter().filter(|line| line["event"] == "alarm");
        said.map(|line| line["word"].as_str().unwrap().to_owned()).collect()
    }

    /// Entries that it has found right so far.
    pub fn size(&self) -> u64 {
        let said = self.said().into_iter().filter(|line| line["event"] == "checkpoint");
        said.filter_map(|line| line["size"].as_u64()).max().unwrap_or(0)
    }
}

/// Runs a monitor once.
pub fn monitor_once(site: &Site, policy: &Path, more: &[&str]) -> Output {
    let args = arguments(site, policy, &[&["--once"], more].concat());
    Command::new(site.programs.path("logseal")).args(args).output().unwrap()
}

/// The checkpoint that a node serves, as it came.
pub fn raw_checkpoint(site: &Site, node: usize) -> Vec<u8> {
    let address = site.https_address(node).to_string();
    let read = block_on(async {
        let mut tiles = Tiles::connect(&address, auditor(site)).await?;
        tiles.checkpoint_bytes().await.map_err(fail)
    });
    read.unwrap().to_vec()
}

/// What a program said.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
