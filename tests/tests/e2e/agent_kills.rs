//! kill -9 of the agent at random moments, while it runs and while it starts, under the sources
//! that rsyslog, files and journal are not: local sockets, UDP, standard input, OTLP.
//!
//! OTLP answers: what was answered is never lost, and only what was not is there twice. The others
//! acknowledge nothing, so nobody can know of all that a kill costs: it is counted. What holds all
//! the same: nothing that was durable is lost, nothing is there twice or out of order, and a kill
//! costs the messages of one moment, not of several.

use crate::{
    local::{lines_of, ready, stdin_source, unix_source},
    otlp::{log_record, post_on, request},
    relp::lasting_port,
};
use logseal::site::{Process, Site};
use logseal_tests::{
    LIMIT,
    cluster::{Dice, tell},
    kills::{Background, Fate, KILLS, kill_often},
    records, wait_for,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    io::Write,
    net::{TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    time::Duration,
};

/// The pace of senders. What is lost is what comes in a kill's moment.
const PACE: Duration = Duration::from_micros(500);

fn message(number: usize) -> Vec<u8> {
    format!("<13>Nov 21 10:02:27 app: message {number:08}").into_bytes()
}

/// Sends numbered messages; `send` says whether somebody took one, and is given it again if not.
fn load(mut send: impl FnMut(&[u8]) -> bool + Send + 'static) -> Background<Vec<Vec<u8>>> {
    Background::start(move |goes_on| {
        let mut sent = Vec::new();
        while goes_on() {
            let next = message(sent.len());
            if send(&next) {
                sent.push(next);
            }
            std::thread::park_timeout(PACE);
        }
        sent
    })
}

fn spawn(site: &Site) -> Process {
    site.spawn("logseal-agent", "gw01.toml", "gw01.log").unwrap()
}

/// Kills what `start` starts under this load, and demands what can be demanded.
fn expect_gaps_only(
    what: &str,
    site: &Site,
    mut dice: Dice,
    load: Background<Vec<Vec<u8>>>,
    start: impl FnMut() -> Process,
) -> Fate {
    let (mut agent, durable) = kill_often(&mut dice, &site.path("gw01-spool"), start);
    dice.pause(Duration::from_millis(300));
    let sent = load.end();
    wait_for("what no kill came near", || lines_of(site).contains(sent.last()?).then_some(()));
    // Of standard input it is the end as well.
    let _ = agent.signal(rustix::process::Signal::TERM);
    agent.wait(LIMIT).unwrap();
    let records = records(site).1;
    let found: Vec<Vec<u8>> = records.iter().map(|record| record.line.clone()).collect();
    let fate = Fate::of(&sent, &found);
    tell(&format!("{KILLS} kills of the agent, {what}: {fate}; {} seen durable", durable.count()));
    durable.assert_in(&records);
    assert!(found.is_sorted(), "in order");
    assert_eq!(fate.twice, 0, "nobody sends twice");
    assert!(fate.gaps <= KILLS, "at most one gap a kill: {fate}");
    fate
}

#[test]
fn a_killed_agent_loses_of_datagrams_only_what_lay_in_the_socket() {
    let socket = |site: &Site| unix_source("log", &site.path("log.sock"), "datagram");
    let (_dir, site, _ledger) = ready(socket);
    let path = site.path("log.sock");
    let sender = UnixDatagram::unbound().unwrap();
    // As syslog(3) does: who finds nobody there tries again.
    let load = load(move |message| sender.send_to(message, &path).is_ok());
    expect_gaps_only("unix datagrams", &site, Dice::new(0x5eed_0400), load, || spawn(&site));
}

#[test]
fn a_killed_agent_loses_of_connections_only_what_lay_in_the_socket() {
    let socket = |site: &Site| unix_source("log", &site.path("log.sock"), "stream");
    let (_dir, site, _ledger) = ready(socket);
    let path = site.path("log.sock");
    let mut stream = None;
    let load = load(move |message| {
        let mut open = stream.take().or_else(|| UnixStream::connect(&path).ok());
        let line = [message, b"\n"].concat();
        stream = open.take_if(|open| open.write_all(&line).is_ok());
        stream.is_some()
    });
    expect_gaps_only("unix streams", &site, Dice::new(0x5eed_0401), load, || spawn(&site));
}

#[test]
fn a_killed_agent_loses_of_udp_only_what_came_before_the_next_one_listened() {
    let port = lasting_port();
    let (_dir, site, _ledger) =
        ready(|_| format!("[[source.udp]]\nname = \"old\"\nlisten = \"127.0.0.1:{port}\"\n"));
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Nobody tells a device that nobody is there.
    let load = load(move |message| sender.send_to(message, ("127.0.0.1", port)).is_ok());
    expect_gaps_only("UDP", &site, Dice::new(0x5eed_0402), load, || spawn(&site));
}

#[test]
fn a_killed_agent_loses_of_its_input_only_what_it_had_read_and_was_not_durable() {
    let (_dir, site, _ledger) = ready(stdin_source);
    // The pipe outlives each agent, as one does that a service manager keeps.
    let (input, mut pipe) = std::io::pipe().unwrap();
    let load = load(move |message| pipe.write_all(&[message, b"\n"].concat()).is_ok());
    let start = || {
        let input = input.try_clone().unwrap().into();
        site.spawn_reading("logseal-agent", "gw01.toml", "gw01.log", input).unwrap()
    };
    expect_gaps_only("standard input", &site, Dice::new(0x5eed_0403), load, start);
}

/// How many exporters send at a time.
const EXPORTERS: usize = 4;
/// Log records of a request.
const RECORDS: usize = 5;

/// What an exporter sent: how often each request got no answer that it is kept, before it got one.
type Requests = Vec<usize>;

fn text(exporter: usize, number: usize, record: usize) -> String {
    format!("exporter {exporter} request {number} record {record}")
}

/// Sends requests one by one, each until it is answered with success.
fn export(port: u16, exporter: usize) -> Background<Requests> {
    Background::start(move |goes_on| {
        let mut requests = Requests::new();
        while goes_on() {
            let texts = (0..RECORDS).map(|n| text(exporter, requests.len(), n));
            let body = request(&texts.map(|text| log_record(&text)).collect::<Vec<Value>>());
            let mut unanswered = 0;
            loop {
                // Who finds nobody there has sent nothing.
                let answer = TcpStream::connect(("127.0.0.1", port)).map(|s| post_on(s, &body));
                match answer {
                    Ok(Some(answer)) if answer.status == 200 => break,
                    Ok(_) => unanswered += 1,
                    Err(_) => {}
                }
                std::thread::park_timeout(PACE);
            }
            requests.push(unanswered);
        }
        requests
    })
}

/// How often each text is in the ledger.
fn texts(lines: &[Vec<u8>]) -> HashMap<String, usize> {
    let mut count = HashMap::new();
    for line in lines {
        let line: Value = serde_json::from_slice(line).unwrap();
        let record = &line["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        let text = record["body"]["stringValue"].as_str().unwrap();
        *count.entry(text.to_owned()).or_default() += 1;
    }
    count
}

#[test]
fn a_killed_agent_loses_no_log_record_that_it_had_answered_for() {
    let port = lasting_port();
    let (_dir, site, _ledger) = ready(|_| {
        format!("[[source.otlp]]\nname = \"otlp\"\nlisten = \"127.0.0.1:{port}\"\nplain = true\n")
    });
    let exporters: Vec<_> = (0..EXPORTERS).map(|exporter| export(port, exporter)).collect();
    let mut dice = Dice::new(0x5eed_0404);
    let (mut agent, durable) = kill_often(&mut dice, &site.path("gw01-spool"), || spawn(&site));
    let sent: Vec<Requests> = exporters.into_iter().map(Background::end).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let answer = post_on(stream, &request(&[log_record("the end")])).expect("an answer");
    assert_eq!(answer.status, 200);
    wait_for("the end in the ledger", || texts(&lines_of(&site)).get("the end").map(drop));
    agent.stop(LIMIT).unwrap();
    let records = records(&site).1;
    durable.assert_in(&records);
    let found = texts(&records.into_iter().map(|record| record.line).collect::<Vec<_>>());
    let (mut unanswered, mut twice) = (0, 0);
    for (exporter, requests) in sent.iter().enumerate() {
        for (number, failures) in requests.iter().enumerate() {
            unanswered += failures;
            for record in 0..RECORDS {
                let text = text(exporter, number, record);
                let times = found.get(&text).copied().unwrap_or(0);
                assert!(times > 0, "{text} was answered for, and is lost");
                assert!(
                    times <= 1 + failures,
                    "{text} is there {times} times: {failures} failures"
                );
                twice += times - 1;
            }
        }
    }
    let requests: usize = sent.iter().map(Vec::len).sum();
    assert!(unanswered > KILLS / 2, "only {unanswered} requests were under way");
    tell(&format!(
        "{KILLS} kills of the agent, OTLP: {requests} requests of {RECORDS} answered, 0 lost; {unanswered} \
         attempts without an answer, by which {twice} records are there once more; {} seen durable",
        durable.count()
    ));
}
