//! Reading pipes.

use std::{io::Write, os::fd::OwnedFd, sync::Arc, time::Duration};

use pipeline::line::{SourceEvent, SourceId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    sources::{Phase, SourceStats},
    tickets::Tickets,
};

/// What takes longer than this will not happen.
const BOUND: Duration = Duration::from_secs(30);

struct Bench {
    events: mpsc::Receiver<SourceEvent>,
    stop: watch::Sender<Phase>,
    tickets: Tickets,
    ended: JoinHandle<End>,
}

impl Bench {
    fn new(input: OwnedFd) -> Self {
        let (sender, events) = mpsc::channel(2);
        let (stop, shutdown) = watch::channel(Phase::Run);
        let (stats, tickets) = (Arc::new(SourceStats::default()), Tickets::default());
        let outlet =
            Outlet { id: SourceId(1), events: sender, shutdown, stats, tickets: tickets.clone() };
        let ended = start_on(input, StdinConfig { max_line: 1 << 20 }, outlet).unwrap();
        Bench { events, stop, tickets, ended: tokio::spawn(ended) }
    }

    /// All lines up to the end; somebody who waits for them is told.
    async fn rest(&mut self) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while let Some(event) = timeout(BOUND, self.events.recv()).await.unwrap() {
            match event {
                SourceEvent::Chunk(chunk) => lines.extend(chunk.iter().map(<[u8]>::to_vec)),
                SourceEvent::Flush { ticket, .. } => self.tickets.settle(&[ticket]),
                other => panic!("{other:?}"),
            }
        }
        lines
    }
}

#[tokio::test]
async fn all_lines_up_to_the_end_of_the_input_are_there() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut bench = Bench::new(reader.into());
    let long = vec![b'x'; (1 << 20) + 5];
    let writing = thread::spawn(move || {
        for part in [&b"one\n\nt"[..], b"wo\r\n\xff\0\n", &long, b"\nno end"] {
            writer.write_all(part).unwrap();
        }
        long
    });
    let lines = bench.rest().await;
    assert_eq!(timeout(BOUND, bench.ended).await.unwrap().unwrap(), End::Input);
    let long = writing.join().unwrap();
    assert_eq!(lines[..4], [&b"one"[..], b"", b"two\r", b"\xff\0"]);
    assert_eq!(lines[4..6].concat(), long);
    assert_eq!(lines[6..], [b"no end"]);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_input_and_loses_nothing_of_it() {
    let (reader, mut writer) = io::pipe().unwrap();
    let mut bench = Bench::new(reader.into());
    writer.write_all(b"one\nhalf a li").unwrap();
    let first = timeout(BOUND, bench.events.recv()).await.unwrap().unwrap();
    assert!(matches!(first, SourceEvent::Chunk(chunk) if chunk.lines.len() == 1));
    bench.stop.send_replace(Phase::Stop);
    assert_eq!(bench.rest().await, [b"half a li"]);
    assert_eq!(timeout(BOUND, bench.ended).await.unwrap().unwrap(), End::Asked);
    drop(writer);
}
