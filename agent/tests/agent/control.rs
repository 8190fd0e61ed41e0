//! What the running agent tells on its local socket.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::{Command, Output, Stdio},
};

use crate::{
    config::Machine,
    fake_node::{Ledger, Mood},
    process::{Agent, enrolled},
    support::*,
};

fn ask(machine: &Machine, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logseal-agent"));
    command.args(args).arg("--config").arg(machine.dir.path().join("agent.toml")).output().unwrap()
}

/// What the running agent says of itself.
pub fn status(machine: &Machine) -> serde_json::Value {
    serde_json::from_slice(&ask(machine, &["status", "--json"]).stdout).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_how_far_each_source_came_and_when_the_ledger_last_answered() {
    let ledger = Ledger::new();
    let (machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let path = machine.dir.path().join("log/access.log");
    std::fs::write(&path, "one\ntwo\nthr").unwrap();
    let agent = Agent::start(&machine.file());
    until("the lines have receipts", || status(&machine)["log"]["receipted"] == 2).await;
    let shown = status(&machine);
    assert_eq!(shown["agent"], "gw01", "{shown}");
    assert_eq!(shown["pid"], agent.0.id(), "{shown}");
    assert_eq!(shown["uplink"]["nodes"][0]["connected"], true, "{shown}");
    let source = &shown["sources"][0];
    assert_eq!((&source["name"], &source["kind"]), (&"kong".into(), &"file".into()), "{shown}");
    assert_eq!((&source["lines"], &source["lag_bytes"]), (&2.into(), &3.into()), "{shown}");
    until("the file's position is shown", || {
        let file = &status(&machine)["sources"][0]["files"][0];
        (&file["position"], &file["size"]) == (&8.into(), &11.into())
    })
    .await;
    assert!(source["last_receipt"].is_string() && source["last_line"].is_string(), "{shown}");
    assert_eq!(shown["sources"][1]["last_receipt"], serde_json::Value::Null, "{shown}");

    let human = ask(&machine, &["status"]);
    let text = String::from_utf8(human.stdout).unwrap();
    assert_eq!(human.status.code(), Some(0), "{text}");
    assert!(text.contains("source   kong (file ") && text.contains("2 lines"), "{text}");

    let socket = machine.dir.path().join("lib/gw01.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut rude = UnixStream::connect(&socket).unwrap();
    rude.write_all(b"GET / HTTP/1.1\n").unwrap();
    let mut answer = String::new();
    BufReader::new(rude).read_line(&mut answer).unwrap();
    assert!(answer.starts_with("{\"error\""), "{answer}");

    agent.signal(rustix::process::Signal::TERM);
    assert_eq!(tokio::task::spawn_blocking(|| agent.end()).await.unwrap().0, Some(0));
    assert!(!socket.exists());
    let gone = ask(&machine, &["status"]);
    assert_eq!(gone.status.code(), Some(2));
    let said = String::from_utf8(gone.stderr).unwrap();
    assert!(said.contains("no agent answers at") && said.contains("systemctl status"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_without_a_node_says_that_something_needs_attention() {
    let ledger = Ledger::new();
    let (machine, node) = enrolled(&ledger, Mood::Honest).await;
    let agent = Agent::start(&machine.file());
    until("it is connected", || status(&machine)["uplink"]["nodes"][0]["connected"] == true).await;
    drop(node);
    until("it is not any more", || status(&machine)["uplink"]["nodes"][0]["problem"].is_string())
        .await;
    let shown = ask(&machine, &["status"]);
    assert_eq!(shown.status.code(), Some(1));
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("! no node is connected: records wait in the spool"), "{text}");
    // An agent that was killed leaves its socket; the next one takes its place.
    drop(agent);
    assert!(machine.dir.path().join("lib/gw01.sock").exists());
    let agent = Agent::start(&machine.file());
    until("it answers", || status(&machine)["pid"] == agent.0.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_can_be_watched_as_they_are_sealed() {
    let ledger = Ledger::new();
    let (machine, _node) = enrolled(&ledger, Mood::Honest).await;
    let path = machine.dir.path().join("log/access.log");
    let _agent = Agent::start(&machine.file());
    until("it runs", || status(&machine)["uplink"]["nodes"][0]["connected"] == true).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_logseal-agent"));
    let config = machine.dir.path().join("agent.toml");
    command.args(["tap", "--json", "--source", "kong", "-n", "3", "--config"]).arg(config);
    let tap = command.stdout(Stdio::piped()).spawn().unwrap();
    let watched = std::thread::spawn(move || tap.wait_with_output().unwrap());
    // Nobody knows when the tap listens, so lines are written until it has seen enough.
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    until("three records were seen", || {
        log.write_all(b"{\"client_ip\":\"10.1.2.3\"}\n").unwrap();
        watched.is_finished()
    })
    .await;
    let output = watched.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 3);
    for record in &records {
        assert_eq!(record["line"], "{\"client_ip\":\"10.1.2.3\"}", "{record}");
        assert_eq!(record["access"]["source.ip"], "10.1.2.3", "{record}");
    }
    let numbers: Vec<_> = records.iter().map(|record| record["n"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
