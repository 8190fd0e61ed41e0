//! The worked examples of `docs/formats.md`, made again from fixed seeds and times and compared
//! with the files in `tests/fixtures`; and the document, compared with those files.
//!
//! All examples are of one small ledger. Operator lin enrols agent gw01: block 1, entries 0 and 1.
//! The agent seals a batch of three records: block 2, entries 2 to 6. Node node1 decides the
//! blocks and signs the checkpoint.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

#[path = "support/fixture.rs"]
mod fixture;

use fixture::Fixtures;
use logseal_record::{
    AgentName, Checkpoint, Hash, Origin, TreeSize, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec, LogState, Sealed, SealedBatch},
    block::{BlockEntry, Height},
    cosignature::Cosignature,
    crypto::SigningKey,
    enrolment::Enrolment,
    entry::{Built, Enterprise, Entry, Field, Header, LogElement, Message, restore},
    equivocation::{Equivocation, EquivocationKind, Statement, VOTE_DOMAIN},
    follow::{Follower, History},
    merkle::{
        EntryIndex, Frontier, NodeId, NodeSource, consistency_proof, inclusion_proof, leaf_hash,
        node_hash, range_proof, root,
    },
    note::{NoteSigner, SignatureType, SignedNote},
    policy::{Policy, write_policy},
    proof::TlogProof,
    receipt::Receipt,
    seal::agent_vkey,
    witness::AddCheckpoint,
};
use zeroize::Zeroizing;

const KONG_LINE: &str = r#"{"request":{"method":"GET","uri":"/v1/household/A123?fields=address","id":"0f1e","headers":{"x-purpose":"戶籍謄本","x-subject":"A123"}},"response":{"status":200},"latencies":{"request":12},"client_ip":"10.1.2.3","consumer":{"username":"clerk07"},"route":{"name":"household-read"},"started_at":1795255347125}"#;
const SYSLOG_LINE: &str = r#"<134>1 2026-11-21T10:02:27.131Z web01 portal 812 LOGIN [req@9999 id="7f3a"] clerk07 signed in"#;
const OLD_LINE: &str = "<38>Nov 21 10:02:27 web01 sshd[4711]: Accepted publickey for ops";

const ENROLLED: UnixSeconds = UnixSeconds(1_795_255_200);
const FIRST_DECIDED: UnixMillis = UnixMillis(1_795_255_200_040);
const RECEIVED: UnixMillis = UnixMillis(1_795_255_347_180);
const SEALED: UnixSeconds = UnixSeconds(1_795_255_347);
const DECIDED: UnixMillis = UnixMillis(1_795_255_347_260);

fn fixtures() -> Fixtures {
    Fixtures::seen_from(env!("CARGO_MANIFEST_DIR"), ".")
}

fn seed(byte: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([byte; 32])
}

fn origin() -> Origin {
    "ledger.city.example/access".parse().unwrap()
}

fn agent() -> AgentName {
    "gw01".parse().unwrap()
}

fn agent_key() -> SigningKey {
    SigningKey::from_seed(&seed(4))
}

/// The ledger's own key and the node's cosigner key.
fn node_keys() -> (NoteSigner, NoteSigner) {
    let log = NoteSigner::new(origin().key_name().clone(), SignatureType::Ed25519, &seed(1));
    let name = origin().node(&"node1".parse().unwrap());
    (log, NoteSigner::new(name, SignatureType::CosignatureV1, &seed(2)))
}

fn log_element<'a>(agent: &'a AgentName, n: u64, source: &'a str) -> LogElement<'a> {
    let peer = (source == "syslog").then_some("web01");
    LogElement {
        enterprise: Enterprise::default(),
        agent,
        n: EntryIndex(n),
        source,
        received: RECEIVED,
        peer,
        transport: None,
        part: None,
    }
}

fn wrapped() -> Vec<u8> {
    let access: [Field<'_>; 10] = [
        ("user.id", "clerk07".into()),
        ("source.ip", "10.1.2.3".into()),
        ("http.request.method", "GET".into()),
        ("url.path", "/v1/household/A123".into()),
        ("http.response.status_code", "200".into()),
        ("event.duration", "12000000".into()),
        ("purpose", "戶籍謄本".into()),
        ("subject", "A123".into()),
        ("transaction.id", "0f1e".into()),
        ("action", "household-read".into()),
    ];
    let header = Header {
        priority: 110,
        time: Some(UnixMillis(1_795_255_347_125)),
        host: b"gw01",
        app: b"kong",
        procid: b"",
        msgid: b"",
    };
    let mut out = vec![];
    log_element(&agent(), 0, "kong").wrap(&mut out, &header, &access, KONG_LINE.as_bytes());
    out
}

fn spliced() -> Vec<u8> {
    let message = Message::parse(SYSLOG_LINE.as_bytes()).unwrap();
    let mut out = vec![];
    log_element(&agent(), 1, "syslog").splice(&mut out, &message, &[]);
    out
}

fn wrapped_rfc3164() -> Vec<u8> {
    let header = Header {
        priority: 38,
        time: Some(RECEIVED),
        host: b"web01",
        app: b"sshd",
        procid: b"4711",
        msgid: b"",
    };
    let mut out = vec![];
    log_element(&agent(), 2, "syslog").wrap(&mut out, &header, &[], OLD_LINE.as_bytes());
    out
}

fn records() -> [Vec<u8>; 3] {
    [wrapped(), spliced(), wrapped_rfc3164()]
}

fn enrolment() -> Enrolment {
    let key = agent_key().public();
    let statement = Enrolment::statement(&origin(), &agent(), key, ENROLLED);
    // The certificate's key is that of this seed.
    let signature = SigningKey::from_seed(&seed(5)).sign(statement.as_bytes());
    Enrolment {
        agent: agent(),
        key,
        time: ENROLLED,
        certificate: fixtures().read_hex("operator.hex"),
        signature: signature.0.to_vec(),
    }
}

/// The batch. Its zstd frame is that of the fixture as long as it unpacks to the same records:
/// what a frame unpacks to never changes, what zstd makes of records may.
fn sealed() -> Sealed {
    let mut builder = BatchBuilder::new(origin(), agent(), Frontier::default());
    for record in records() {
        builder.push(|out| {
            out.extend_from_slice(&record);
            Built::Whole
        });
    }
    let mut codec = Codec::default();
    let mut sealed = builder.seal(&agent_key(), SEALED, &mut codec);
    if let Some(kept) = fixtures().try_read_hex("batch.hex") {
        let kept = SealedBatch::decode(&kept).unwrap();
        let (mut ours, mut theirs) = (vec![], vec![]);
        codec.unpack(&sealed.batch, &mut ours).unwrap();
        codec.unpack(&kept, &mut theirs).unwrap();
        if ours == theirs {
            sealed.batch.compressed = kept.compressed;
        }
    }
    sealed
}

fn block_entry(height: u64, time: UnixMillis, first: u64) -> Vec<u8> {
    let proposer = "node1".parse().unwrap();
    let block = BlockEntry { height: Height(height), time, proposer, first: EntryIndex(first) };
    block.encode(Enterprise::default())
}

/// The entries of the ledger, in their order.
fn ledger() -> Vec<Vec<u8>> {
    let mut entries = vec![enrolment().entry(&origin(), Enterprise::default())];
    entries.push(block_entry(1, FIRST_DECIDED, 0));
    entries.extend(records());
    entries.push(sealed().batch.seal_entry().encode(Enterprise::default()));
    entries.push(block_entry(2, DECIDED, 2));
    entries
}

struct Leaves(Vec<Hash>);

impl Leaves {
    fn of(entries: &[Vec<u8>]) -> Self {
        Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect())
    }

    fn size(&self) -> TreeSize {
        TreeSize(self.0.len() as u64)
    }
}

impl NodeSource for Leaves {
    type Error = std::convert::Infallible;

    fn node(&self, id: NodeId) -> Result<Hash, Self::Error> {
        if id.level == 0 {
            return Ok(self.0[id.index as usize]);
        }
        let (left, right) = id.children();
        Ok(node_hash(&self.node(left)?, &self.node(right)?))
    }
}

fn checkpoint() -> SignedNote {
    let leaves = Leaves::of(&ledger());
    let Ok(root) = root(&leaves, leaves.size());
    let text = Checkpoint::new(origin(), leaves.size(), root).text();
    let mut note = SignedNote::new(text.clone());
    let (log, cosigner) = node_keys();
    note.put(log.sign(&text, SEALED));
    note.put(cosigner.sign(&text, SEALED));
    note
}

fn policy() -> String {
    let (log, cosigner) = node_keys();
    write_policy(&[log.vkey().clone()], &[("node1".into(), cosigner.vkey().clone())], 1)
}

#[test]
fn a_record_of_today_reads_the_same_in_ten_years() {
    let pinned = fixtures();
    let lines = [("kong", KONG_LINE), ("rfc5424", SYSLOG_LINE), ("rfc3164", OLD_LINE)];
    for ((name, line), entry) in lines.into_iter().zip(records()) {
        pinned.pin(&format!("line-{name}"), line.as_bytes());
        pinned.pin(&format!("entry-{name}"), &entry);
        assert_eq!(restore(&entry).unwrap().line, line.as_bytes());
    }
}

#[test]
fn the_ledgers_own_entries_read_the_same_in_ten_years() {
    let (pinned, entries) = (fixtures(), ledger());
    pinned.pin("entry-enrol", &entries[0]);
    pinned.pin("entry-seal", &entries[5]);
    pinned.pin("entry-block", &entries[6]);
    let leaves: String = Leaves::of(&entries)
        .0
        .iter()
        .enumerate()
        .map(|(at, leaf)| format!("{at} {leaf}\n"))
        .collect();
    pinned.pin("ledger-leaves", leaves.as_bytes());
}

#[test]
fn a_sealed_batch_of_today_opens_in_ten_years() {
    let (pinned, sealed) = (fixtures(), sealed());
    let (mut codec, mut bundle) = (Codec::default(), vec![]);
    codec.unpack(&sealed.batch, &mut bundle).unwrap();
    pinned.pin_hex("bundle.hex", &bundle);
    pinned.pin_hex("batch.hex", &sealed.batch.encode());
    let state = LogState {
        key: agent_key().public(),
        frontier: Frontier::default(),
        sealed: UnixSeconds(0),
    };
    let batch = SealedBatch::decode(&pinned.read_hex("batch.hex")).unwrap();
    assert!(batch.open(&origin(), &state, &mut codec, &mut bundle).is_ok());

    let mut silent = BatchBuilder::new(origin(), agent(), sealed.after);
    let heartbeat = silent.seal(&agent_key(), UnixSeconds(SEALED.0 + 60), &mut codec);
    pinned.pin_hex("heartbeat.hex", &heartbeat.batch.encode());
}

#[test]
fn an_enrolment_of_today_is_read_in_ten_years() {
    let (pinned, enrolment) = (fixtures(), enrolment());
    let statement = Enrolment::statement(&origin(), &agent(), enrolment.key, ENROLLED);
    pinned.pin("enrolment-statement", statement.as_bytes());
    pinned.pin_hex("enrolment-signature.hex", &enrolment.signature);
    pinned.pin_hex("enrolment.hex", &enrolment.encode());
    let kind = SignatureType::CosignatureV1;
    let private = NoteSigner::encode_private(origin().agent(&agent()).key_name(), kind, &seed(4));
    pinned.pin("private-key", private.as_bytes());
    let signer = NoteSigner::parse(&private).unwrap();
    pinned.pin("vkey", format!("{}\n", signer.vkey()).as_bytes());
}

#[test]
fn evidence_of_today_convinces_in_ten_years() {
    let (pinned, sealed) = (fixtures(), sealed());
    let (agent_log, ledger_log) = (Leaves::of(&records()), Leaves::of(&ledger()));
    let seal = sealed.batch.seal.note(&origin(), &agent(), agent_key().public());
    pinned.pin("seal", seal.to_string().as_bytes());
    pinned.pin("checkpoint", checkpoint().to_string().as_bytes());
    let cosigned = format!("cosignature/v1\ntime {}\n{}", SEALED.0, checkpoint().text());
    pinned.pin("cosigned-message", cosigned.as_bytes());
    let cosignature = Cosignature::from_bytes(&checkpoint().signatures()[1].bytes).unwrap();
    let cosigner = node_keys().1.vkey().public();
    assert!(cosigner.verifies(cosigned.as_bytes(), &cosignature.signature));
    let vkey = agent_vkey(&origin(), &agent(), agent_key().public());
    let agent_policy = format!("witness gw01 {vkey}\nquorum gw01\n");

    // Record 1 of gw01 is entry 3 of the ledger.
    let proofs = [
        ("agent", 1, agent_log, seal, agent_policy),
        ("ledger", 3, ledger_log, checkpoint(), policy()),
    ];
    for (log, index, leaves, checkpoint, policy) in proofs {
        let index = EntryIndex(index);
        let Ok(inclusion) = inclusion_proof(&leaves, index, leaves.size());
        let proof = TlogProof { extra: None, index, inclusion, checkpoint };
        pinned.pin(&format!("evidence/{log}.tlog-proof"), proof.to_string().as_bytes());
        let name = if log == "agent" { "agent-policy" } else { "policy" };
        pinned.pin(&format!("evidence/{name}"), policy.as_bytes());
        let policy = Policy::parse(&pinned.read(&format!("evidence/{name}"))).unwrap();
        assert!(proof.verify(&spliced(), &policy).is_ok());
    }
    pinned.pin("evidence/entry", &spliced());
}

#[test]
fn the_receipt_of_the_example_proves_its_whole_batch_and_the_seal() {
    let (leaves, sealed) = (Leaves::of(&ledger()), sealed());
    let Ok(proof) = range_proof(&leaves, EntryIndex(2), EntryIndex(6), leaves.size());
    let hashes = |side: &str, hashes: &[Hash]| -> String {
        hashes.iter().map(|hash| format!("{side} {hash}\n")).collect()
    };
    let shown =
        format!("first 2\n{}{}", hashes("left", &proof.left), hashes("right", &proof.right));
    fixtures().pin("receipt", shown.as_bytes());
    let receipt = Receipt { first: EntryIndex(2), proof, checkpoint: checkpoint() };
    let policy = Policy::parse(policy().as_bytes()).unwrap();
    let seal = sealed.batch.seal_entry();
    assert!(receipt.verify(&policy, Enterprise::default(), &sealed.leaves, &seal).is_ok());
    assert!(receipt.verify(&policy, Enterprise::default(), &sealed.leaves[..2], &seal).is_err());
}

/// The node's consensus key (seed 3) voted twice in round 0 of height 2: for two blocks.
#[test]
fn an_equivocation_of_today_convicts_in_ten_years() {
    let key = SigningKey::from_seed(&seed(3));
    let vote = |value: u8| {
        let mut bytes = VOTE_DOMAIN.to_vec();
        bytes.push(1);
        bytes.extend_from_slice(&2u64.to_be_bytes());
        bytes.extend_from_slice(&0i64.to_be_bytes());
        bytes.push(1);
        bytes.extend_from_slice(&[value; 32]);
        bytes.extend_from_slice(&key.public().0);
        let signature = key.sign(&bytes);
        Statement { bytes, signature }
    };
    let (kind, culprit) = (EquivocationKind::Votes, "node1".parse().unwrap());
    let made = Equivocation::new(kind, culprit, key.public(), [vote(0xbb), vote(0xaa)]);
    fixtures().pin_hex("equivocation.hex", &made.encode());
    let entry = made.entry(UnixMillis(1_795_255_347_260), Enterprise::default());
    fixtures().pin("entry-equivocation", &entry);
    let read = Equivocation::decode(&fixtures().read_hex("equivocation.hex")).unwrap();
    assert_eq!(read.verify(), Ok(()));
    let entry = fixtures().read("entry-equivocation");
    assert_eq!(Equivocation::from_entry(&Entry::parse(&entry).unwrap()), Some(read));
}

/// What a node asks an outside witness that saw the first two entries, and what a monitor of the
/// example remembers.
#[test]
fn who_looks_from_outside_reads_and_remembers_the_same_in_ten_years() {
    let (pinned, entries) = (fixtures(), ledger());
    let leaves = Leaves::of(&entries);
    let Ok(proof) = consistency_proof(&leaves, TreeSize(2), leaves.size());
    let request = AddCheckpoint { old: TreeSize(2), proof, checkpoint: checkpoint() };
    pinned.pin("add-checkpoint", request.to_string().as_bytes());
    assert_eq!(AddCheckpoint::parse(&pinned.read("add-checkpoint")).unwrap(), request);

    let (mut follower, mut found) = (Follower::new(origin()), vec![]);
    let signed = |_: &[u8], _: &[u8], signature: &[u8]| !signature.is_empty();
    entries.iter().for_each(|entry| follower.push(entry, &signed, &mut found));
    assert_eq!(found, []);
    let mut history = History { follower, seen: vec![], notes: vec![] };
    history.note_seen("node1.city.example:7580", &checkpoint());
    history.keep(&checkpoint());
    pinned.pin_hex("monitor-state.hex", &history.encode());
    assert_eq!(History::decode(&pinned.read_hex("monitor-state.hex")).unwrap(), history);
    let unpruned = "as it was before entries could be given up";
    assert_eq!(
        History::decode(&pinned.read_hex("monitor-state-1.hex")).unwrap(),
        history,
        "{unpruned}"
    );
}

/// Fenced blocks whose info string is `text fixture=NAME` show that fixture, whole.
#[test]
fn the_examples_of_the_document_are_what_programs_make() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (pinned, mut shown) = (fixtures(), 0);
    for part in document.split("\n```text fixture=").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap();
        let (body, _) = rest.split_once("\n```").unwrap();
        let fixture = String::from_utf8(pinned.read(name)).unwrap();
        let whole = fixture.strip_suffix('\n').unwrap_or(&fixture);
        assert_eq!(body, whole, "docs/formats.md shows another {name} than the fixture");
        shown += 1;
    }
    assert!(shown >= 20, "only {shown} examples were found");
}
