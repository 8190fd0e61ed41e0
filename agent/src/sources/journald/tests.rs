//! Following a journal through a stand-in for `journalctl` that ends when it is told to; the real
//! one is in the end-to-end tests.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use pipeline::line::SourceId;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::*;
use crate::{
    sources::{Phase, SourceStats},
    tickets::Tickets,
};

/// What takes longer than this will not happen.
const BOUND: Duration = Duration::from_secs(30);

fn config(dir: &Path, script: &str) -> JournaldConfig {
    let journalctl = dir.join("journalctl");
    fs::write(&journalctl, format!("#!/bin/sh\ncd {}\n{script}\n", dir.display())).unwrap();
    fs::set_permissions(&journalctl, fs::Permissions::from_mode(0o755)).unwrap();
    let (units, matches) = (vec!["a.service".into()], vec!["_UID=33".into()]);
    JournaldConfig {
        journalctl,
        units,
        identifiers: vec![],
        matches,
        priority: None,
        directory: Some("/j".into()),
        namespace: None,
        start: Start::Beginning,
    }
}

#[tokio::test]
async fn it_goes_on_behind_the_last_entry_when_journalctl_dies() {
    let dir = tempfile::tempdir().unwrap();
    // It writes all entries from the cursor on, and half of another, and dies.
    let script = r#"
        echo "$@" >> calls
        from=$(echo "$@" | sed -n 's/.*--cursor=c\([0-9]*\).*/\1/p')
        for n in 0 1 2; do
            n=$((${from:-0} + n))
            echo "{\"MESSAGE\":\"$n\",\"__CURSOR\":\"c$n\"}"
        done
        printf '{"MESSAGE":"half'
        echo "it broke" >&2
        exit 3"#;
    let (events, mut rx) = mpsc::channel(8);
    let (stop, shutdown) = watch::channel(Phase::Run);
    let (stats, tickets) = (Arc::new(SourceStats::default()), Tickets::default());
    let outlet = Outlet { id: SourceId(2), events, shutdown, stats: Arc::clone(&stats), tickets };
    let serving = tokio::spawn(serve(config(dir.path(), script), Known::default(), outlet));
    let (mut lines, mut marks) = (Vec::new(), Vec::new());
    while lines.len() < 7 {
        let event = timeout(BOUND, rx.recv()).await.unwrap().unwrap();
        let SourceEvent::Chunk(chunk) = event else { panic!("{event:?}") };
        let bookmark = chunk.bookmark.as_ref().unwrap();
        marks.extend((0..chunk.lines.len()).map(|index| bookmark.of_line(index).to_vec()));
        lines.extend(chunk.iter().map(|line| String::from_utf8_lossy(line).into_owned()));
    }
    stop.send_replace(Phase::Stop);
    let known = timeout(BOUND, serving).await.unwrap().unwrap();
    for (number, (line, mark)) in lines.iter().zip(&marks).enumerate() {
        assert_eq!(*line, format!(r#"{{"MESSAGE":"{number}","__CURSOR":"c{number}"}}"#));
        assert_eq!(*mark, format!("c{number}").into_bytes());
    }
    let (key, value) = &known.bookmarks[0];
    assert_eq!((&key[..], value), (CURSOR, marks.last().unwrap()));
    let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
    let first = "--output=json --all --merge --no-pager --unit=a.service --directory=/j _UID=33 --follow --no-tail";
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls[..2], [first, &format!("{first} --cursor=c2")]);
    assert_eq!(stats.gaps.load(std::sync::atomic::Ordering::Relaxed), 0);
    assert!(stats.read_errors.load(std::sync::atomic::Ordering::Relaxed) >= 2);
}
