use super::*;
use crate::{
    NodeName,
    block::Height,
    crypto::SigningKey,
    declaration::Prune,
    entry::{Built, Enterprise, Header, LogElement},
    merkle::EntryIndex,
    note::{NoteSigner, SignatureType, SignedNote},
    seal::Seal,
};
use zeroize::Zeroizing;

const E: Enterprise = Enterprise(32_473);

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([4; 32]))
}

/// A ledger that is written by hand, so that anything can be wrong with it.
#[derive(Clone, Default)]
struct Ledger {
    entries: Vec<Vec<u8>>,
    log: Frontier,
    height: u64,
    first: u64,
}

fn origin() -> Origin {
    "l.example/x".parse().unwrap()
}

fn gw01() -> AgentName {
    "gw01".parse().unwrap()
}

fn enrolment(signature: u8) -> Enrolment {
    let (agent, key, time) = (gw01(), key().public(), UnixSeconds(5));
    Enrolment { agent, key, time, certificate: vec![1], signature: vec![signature] }
}

fn record(n: u64) -> Vec<u8> {
    let agent = gw01();
    let element = LogElement {
        enterprise: E,
        agent: &agent,
        n: EntryIndex(n),
        source: "s",
        received: UnixMillis(1),
        peer: None,
        transport: None,
        part: None,
    };
    let mut out = Vec::new();
    let header =
        Header { priority: 110, time: None, host: b"h", app: b"a", procid: b"", msgid: b"" };
    assert_eq!(element.wrap(&mut out, &header, &[], b"line"), Built::Whole);
    out
}

impl Ledger {
    fn enrol(&mut self) {
        self.entries.push(enrolment(7).entry(&origin(), E));
    }

    fn record(&mut self, n: u64) {
        self.entries.push(record(n));
        self.log.push(leaf_hash(&record(n)));
    }

    fn seal(&mut self, start: u64, time: u64) {
        let at = (self.log.size(), self.log.root());
        let seal = Seal::sign(&key(), &origin(), &gw01(), at, UnixSeconds(time));
        self.entries.push(SealEntry { agent: gw01(), start: EntryIndex(start), seal }.encode(E));
    }

    /// Gives up the first `size` entries, which are from the first millisecond.
    fn prune(&mut self, size: u64, days: u32) {
        let mut frontier = Frontier::default();
        (0..size).for_each(|n| frontier.push(leaf_hash(&n.to_be_bytes())));
        let prune = Prune {
            from: EntryIndex(0),
            height: Height(1),
            block: Hash([1; 32]),
            before: UnixMillis(1),
            days,
            frontier,
            base: Hash([2; 32]),
        };
        let (certificate, signature) = (vec![1], vec![7]);
        let (matter, time) = (Matter::Prune(prune), UnixSeconds(9));
        self.entries.push(Declaration { matter, time, certificate, signature }.entry(E));
    }

    fn block(&mut self) {
        self.block_at(1000 * (self.height + 1));
    }

    fn block_at(&mut self, time: u64) {
        self.height += 1;
        let proposer: NodeName = "node1".parse().unwrap();
        let (height, first) = (Height(self.height), EntryIndex(self.first));
        let time = UnixMillis(time);
        self.entries.push(BlockEntry { height, time, proposer, first }.encode(E));
        self.first = self.entries.len() as u64;
    }

    fn honest() -> Self {
        let mut ledger = Ledger::default();
        ledger.enrol();
        ledger.block();
        (0..3).for_each(|n| ledger.record(n));
        ledger.seal(0, 10);
        ledger.seal(3, 11);
        ledger.record(3);
        ledger.seal(3, 11);
        ledger.block();
        ledger.block();
        ledger
    }

    fn follow(&self) -> (Follower, Vec<(Flaw, u64)>) {
        let vouch = |_: &[u8], _: &[u8], signature: &[u8]| signature == [7];
        let (mut follower, mut found) = (Follower::new(origin()), vec![]);
        for entry in &self.entries {
            follower.push(entry, &vouch, &mut found);
            let state = History { follower, seen: vec![], notes: vec![] };
            let again = History::decode(&state.encode()).unwrap();
            assert_eq!(again, state, "it can be left and taken up at every entry");
            follower = again.follower;
        }
        (follower, found.into_iter().map(|finding| (finding.flaw, finding.index)).collect())
    }

    fn found(&self) -> Vec<(Flaw, u64)> {
        self.follow().1
    }
}

#[test]
fn an_honest_ledger_is_followed_without_a_word() {
    let (follower, found) = Ledger::honest().follow();
    assert_eq!(found, []);
    assert_eq!((follower.height(), follower.records(), follower.agents()), (3, 4, 1));
    assert_eq!(follower.size().0, 11);
}

#[test]
fn whatever_is_left_out_changed_or_moved_is_noticed() {
    let honest = Ledger::honest();
    for at in 0..honest.entries.len() - 1 {
        let mut cut = honest.clone();
        cut.entries.remove(at);
        // A heartbeat that is missing is missed by nobody but the block's own numbers.
        assert_ne!(cut.found(), [], "without entry {at}");
        let mut swapped = honest.clone();
        swapped.entries.swap(at, at + 1);
        assert_ne!(swapped.found(), [], "entries {at} and {} changed places", at + 1);
        let mut twice = honest.clone();
        twice.entries.insert(at, honest.entries[at].clone());
        assert_ne!(twice.found(), [], "entry {at} twice");
        let mut altered = honest.clone();
        let text = String::from_utf8(altered.entries[at].clone()).unwrap();
        altered.entries[at] = text.replacen("\"]", "\"] ", 1).replace("line", "lime").into_bytes();
        let is_record = text.contains("[log@");
        assert!(!is_record || !altered.found().is_empty(), "record at {at} altered");
    }
}

#[test]
fn each_fault_has_its_word_and_place() {
    let mut forged = Ledger::honest();
    forged.entries[0] = enrolment(8).entry(&origin(), E);
    assert_eq!(forged.found(), [(Flaw::BadEntry, 0)], "no operator signed");

    let mut gap = Ledger::default();
    gap.enrol();
    gap.record(0);
    gap.record(2);
    gap.seal(0, 3);
    assert_eq!(gap.found(), [(Flaw::Gap, 2), (Flaw::BadSeal, 3)]);

    let mut unsealed = Ledger::default();
    unsealed.enrol();
    unsealed.record(0);
    unsealed.block();
    assert_eq!(unsealed.found(), [(Flaw::BadSeal, 2)]);

    let mut older = Ledger::honest();
    older.seal(4, 9);
    assert_eq!(older.found(), [(Flaw::BadSeal, 11)]);

    let mut jump = Ledger::honest();
    jump.height += 1;
    jump.block();
    assert_eq!(jump.found(), [(Flaw::Gap, 11)]);

    let mut stranger = Ledger::default();
    stranger.record(0);
    stranger.seal(0, 1);
    assert_eq!(stranger.found(), [(Flaw::BadEntry, 0), (Flaw::BadSeal, 1)]);

    let mut noise = Ledger::honest();
    noise.entries.push(b"noise".to_vec());
    assert_eq!(noise.found(), [(Flaw::BadEntry, 11), (Flaw::BadEntry, 11)]);
}

#[test]
fn a_state_survives_its_bytes_and_damage_is_noticed() {
    let (follower, _) = Ledger::honest().follow();
    let mut history = History { follower, seen: vec![], notes: vec![] };
    let signer = NoteSigner::new(
        "l.example/x".parse().unwrap(),
        SignatureType::Ed25519,
        &Zeroizing::new([1; 32]),
    );
    for size in 0..200u64 {
        let text = format!("l.example/x\n{size}\n{}\n", Hash::default());
        let mut note = SignedNote::new(text.clone());
        note.put(signer.sign(&text, UnixSeconds(0)));
        history.keep(&note);
        history.note_seen("node1:7580", &note);
    }
    assert!(history.notes.len() <= MAX_NOTES && history.seen.len() == 1);
    assert!(history.notes[0].text().contains("\n0\n"), "the oldest is kept");
    assert!(history.notes.last().unwrap().text().contains("\n199\n"));
    let bytes = history.encode();
    assert_eq!(History::decode(&bytes).unwrap(), history);
    for at in (0..bytes.len()).step_by(7) {
        assert!(History::decode(&bytes[..at]).is_err());
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(History::decode(&bad).is_err());
    }
}

#[test]
fn entries_given_up_before_their_time_are_seen() {
    let year = 365 * 86_400_000;
    for (days, time, expected) in [
        (365, year + 1, vec![]),
        (365, year, vec![(Flaw::EarlyPrune, 12)]),
        (400, year + 1, vec![(Flaw::EarlyPrune, 12)]),
        (364, year + 1, vec![(Flaw::EarlyPrune, 11)]),
    ] {
        let mut ledger = Ledger::honest();
        ledger.prune(2, days);
        ledger.block_at(time);
        let (follower, found) = ledger.follow();
        assert_eq!(found, expected, "{days} days at {time}");
        assert_eq!(follower.dropped(), TreeSize(2));
    }
    let mut ledger = Ledger::honest();
    ledger.prune(40, 365);
    ledger.block_at(year + 1);
    assert_eq!(ledger.found(), [(Flaw::BadEntry, 11)], "more than there is");
}

/// The ledger that gives up its first block, and where it stood behind that.
fn pruned() -> (Ledger, Standing) {
    let mut ledger = Ledger::honest();
    ledger.prune(2, 365);
    ledger.block_at(365 * 86_400_000 + 1);
    let mut frontier = Frontier::default();
    ledger.entries[..2].iter().for_each(|entry| frontier.push(leaf_hash(entry)));
    let at =
        StandingLog { key: key().public(), frontier: Frontier::default(), sealed: UnixSeconds(0) };
    let standing = Standing {
        origin: origin(),
        frontier,
        height: Height(1),
        time: UnixMillis(1000),
        dropped: TreeSize(0),
        agents: BTreeMap::from([(gw01(), at)]),
    };
    (ledger, standing)
}

fn follow_behind(ledger: &Ledger, standing: &Standing) -> (Follower, Vec<Finding>) {
    let vouch = |_: &[u8], _: &[u8], signature: &[u8]| signature == [7];
    let (mut follower, mut found) = (Follower::behind(standing.clone()).unwrap(), vec![]);
    let begin = usize::try_from(follower.size().0).unwrap();
    ledger.entries[begin..].iter().for_each(|entry| follower.push(entry, &vouch, &mut found));
    (follower, found)
}

#[test]
fn whoever_begins_behind_what_was_given_up_comes_to_the_same() {
    let (ledger, standing) = pruned();
    let (all, found) = ledger.follow();
    assert_eq!(found, []);
    assert_eq!(follow_behind(&ledger, &standing), (all.clone(), vec![]));

    // What the base says of agents is not taken from the entries: it must fit them.
    let mut stranger = standing.clone();
    stranger.agents.clear();
    let flaws = |standing| {
        follow_behind(&ledger, standing).1.iter().map(|found| found.flaw).collect::<Vec<_>>()
    };
    assert!(flaws(&stranger).contains(&Flaw::BadSeal));
    let mut ahead = standing.clone();
    ahead.agents.get_mut(&gw01()).unwrap().frontier.push(Hash([9; 32]));
    assert_eq!(flaws(&ahead)[0], Flaw::Gap);
    let mut low = standing;
    low.height = Height(0);
    assert_eq!(flaws(&low)[0], Flaw::Gap);
    let contradicts = |standing: Standing| Follower::behind(standing).unwrap().contradicts(&all);
    assert!(contradicts(stranger).unwrap().contains("is not any more"));
    assert!(contradicts(low).unwrap().contains("had 4 records, and has 0"));
    assert_eq!(all.contradicts(&Follower::new(origin())), None);
}

#[test]
fn only_an_operators_declaration_vouches_for_a_base() {
    let (ledger, _) = pruned();
    let names = |entry: &[u8], base: u8, signature: u8| {
        let vouch = |_: &[u8], text: &[u8], signed: &[u8]| {
            signed == [signature] && text.starts_with(b"logseal prune v1\nledger l.example/x\n")
        };
        declares(entry, &origin(), Hash([base; 32]), &vouch)
    };
    for (at, entry) in ledger.entries.iter().enumerate() {
        assert_eq!(names(entry, 2, 7), at == 11, "entry {at}");
        assert!(!names(entry, 3, 7) && !names(entry, 2, 8));
    }
}
