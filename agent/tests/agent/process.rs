//! The program itself, from a log file to the ledger, through stops and kills.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use logseal_agent::{
    commands::key::load_or_create,
    config::Config,
    spool::{Decoded, decode},
};

use crate::{config::Machine, fake_node::Ledger, fake_node::Mood, support::*};

/// The program, killed with the test.
pub struct Agent(pub Child);

impl Agent {
    pub fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logseal-agent"));
        command.arg("run").arg("--config").arg(config);
        Agent(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end: the exit code, and what it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(begun.elapsed() < LIMIT);
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine whose agent is enrolled at a node.
pub async fn enrolled(ledger: &Ledger, mood: Mood) -> (Machine, crate::fake_node::Node) {
    let mut machine = Machine::new();
    std::fs::write(machine.dir.path().join("policy"), ledger.policy()).unwrap();
    let node = ledger.node(&machine.certificates, &[mood]).await;
    machine.text = machine
        .text
        .replace("127.0.0.1:7514", &node.address.to_string())
        .replace("127.0.0.1:6514", "127.0.0.1:0")
        .replace("127.0.0.1:9515", "127.0.0.1:0")
        .replace("# linger_ms = 50", "linger_ms = 5");
    let (vkey, _) = load_or_create(&Config::load(&machine.file()).unwrap()).unwrap();
    let vkey: record::note::VerifierKey = vkey.parse().unwrap();
    ledger.state().key = Some(vkey.public());
    (machine, node)
}

/// How many records a spool holds, and has held.
fn sealed(spool: &Path) -> u64 {
    let (reader, _) = journal::open_read_only(spool).unwrap();
    let records = reader.iter(reader.first_seq()).map_while(Result::ok);
    let ends = records.filter_map(|(_, bytes)| match decode(&bytes).unwrap() {
        Decoded::Batch(batch) => batch.batch.end(),
        Decoded::State(state) => Some(state.frontier.size()),
        Decoded::Changes(_) => None,
    });
    ends.last().unwrap_or_default().0
}

fn write(log: &mut File, from: usize, to: usize) {
    let lines: String = (from..to).map(|n| format!("line {n}\n")).collect();
    log.write_all(lines.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_a_file_is_in_the_ledger_once_whatever_ends_the_agent() {
    let ledger = Ledger::new();
    let (machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let config = machine.file();
    let path = machine.dir.path().join("log/access.log");
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    write(&mut log, 0, 1000);
    let agent = Agent::start(&config);
    until("the first lines are there", || ledger.records() == 1000).await;
    write(&mut log, 1000, 2000);
    // In the middle of things, on purpose.
    drop(agent);
    write(&mut log, 2000, 3000);
    let agent = Agent::start(&config);
    until("what was written meanwhile is there", || ledger.records() == 3000).await;
    write(&mut log, 3000, 4000);
    agent.signal(rustix::process::Signal::TERM);
    let (code, said) = agent.end();
    assert_eq!(code, Some(0), "{said}");
    let agent = Agent::start(&config);
    write(&mut log, 4000, 5000);
    until("all lines are there", || ledger.records() >= 5000).await;
    agent.signal(rustix::process::Signal::TERM);
    let (code, said) = agent.end();
    assert_eq!(code, Some(0), "{said}");
    let expected: Vec<String> = (0..5000).map(|n| format!("line {n}")).collect();
    assert!(ledger.state().lines == expected, "none lost, none twice, in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_sealed_while_no_node_can_be_reached() {
    let ledger = Ledger::new();
    let (machine, node) = enrolled(&ledger, Mood::Honest).await;
    let config = machine.file();
    let path = machine.dir.path().join("log/access.log");
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    write(&mut log, 0, 10);
    let agent = Agent::start(&config);
    until("the log has begun", || ledger.records() == 10).await;
    let address = node.address.to_string();
    drop(node);
    write(&mut log, 10, 500);
    let spool = machine.dir.path().join("lib/spool");
    until("all lines are sealed", || sealed(&spool) == 500).await;
    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert_eq!(ledger.records(), 10);
    // The file is gone; what it said is in the spool.
    std::fs::remove_file(&path).unwrap();
    let agent = Agent::start(&config);
    let node = ledger.node_at(&machine.certificates, &address).await;
    until("what was sealed is there", || ledger.records() == 500).await;
    drop((agent, node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_taken_up_without_a_restart_and_bad_ones_change_nothing() {
    let ledger = Ledger::new();
    let (machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let path = machine.dir.path().join("log/access.log");
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    write(&mut log, 0, 10);
    let mut agent = Agent::start(&machine.file());
    until("the log has begun", || ledger.records() == 10).await;
    let mut said = BufReader::new(agent.0.stderr.take().unwrap()).lines();
    let mut wait_for = |what: &str| {
        assert!(said.by_ref().map_while(Result::ok).any(|line| line.contains(what)), "{what}");
    };
    agent.signal(rustix::process::Signal::HUP);
    wait_for("certificates and revocation lists were taken up");
    let cert = Config::load(&machine.file()).unwrap().tls.cert;
    std::fs::write(cert, "no certificate").unwrap();
    agent.signal(rustix::process::Signal::HUP);
    wait_for("the old ones stay in use");
    write(&mut log, 10, 20);
    until("it works as before", || ledger.records() == 20).await;
}

#[test]
fn the_program_answers_with_the_exit_codes_that_are_documented() {
    let machine = Machine::new();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_logseal-agent"));
        let output = command.args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let config = machine.file().display().to_string();
    let (code, _, said) = run(&["run", "--config", &config]);
    assert_eq!(code, 2);
    assert!(said.contains("logseal-agent key --config"), "there is no key yet: {said}");
    let (code, vkey, said) = run(&["key", "--config", &config]);
    assert_eq!((code, vkey.lines().count()), (0, 1), "{said}");
    let (code, json, _) = run(&["key", "--json", "--config", &config]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, json["vkey"].as_str(), json["created"].as_bool()),
        (0, Some(vkey.trim()), Some(false))
    );
    let (code, answer, _) = run(&["check", "--config", &config]);
    assert_eq!((code, answer.lines().next()), (0, Some("ok")));
    let wrong = Machine { text: machine.text.replace("[spool]", "[spol]"), ..Machine::new() };
    let (code, json, _) =
        run(&["check", "--json", "--config", &wrong.file().display().to_string()]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["ok"].as_bool()), (2, Some(false)));
    assert!(json["problems"][0].as_str().unwrap().contains("unknown field `spol`"), "{json}");
    assert_eq!(run(&["fly"]).0, 2);
    for args in [&["man"][..], &["completions", "bash"]] {
        assert!(run(args).1.contains("logseal-agent"), "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_must_not_go_on_says_why_and_ends_with_2() {
    let ledger = Ledger::new();
    let (machine, _node) = enrolled(&ledger, Mood::Boasting).await;
    let agent = Agent::start(&machine.file());
    let (code, said) = tokio::task::spawn_blocking(|| agent.end()).await.unwrap();
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("logseal-agent: the ledger holds 1000 records of agent 'gw01'"),
        "{said}"
    );
    assert!(said.contains("never starts again at 0"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_waits_for_its_enrolment_says_so_and_can_be_stopped() {
    let ledger = Ledger::new();
    let (machine, _node) = enrolled(&ledger, Mood::Honest).await;
    ledger.state().key = None;
    let mut agent = Agent::start(&machine.file());
    let said = BufReader::new(agent.0.stderr.take().unwrap());
    let told = tokio::task::spawn_blocking(move || {
        said.lines()
            .map_while(Result::ok)
            .find(|line| line.contains("logseal enrol --agent gw01 --vkey '"))
    });
    let told = tokio::time::timeout(LIMIT, told).await.unwrap().unwrap();
    assert!(told.is_some());
    agent.signal(rustix::process::Signal::TERM);
    let code = tokio::task::spawn_blocking(move || agent.0.wait().unwrap().code());
    assert_eq!(tokio::time::timeout(LIMIT, code).await.unwrap().unwrap(), Some(0));
}
