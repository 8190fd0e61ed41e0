//! A real journal, read by the real journalctl, with kill -9 of the agent in between.

use std::{
    collections::HashMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use logseal::site::{AgentOptions, LedgerOptions, Process, Site};
use logseal_tests::{
    LIMIT, Record,
    cluster::Dice,
    join_parts,
    kills::{Background, KILLS},
    new_site, records, wait_for,
};
use record::entry::Entry;
use serde_json::Value;

/// A journal that grows: what systemd itself makes of entries in its export format.
struct Journal {
    dir: PathBuf,
    writer: Child,
    input: ChildStdin,
    written: usize,
}

impl Journal {
    fn new(site: &Site) -> Self {
        let dir = site.path("journal");
        fs::create_dir(&dir).unwrap();
        let program =
            ["/lib/systemd/systemd-journal-remote", "/usr/lib/systemd/systemd-journal-remote"]
                .into_iter()
                .find(|path| Path::new(path).exists())
                .expect("Debian's systemd-journal-remote is installed");
        let mut writer = Command::new(program)
            .arg(format!("--output={}", dir.join("site.journal").display()))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(fs::File::create(site.path("journal.log")).unwrap())
            .spawn()
            .unwrap();
        let input = writer.stdin.take().unwrap();
        Journal { dir, writer, input, written: 0 }
    }

    /// Appends an entry, in every third one with a message that is no text.
    fn write(&mut self, unit: &str) {
        let number = self.written;
        self.written += 1;
        let time = 1_795_248_147_000_000 + number;
        let mut entry = format!(
            "__REALTIME_TIMESTAMP={time}\n_HOSTNAME=web07\n_PID={number}\n_COMM=sh\nPRIORITY=4\n\
             SYSLOG_FACILITY=10\nSYSLOG_IDENTIFIER=app\n_SYSTEMD_UNIT={unit}\n"
        )
        .into_bytes();
        if number.is_multiple_of(3) {
            let message = [format!("number {number}\n").as_bytes(), b"\xff\x00\x1b\"\\"].concat();
            entry.extend_from_slice(b"MESSAGE\n");
            entry.extend_from_slice(&(message.len() as u64).to_le_bytes());
            entry.extend_from_slice(&message);
        } else {
            entry.extend_from_slice(format!("MESSAGE=number {number} \"中文\" \\").as_bytes());
        }
        entry.extend_from_slice(b"\n\n");
        self.input.write_all(&entry).unwrap();
    }

    /// All entries, as journalctl shows them.
    fn shown(&self) -> Vec<Value> {
        let output = Command::new("journalctl")
            .args(["--output=json", "--all", "--merge", "--directory"])
            .arg(&self.dir)
            .output()
            .unwrap();
        assert!(output.status.success());
        output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(json)
            .collect()
    }

    fn wait_shown(&self) {
        wait_for("the journal to hold all", || (self.shown().len() == self.written).then_some(()));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.writer.kill();
        let _ = self.writer.wait();
    }
}

fn json(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap()
}

fn source(journal: &Journal, more: &str) -> String {
    format!("[[source.journald]]\nname = \"journal\"\ndirectory = {:?}\n{more}", journal.dir)
}

fn ready() -> (tempfile::TempDir, Site, Process, Journal) {
    let (dir, site) = new_site();
    let journal = Journal::new(&site);
    site.configure_ledger(&LedgerOptions::default()).unwrap();
    let ledger = site.start_ledger().unwrap();
    (dir, site, ledger, journal)
}

fn configure(site: &Site, sources: &str) {
    site.configure_agent(&AgentOptions::new("gw01", sources)).unwrap();
    site.enrol("gw01").unwrap();
}

fn entries(site: &Site) -> Vec<Value> {
    join_parts(records(site).1.into_iter()).iter().map(|line| json(line)).collect()
}

fn header(record: &Record) -> String {
    let header = Entry::parse(&record.entry).unwrap().message().header();
    String::from_utf8_lossy(header).into_owned()
}

#[test]
fn a_killed_agent_loses_no_entry_of_the_journal_and_has_none_twice() {
    let (_dir, site, _ledger, mut journal) = ready();
    configure(&site, &source(&journal, ""));
    journal.write("a.service");
    let mut agent = site.start_agent("gw01").unwrap();
    wait_for("the first entry", || (!records(&site).1.is_empty()).then_some(()));
    let writing = Background::start(move |goes_on| {
        while goes_on() {
            (0..3).for_each(|_| journal.write("a.service"));
            std::thread::park_timeout(Duration::from_millis(5));
        }
        journal
    });
    let mut dice = Dice::new(0x9e37_79b9_7f4a_7c15);
    for _ in 0..KILLS {
        dice.pause_from(Duration::from_millis(20), Duration::from_millis(200));
        agent.kill().unwrap();
        agent = site.spawn("logseal-agent", "gw01.toml", "gw01.log").unwrap();
    }
    let journal = writing.end();
    journal.wait_shown();
    let shown = journal.shown();
    wait_for("all entries in the ledger", || (entries(&site).len() >= shown.len()).then_some(()));
    agent.stop(LIMIT).unwrap();
    let found = entries(&site);
    let mut count: HashMap<&str, usize> = HashMap::new();
    for entry in &found {
        *count.entry(entry["__CURSOR"].as_str().unwrap()).or_default() += 1;
    }
    let lost =
        shown.iter().filter(|e| !count.contains_key(e["__CURSOR"].as_str().unwrap())).count();
    let twice = count.values().filter(|count| **count > 1).count();
    println!("{KILLS} kills, {} entries: {lost} lost, {twice} twice", shown.len());
    assert_eq!((lost, twice), (0, 0), "{}", agent.log_tail());
    assert!(found == shown, "in order, and as the journal has them");
    assert!(!agent.log_text().contains("not in the journal any more"), "{}", agent.log_tail());
}

#[test]
fn an_entry_says_itself_when_where_and_who_and_only_what_was_asked_for_is_read() {
    let (_dir, site, _ledger, mut journal) = ready();
    configure(
        &site,
        &source(&journal, "units = [\"b.service\"]\nmatches = [\"_HOSTNAME=web07\"]\n"),
    );
    journal.write("a.service");
    journal.write("b.service");
    let _agent = site.start_agent("gw01").unwrap();
    let record = wait_for("the entry", || records(&site).1.pop());
    assert_eq!(header(&record), "<84>1 2026-11-21T08:02:27.000Z web07 app 1 - ");
    let param = |name: &str| {
        let entry = Entry::parse(&record.entry).unwrap();
        entry.element().param(name).map(|value| value.into_owned())
    };
    assert_eq!((param("transport"), param("peer")), (Some("journald".into()), None));
    journal.write("a.service");
    journal.write("b.service");
    wait_for("the next one", || (records(&site).1.len() == 2).then_some(()));
    let found = entries(&site);
    assert_eq!(found[0]["MESSAGE"], "number 1 \"中文\" \\");
    assert_eq!(found[1]["_PID"], "3");
}

#[test]
fn a_journal_that_is_to_be_read_from_its_end_is_read_from_where_that_was_at_first() {
    let (_dir, site, _ledger, mut journal) = ready();
    configure(&site, &source(&journal, "start = \"end\"\n"));
    journal.write("a.service");
    journal.wait_shown();
    let mut agent = site.start_agent("gw01").unwrap();
    wait_for("the agent to follow", || {
        let children = format!("/proc/{0}/task/{0}/children", agent.pid());
        let child = fs::read_to_string(children).ok()?.trim().to_owned();
        let called = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
        called.contains("--follow").then_some(())
    });
    agent.stop(LIMIT).unwrap();
    journal.write("a.service");
    journal.wait_shown();
    let _agent = site.start_agent("gw01").unwrap();
    wait_for("what came meanwhile", || (records(&site).1.len() == 1).then_some(()));
    assert_eq!(entries(&site)[0]["_PID"], "1");
}

#[test]
fn a_journal_that_was_vacuumed_is_said_to_have_a_gap() {
    let (_dir, site, _ledger, mut journal) = ready();
    configure(&site, &source(&journal, ""));
    journal.write("a.service");
    let mut agent = site.start_agent("gw01").unwrap();
    wait_for("the entry", || records(&site).1.pop());
    agent.stop(LIMIT).unwrap();
    drop(journal);
    fs::remove_dir_all(site.path("journal")).unwrap();
    let mut journal = Journal::new(&site);
    journal.write("a.service");
    journal.write("a.service");
    let agent = site.start_agent("gw01").unwrap();
    wait_for("what there is now", || (records(&site).1.len() == 3).then_some(()));
    assert!(agent.log_text().contains("not in the journal any more"), "{}", agent.log_tail());
}
