//! Tailed files: every byte is kept, whatever is in the line and whatever happens to the file.

use logseal_tests::{LIMIT, Running, file_source, kong_source};
use std::{fs::File, io::Write};

fn plain() -> Running {
    Running::start(|site| file_source("plain", &site.path("plain.log"), "raw"))
}

#[test]
fn lines_of_every_kind_are_kept_byte_for_byte() {
    let running = plain();
    let lines: Vec<Vec<u8>> = vec![
        b"plain".to_vec(),
        b"".to_vec(),
        b"NUL \x00, control \x01\x1b[31m, DEL \x7f".to_vec(),
        b"\xef\xbb\xbfBOM and \xff\xfe invalid".to_vec(),
        b"carriage return\r".to_vec(),
        b"  blanks and tabs \t ".to_vec(),
        (0..70u32 << 10).map(|i| (i % 255) as u8).filter(|b| *b != b'\n').collect(),
        (0..1u32 << 20).map(|i| (i * 7 % 256) as u8).filter(|b| *b != b'\n').collect(),
        "戶籍查詢".into(),
    ];
    let mut file = File::create(running.site.path("plain.log")).unwrap();
    for line in &lines {
        file.write_all(line).unwrap();
        file.write_all(b"\n").unwrap();
    }
    let found = logseal_tests::wait_for("all lines", || {
        Some(running.lines("plain"))
            .filter(|found| found.len() == lines.len() && found.last() == lines.last())
    });
    assert!(found == lines);
    assert!(running.records().iter().filter(|r| r.part.is_some()).count() > 16);
}

#[test]
fn rotation_and_restarts_lose_and_repeat_nothing() {
    let mut running = Running::start(kong_source);
    let (log, old) = (running.site.path("kong.log"), running.site.path("kong.log.1"));
    let mut corpus = logseal::site::corpus::Corpus::new(3, 1_795_248_147_000);
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut write = |file: &mut File, count: usize| {
        for _ in 0..count {
            let line = corpus.line("f");
            writeln!(file, "{line}").unwrap();
            all.push(line.into_bytes());
        }
    };
    let mut file = File::create(&log).unwrap();
    write(&mut file, 100);
    running.wait_receipted(100);
    // Renamed while it is read and written on, then begun anew.
    std::fs::rename(&log, &old).unwrap();
    write(&mut file, 50);
    let mut file = File::create(&log).unwrap();
    write(&mut file, 50);
    running.wait_receipted(200);
    // Rotated while the agent is down.
    running.agent.stop(LIMIT).unwrap();
    write(&mut file, 30);
    std::fs::rename(&log, &old).unwrap();
    let mut file = File::create(&log).unwrap();
    write(&mut file, 20);
    running.agent = running.site.start_agent("gw01").unwrap();
    running.wait_receipted(50);
    // Killed, and written to meanwhile.
    running.agent.kill().unwrap();
    write(&mut file, 40);
    running.agent = running.site.start_agent("gw01").unwrap();
    running.wait_records(290);
    let mut found = running.lines("kong");
    found.sort();
    all.sort();
    assert!(found == all, "{} lines in the ledger, {} written", found.len(), all.len());
}
