//! The spool of the worked examples in `docs/formats.md`: its first state, and the record of the
//! batch that the crate `record` pins.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

#[path = "../../record/tests/support/fixture.rs"]
mod fixture;

use fixture::Fixtures;
use journal::Seq;
use logseal_agent::spool::{Decoded, Owner, SourceNames, Spool, SpoolOptions, decode};
use pipeline::{
    Outgoing, PositionChange,
    line::{FileId, FilePosition, Fingerprint, SourceId},
};
use record::{
    UnixMillis,
    batch::{Codec, LogState, Sealed, SealedBatch},
    enrolment::Enrolment,
    merkle::Frontier,
};

const RECEIVED: UnixMillis = UnixMillis(1_795_255_347_180);
const SEALED: UnixMillis = UnixMillis(1_795_255_347_230);

fn owner() -> Owner {
    let pinned = Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), "../record");
    Owner {
        agent: "gw01".parse().unwrap(),
        ledger: "ledger.city.example/access".parse().unwrap(),
        key: Enrolment::decode(&pinned.read_hex("enrolment.hex")).unwrap().key,
    }
}

/// The batch, and that its first line took the file over up to the end of that line.
fn outgoing(pinned: &Fixtures) -> Outgoing {
    let batch = SealedBatch::decode(&pinned.read_hex("batch.hex")).unwrap();
    let log = LogState {
        key: owner().key,
        frontier: Frontier::default(),
        sealed: record::UnixSeconds(0),
    };
    let verified =
        batch.clone().open(&owner().ledger, &log, &mut Codec::default(), &mut vec![]).unwrap();
    let sealed =
        Sealed { batch, leaves: verified.leaves().to_vec(), after: verified.after().clone() };
    let line = pinned.read("line-kong");
    let fingerprint = Fingerprint::of(&[&line[..], b"\n"].concat());
    let file = FileId { device: 2049, inode: 262_401, fingerprint };
    let position = FilePosition { file, offset: line.len() as u64 + 1 };
    Outgoing::new(sealed, vec![PositionChange::Reached(SourceId(0), position)])
}

#[test]
fn a_spool_of_today_is_read_in_ten_years() {
    let pinned = Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), "../record");
    let dir = tempfile::tempdir().unwrap();
    let sources = SourceNames::new(["kong", "syslog"]);
    let open =
        || Spool::open(dir.path(), SpoolOptions::default(), owner(), sources.clone()).unwrap();
    let mut spool = open();
    spool.establish().unwrap();
    spool.append(&outgoing(&pinned), Some(RECEIVED), SEALED).unwrap();
    spool.close().unwrap();

    // The state that closing wrote, and the one behind it that opening wrote, say the same.
    let spool = open();
    let read = |seq| spool.reader().read(Seq(seq)).unwrap();
    assert_eq!(read(2), read(3));
    pinned.pin_hex("spool-batch.hex", &read(1));
    pinned.pin_hex("spool-state.hex", &read(2));

    let kept = pinned.read_hex("spool-batch.hex");
    let Decoded::Batch(batch) = decode(&kept).unwrap() else { panic!("a batch") };
    assert_eq!(batch.encoded, pinned.read_hex("batch.hex"));
    let kept = pinned.read_hex("spool-state.hex");
    let Decoded::State(state) = decode(&kept).unwrap() else { panic!("a state") };
    assert_eq!((state.frontier.size().0, state.positions.len()), (3, 1));
}
