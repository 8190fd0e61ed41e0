//! What a crash leaves of each durable write: nothing, or all of it although nobody was told.

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path};

use journal::Seq;
use logseal_agent::{
    metrics::{HELD_BY_LIMIT, Metrics, ReasonLabel},
    spool::{Decoded, Inbox, Owner, SourceNames, Spool, SpoolError, decode},
};
use pipeline::{
    Outgoing, PositionChange,
    line::{FilePosition, SourceId},
};
use record::{TreeSize, UnixMillis, UnixSeconds, crypto::PublicKey};

use crate::support::*;

fn append(spool: &mut Spool, sealer: &mut Sealer, records: u64) {
    spool.append(&sealer.seal(records), Some(UnixMillis(7)), UnixMillis(8)).unwrap();
    spool.sync().unwrap();
}

/// The numbers and encodings of all batches from a record on.
fn batches(spool: &Spool, from: Seq) -> Vec<(Seq, Vec<u8>)> {
    let records = spool.reader().iter(from).map(Result::unwrap).collect::<Vec<_>>();
    records
        .iter()
        .filter_map(|(seq, bytes)| match decode(bytes).unwrap() {
            Decoded::Batch(batch) => Some((*seq, batch.encoded.to_vec())),
            _ => None,
        })
        .collect()
}

fn files(spool: &Spool, source: &str) -> Vec<FilePosition> {
    spool.known().remove(source).unwrap_or_default().files
}

fn offset(spool: &Spool) -> Option<u64> {
    files(spool, "kong").first().map(|position| position.offset)
}

#[test]
fn a_first_state_that_was_lost_leaves_a_log_that_has_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path()).unwrap();
    let lost = snapshot(dir.path());
    drop(spool);
    assert!(!open(lost.path()).unwrap().is_established());
}

#[test]
fn a_first_state_that_was_kept_is_the_beginning_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let spool = established(dir.path());
    let kept = snapshot(dir.path());
    drop(spool);
    let spool = open(kept.path()).unwrap();
    assert!(spool.is_established());
    assert_eq!((spool.log().frontier.size(), spool.backlog().end), (TreeSize(0), TreeSize(0)));
}

#[test]
fn a_batch_that_was_lost_is_lost_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    append(&mut spool, &mut sealer, 3);
    let lost = snapshot(dir.path());
    append(&mut spool, &mut sealer, 4);
    drop(spool);
    let spool = open(lost.path()).unwrap();
    assert_eq!((spool.log().frontier.size(), offset(&spool)), (TreeSize(3), Some(3)));
}

#[test]
fn a_batch_that_was_kept_is_sent_bit_for_bit_although_nobody_knew_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    append(&mut spool, &mut sealer, 3);
    let sealed = sealer.seal(4);
    spool.append(&sealed, None, UnixMillis(8)).unwrap();
    spool.sync().unwrap();
    let kept = snapshot(dir.path());
    drop(spool);
    let spool = open(kept.path()).unwrap();
    assert_eq!((spool.log().frontier, offset(&spool)), (sealed.sealed.after.clone(), Some(7)));
    assert_eq!(spool.log().sealed, sealed.sealed.batch.seal.time);
    let backlog = spool.backlog();
    assert_eq!((backlog.base, backlog.end), (TreeSize(0), TreeSize(7)));
    let found = batches(&spool, backlog.from);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].1, sealed.sealed.batch.encode());
}

#[test]
fn an_append_that_was_never_synced_is_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    spool.append(&sealer.seal(3), None, UnixMillis(8)).unwrap();
    let lost = snapshot(dir.path());
    assert_eq!(batches(&spool, Seq(0)).len(), 0, "what is not durable cannot be read, so not sent");
    drop(spool);
    assert_eq!(open(lost.path()).unwrap().log().frontier.size(), TreeSize(0));
}

#[test]
fn a_state_at_a_start_that_was_lost_or_kept_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    append(&mut spool, &mut sealer, 3);
    append(&mut spool, &mut sealer, 2);
    let lost = snapshot(dir.path());
    drop(spool);
    let kept = snapshot(open(lost.path()).unwrap().dir());
    for dir in [lost.path(), kept.path()] {
        let spool = open(dir).unwrap();
        assert_eq!((spool.log().frontier.size(), offset(&spool)), (TreeSize(5), Some(5)));
        assert_eq!(spool.backlog().base, TreeSize(0), "nothing has a receipt");
        assert_eq!(batches(&spool, spool.backlog().from).len(), 2);
    }
}

#[test]
fn releasing_never_costs_the_newest_state_and_resends_nothing_after_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    let mut largest = 0;
    for _ in 0..100 {
        append(&mut spool, &mut sealer, 20);
        largest = largest.max(spool.bytes());
        let durable = spool.durable().seq;
        spool.release(durable).unwrap();
        // A crash at any time finds the whole log.
        let crashed = snapshot(dir.path());
        let found = open(crashed.path()).unwrap();
        assert_eq!(found.log().frontier, spool.log().frontier);
        assert_eq!(offset(&found), offset(&spool));
    }
    assert!(largest < 40 << 10, "{largest} bytes stay in use");
    assert!(spool.reader().first_seq() > Seq(50), "segments were given up");
    spool.close().unwrap();
    let spool = open(dir.path()).unwrap();
    let backlog = spool.backlog();
    assert_eq!((backlog.base, backlog.end), (TreeSize(2000), TreeSize(2000)));
    assert_eq!(backlog.root, Some(spool.log().frontier.root()));
    assert!(batches(&spool, backlog.from).is_empty());
}

#[test]
fn after_a_crash_batches_are_resent_from_the_last_known_receipt_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    for _ in 0..40 {
        append(&mut spool, &mut sealer, 20);
    }
    let all = batches(&spool, Seq(0));
    spool.release(all[10].0).unwrap();
    let crashed = snapshot(dir.path());
    drop(spool);
    let spool = open(crashed.path()).unwrap();
    let resent = batches(&spool, spool.backlog().from);
    assert!(resent.len() >= 30 && all.ends_with(&resent), "{} batches", resent.len());
}

#[test]
fn positions_follow_files_that_are_renamed_and_forget_those_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    append(&mut spool, &mut sealer, 3);
    let mut outgoing = sealer.seal(0);
    let other = FilePosition { file: file(9), offset: 44 };
    outgoing.positions = vec![
        PositionChange::Renamed(SourceId(0), file(7), file(8)),
        PositionChange::Reached(SourceId(1), other),
        PositionChange::Gone(SourceId(1), file(10)),
    ];
    spool.append(&outgoing, None, UnixMillis(8)).unwrap();
    spool.close().unwrap();
    // The sources change places, and a third one is between them: names count.
    let names = SourceNames::new(["syslog", "new", "kong"]);
    let spool = Spool::open(dir.path(), options(), owner(), names).unwrap();
    assert_eq!(files(&spool, "kong"), [FilePosition { file: file(8), offset: 3 }]);
    assert_eq!(files(&spool, "syslog"), [other]);
    assert_eq!(files(&spool, "new"), []);
}

#[test]
fn positions_that_come_within_the_second_of_a_seal_cost_no_seal_that_the_ledger_would_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    append(&mut spool, &mut sealer, 3);
    let before = spool.log();
    let mut outgoing = sealer.seal(0);
    outgoing.sealed.batch.seal.time = before.sealed;
    spool.append(&outgoing, None, UnixMillis(8)).unwrap();
    let silent = Outgoing { positions: vec![], ..outgoing.clone() };
    let position = FilePosition { file: file(9), offset: 44 };
    outgoing.positions = vec![PositionChange::Reached(SourceId(1), position)];
    spool.append(&outgoing, None, UnixMillis(8)).unwrap();
    let next = spool.sync().unwrap().seq;
    spool.append(&silent, None, UnixMillis(8)).unwrap();
    assert_eq!(spool.sync().unwrap().seq, next, "nothing to say, nothing written");
    let crashed = snapshot(dir.path());
    drop(spool);
    let spool = open(crashed.path()).unwrap();
    assert_eq!(files(&spool, "syslog"), [position]);
    assert_eq!(spool.log().frontier, before.frontier);
    assert_eq!(batches(&spool, spool.backlog().from).len(), 1);
}

#[test]
fn a_spool_of_somebody_else_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(established(dir.path()));
    let refused = |owner: Owner| {
        let error = Spool::open(dir.path(), options(), owner, SourceNames::default()).unwrap_err();
        assert!(matches!(error, SpoolError::Foreign { .. }), "{error}");
        error.to_string()
    };
    let other = refused(Owner { agent: "gw02".parse().unwrap(), ..owner() });
    assert!(other.contains("'gw01'") && other.contains("'gw02'"), "{other}");
    let other = refused(Owner { ledger: "other/x".parse().unwrap(), ..owner() });
    assert!(other.contains("'other/x'"), "{other}");
    let other = refused(Owner { key: PublicKey([9; 32]), ..owner() });
    assert!(other.contains("the key 'ledger.example/x/agent/gw01+"), "{other}");
}

#[test]
fn damage_stops_the_agent_only_where_it_can_cost_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    for _ in 0..3 {
        append(&mut spool, &mut sealer, 20);
    }
    let waiting = snapshot(dir.path());
    let durable = spool.durable().seq;
    spool.release(durable).unwrap();
    spool.close().unwrap();
    // The second batch is hit, well inside: what follows it proves that it had been durable.
    for dir in [waiting.path(), dir.path()] {
        flip_in_second_batch(dir);
    }
    let error = open(waiting.path()).unwrap_err();
    assert!(matches!(error, SpoolError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore the directory from a backup"), "{error}");
    let spool = open(dir.path()).unwrap();
    assert_eq!(spool.log().frontier.size(), TreeSize(60), "all of them have receipts");
}

fn flip_in_second_batch(dir: &Path) {
    let (reader, _) = journal::open_read_only(dir).unwrap();
    let victim = reader.read(Seq(2)).unwrap();
    let segment = dir.join("00000000000000000000.seg");
    let bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(victim.len()).position(|window| window == victim).unwrap();
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[!victim[40]], at as u64 + 40).unwrap();
}

#[tokio::test]
async fn a_spool_at_its_limit_holds_back_drops_nothing_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    let metrics = Metrics::default();
    let (spooling, feed) = spooling(spool, 16 << 10, &metrics);
    let held = || metrics.held_back.get_or_create(&ReasonLabel { reason: HELD_BY_LIMIT }).get();
    // More than the limit and the queue hold, so this thread has to wait.
    let inbox = std::sync::Arc::clone(&spooling.inbox);
    let sealing = std::thread::spawn(move || {
        for _ in 0..200 {
            inbox.put(item(sealer.seal(20))).unwrap();
        }
    });
    until("the spool holds back", || held() == 1).await;
    assert!(!sealing.is_finished());
    let mut released = 0;
    until("everything is through", || {
        let durable = feed.durable.borrow().seq;
        feed.inbox.release(durable);
        released += 1;
        sealing.is_finished()
    })
    .await;
    sealing.join().unwrap();
    let mut durable = feed.durable.clone();
    let all = durable.wait_for(|durable| durable.size == TreeSize(4000));
    tokio::time::timeout(LIMIT, all).await.unwrap().unwrap();
    assert!(released > 1 && metrics.held_back_seconds.get() > 0.0);
    feed.inbox.release(durable.borrow().seq);
    until("the spool takes batches again", || held() == 0).await;
    spooling.stop();
    assert_eq!(open(dir.path()).unwrap().log().frontier.size(), TreeSize(4000));
}

#[tokio::test]
async fn a_stop_takes_what_is_sealed_even_above_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    let (spooling, _feed) = spooling(spool, 1, &Metrics::default());
    for _ in 0..4 {
        spooling.put(sealer.seal(5));
    }
    spooling.stop();
    assert_eq!(open(dir.path()).unwrap().log().frontier.size(), TreeSize(20));
}

#[test]
fn nobody_waits_for_a_writer_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    let (spooling, feed) = spooling(spool, u64::MAX, &Metrics::default());
    let inbox: std::sync::Arc<Inbox> = std::sync::Arc::clone(&spooling.inbox);
    spooling.stop();
    assert!(inbox.put(item(sealer.seal(1))).is_err());
    assert!(feed.durable.has_changed().is_err());
}

#[test]
fn the_time_of_the_newest_seal_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    assert_eq!(spool.log().sealed, UnixSeconds(0));
    let mut sealer = Sealer::new(spool.log().frontier);
    append(&mut spool, &mut sealer, 1);
    let sealed = spool.log().sealed;
    assert!(sealed > UnixSeconds(0));
    drop(spool);
    assert_eq!(open(dir.path()).unwrap().log().sealed, sealed, "seals never run backwards");
}

#[test]
fn no_bit_that_flips_in_a_spool_costs_a_record_in_silence() {
    const FLIPS: u64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let mut spool = established(dir.path());
    let mut sealer = Sealer::new(spool.log().frontier);
    for _ in 0..8 {
        append(&mut spool, &mut sealer, 20);
    }
    let all = batches(&spool, Seq(0));
    spool.close().unwrap();
    let (mut dice, mut whole, mut named) = (0x2026_u64, 0, 0);
    for _ in 0..FLIPS {
        let hurt = snapshot(dir.path());
        let segment = hurt.path().join("00000000000000000000.seg");
        let mut bytes = std::fs::read(&segment).unwrap();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (dice >> 20) as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&segment, bytes).unwrap();
        match open(hurt.path()) {
            Ok(spool) => {
                assert_eq!(batches(&spool, Seq(0)), all, "bit {bit} was lost in silence");
                whole += 1;
            }
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains(&hurt.path().display().to_string()), "bit {bit}: {said}");
                assert!(
                    said.contains("restore") || said.contains("use the newer program"),
                    "bit {bit}: {said}"
                );
                named += 1;
            }
        }
    }
    println!(
        "{FLIPS} bits flipped in a spool, one at a time: {whole} cost nothing, {named} were named"
    );
    assert!(named > FLIPS / 2, "most of a spool is records");
}
