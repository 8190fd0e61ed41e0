//! The router on a real store: every path, header and role that the specification or we speak of.

use super::*;
use crate::{
    store::{Options, Store},
    view::Head,
};
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use hyper::service::Service;
use link::message::WitnessesStatus;
use record::{
    AgentName, TreeSize, UnixMillis, UnixSeconds,
    batch::{BatchBuilder, Codec},
    bytes::Reader,
    crypto::SigningKey,
    enrolment::Enrolment,
    entry::{Enterprise, Header, LogElement},
    merkle::{EntryIndex, Frontier, leaf_hash},
    note::{NoteSigner, SignatureType, SignedNote},
};
use replica::{
    BlankStart, Identity as Own, LedgerState, Member, Members, Now, Output, Params, Pending,
    Replica, Settings, Ticks, Timing, Vouch,
};
use std::{collections::BTreeMap, io::Read};
use zeroize::Zeroizing;

/// Records of the one batch.
const RECORDS: u64 = 600;
/// With enrolment, seal and the ends of two blocks.
const SIZE: u64 = RECORDS + 4;

struct Trusting;

impl Vouch for Trusting {
    fn operator_signed(&self, _: &Enrolment) -> bool {
        true
    }
}

fn signer(name: &str, kind: SignatureType, seed: u8) -> NoteSigner {
    NoteSigner::new(name.parse().unwrap(), kind, &Zeroizing::new([seed; 32]))
}

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([4; 32]))
}

fn params() -> Params {
    Params { origin: "l.example/x".parse().unwrap(), enterprise: Enterprise::default() }
}

fn now() -> Now {
    Now { ticks: Ticks(0), wall: UnixMillis(1_800_000_000_000) }
}

fn replica() -> Replica {
    let identity = Own {
        name: "node1".parse().unwrap(),
        log: signer("l.example/x", SignatureType::Ed25519, 1),
        cosigner: signer("l.example/x/node/node1", SignatureType::CosignatureV1, 2),
    };
    let consensus = SigningKey::from_seed(&Zeroizing::new([3; 32]));
    let members = Members::single(Member {
        name: identity.name.clone(),
        consensus: consensus.public(),
        cosigner: identity.cosigner.vkey().clone(),
    });
    let settings = Settings {
        params: params(),
        members,
        identity,
        timing: Timing::default(),
        vouch: Box::new(Trusting),
        blank: BlankStart::Genesis,
    };
    Replica::new(settings, LedgerState::genesis(), &[], consensus, now()).unwrap()
}

/// A batch of [`RECORDS`] records.
fn batch(replica: &Replica, agent: &AgentName) -> Pending {
    let mut builder = BatchBuilder::new(params().origin, agent.clone(), Frontier::default());
    for n in 0..RECORDS {
        let element = LogElement {
            enterprise: Enterprise::default(),
            agent,
            n: EntryIndex(n),
            source: "s",
            received: UnixMillis(1),
            peer: None,
            transport: None,
            part: None,
        };
        let header =
            Header { priority: 110, time: None, host: b"h", app: b"a", procid: b"", msgid: b"" };
        builder.push(|out| element.wrap(out, &header, &[], b"GET /household/A123 200"));
    }
    let time = UnixSeconds(1_800_000_000);
    let (mut codec, mut bundle) = (Codec::default(), Vec::new());
    let sealed = builder.seal(&key(), time, &mut codec).batch;
    let log = replica.log_of(agent).unwrap().clone();
    let encoded = sealed.encode();
    let verified = sealed.open(&params().origin, &log, &mut codec, &mut bundle).unwrap();
    Pending::new(verified, log, encoded.into())
}

fn carry_out(replica: &mut Replica, store: &mut Store) -> Option<SignedNote> {
    let mut published = None;
    while let Some(output) = replica.poll().unwrap() {
        match output {
            Output::Append(executed) => {
                store.append(&executed).unwrap();
                store.record(&executed, replica.state()).unwrap();
                replica.handle_durable(now(), &executed).unwrap();
            }
            Output::Published(head) => published = Some(head.checkpoint),
            _ => {}
        }
    }
    published
}

/// A store of [`SIZE`] entries behind a router.
struct Stage {
    view: Arc<View>,
    router: Router,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new(open_hashes: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = signer("l.example/x", SignatureType::Ed25519, 1);
        let options = Options::new(params(), own.vkey().clone());
        let mut store = Store::open(dir.path(), &options).unwrap().store;
        let (mut replica, agent) = (replica(), "gw01".parse().unwrap());
        let enrolment = Enrolment {
            agent,
            key: key().public(),
            time: UnixSeconds(1_800_000_000),
            certificate: vec![1],
            signature: vec![2],
        };
        let agent = enrolment.agent.clone();
        replica.handle_enrolment(now(), enrolment).unwrap().unwrap();
        carry_out(&mut replica, &mut store);
        let pending = batch(&replica, &agent);
        replica.handle_batch(now(), pending).unwrap().unwrap();
        let checkpoint = carry_out(&mut replica, &mut store);
        let state = replica.state();
        assert_eq!(state.tree.size(), TreeSize(SIZE));
        let head = Head { height: state.height, size: state.tree.size(), checkpoint };
        let view = Arc::new(View::new("node1".parse().unwrap(), head, BTreeMap::new()));
        let site = Site { view: Arc::clone(&view), store: store.reader(), open_hashes };
        Stage { view, router: router(site), _dir: dir }
    }

    async fn ask(&self, method: Method, path: &str, role: &str, headers: &[(&str, &str)]) -> Got {
        let identity = (!role.is_empty()).then(|| format!("urn:logseal:{role}:a").parse().unwrap());
        let router = self.router.clone().layer(axum::Extension(Client(identity)));
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = TowerToHyperService::new(router).call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Got { status: head.status.as_u16(), headers: head.headers, bytes }
    }

    async fn get(&self, path: &str) -> Got {
        self.ask(Method::GET, path, "auditor", &[]).await
    }
}

struct Got {
    status: u16,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[tokio::test]
async fn every_tile_of_the_specification_is_there_and_nothing_else() {
    let stage = Stage::new(true);
    let full = 8192;
    for (path, status, len) in [
        ("/tile/0/000", 200, full),
        ("/tile/0/001", 200, full),
        ("/tile/0/002", 404, 0),
        ("/tile/0/002.p/92", 200, 92 * 32),
        ("/tile/0/002.p/93", 404, 0),
        // Partial tiles that the tree has outgrown cost nothing.
        ("/tile/0/002.p/17", 200, 17 * 32),
        ("/tile/0/000.p/255", 200, 255 * 32),
        ("/tile/0/000.p/256", 404, 0),
        ("/tile/0/000.p/0", 404, 0),
        ("/tile/0/000.p/01", 404, 0),
        ("/tile/1/000", 404, 0),
        ("/tile/1/000.p/2", 200, 64),
        ("/tile/1/000.p/3", 404, 0),
        // Empty tiles are none.
        ("/tile/2/000", 404, 0),
        ("/tile/2/000.p/1", 404, 0),
        ("/tile/63/000.p/1", 404, 0),
        ("/tile/64/000.p/1", 404, 0),
        ("/tile/00/000", 404, 0),
        ("/tile/0/0", 404, 0),
        ("/tile/0/000/", 404, 0),
        ("/tile/0/x000/000", 404, 0),
        ("/tile/0/x001/x234/067", 404, 0),
        ("/tile/0/%30%30%30", 404, 0),
        ("/tile/entries/003", 404, 0),
        ("/tile/", 404, 0),
        ("/tile", 404, 0),
        ("/", 404, 0),
        ("/checkpoint/", 404, 0),
    ] {
        let got = stage.get(path).await;
        assert_eq!(got.status, status, "{path}");
        if status == 200 {
            assert_eq!(got.bytes.len(), len, "{path}");
            assert_eq!(got.header("content-type"), "application/octet-stream");
            assert_eq!(got.header("cache-control"), "public, max-age=31536000, immutable");
        } else {
            assert_eq!(got.header("cache-control"), "no-cache, max-age=0", "{path}");
        }
    }
    let checkpoint = stage.get("/checkpoint").await;
    assert_eq!(checkpoint.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(checkpoint.header("cache-control"), "no-cache, max-age=0");
    assert!(checkpoint.bytes.starts_with(b"l.example/x\n604\n"));
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let got = stage.ask(method, "/checkpoint", "auditor", &[]).await;
        assert_eq!((got.status, got.header("allow")), (405, "GET,HEAD"));
    }
}

#[tokio::test]
async fn bundles_hash_to_their_tiles_and_travel_compressed_to_whoever_takes_that() {
    let stage = Stage::new(true);
    for (index, width) in [("000", ""), ("001", ""), ("002", ".p/92"), ("002", ".p/5")] {
        let bundle = stage.get(&format!("/tile/entries/{index}{width}")).await;
        let tile = stage.get(&format!("/tile/0/{index}{width}")).await;
        let (mut reader, mut hashes) = (Reader::new(&bundle.bytes), Vec::new());
        while reader.left() > 0 {
            let len = reader.u16().unwrap();
            hashes.extend_from_slice(&leaf_hash(reader.take(len.into()).unwrap()).0);
        }
        assert_eq!(hashes, tile.bytes, "{index}{width}");
        assert_eq!(bundle.header("vary"), "accept-encoding");
        assert_eq!(bundle.header("cache-control"), "private, max-age=31536000, immutable");
    }
    let path = "/tile/entries/001";
    let plain = stage.get(path).await;
    let gzip = [("accept-encoding", "br;q=1, gzip;q=0.8")];
    let packed = stage.ask(Method::GET, path, "auditor", &gzip).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.bytes.len() * 3 < plain.bytes.len(), "{} bytes", packed.bytes.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.bytes);
    assert_ne!(packed.header("etag"), plain.header("etag"), "two representations");
    let hashes = stage.ask(Method::GET, "/tile/0/000", "auditor", &gzip).await;
    assert_eq!((hashes.header("content-encoding"), hashes.bytes.len()), ("", 8192));
}

#[tokio::test]
async fn what_a_client_has_is_not_sent_again_and_head_sends_nothing() {
    let stage = Stage::new(true);
    for path in ["/checkpoint", "/tile/0/000", "/tile/entries/000"] {
        let got = stage.get(path).await;
        let tag = got.header("etag").to_owned();
        assert!(tag.len() > 10 && tag.starts_with('"'), "{tag}");
        let weak = format!("\"other\", W/{tag}");
        for known in [tag.as_str(), "*", weak.as_str()] {
            let headers = [("if-none-match", known)];
            let again = stage.ask(Method::GET, path, "auditor", &headers).await;
            assert_eq!((again.status, again.bytes.len()), (304, 0), "{path} {known}");
            assert_eq!(again.header("etag"), tag);
        }
        let other = [("if-none-match", "\"other\"")];
        assert_eq!(stage.ask(Method::GET, path, "auditor", &other).await.status, 200);
        let head = stage.ask(Method::HEAD, path, "auditor", &[]).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0));
        for name in ["content-type", "etag", "cache-control"] {
            assert_eq!(head.header(name), got.header(name));
        }
        assert_eq!(head.header("content-length"), got.bytes.len().to_string());
    }
    assert_eq!(stage.ask(Method::HEAD, "/tile/0/009", "auditor", &[]).await.status, 404);
}

#[tokio::test]
async fn entries_are_for_those_who_may_read_and_hashes_for_all_if_they_are_open() {
    let (open, closed) = (Stage::new(true), Stage::new(false));
    for (stage, path, role, status) in [
        (&open, "/checkpoint", "", 200),
        (&open, "/tile/0/000", "", 200),
        (&open, "/tile/entries/000", "", 403),
        (&open, "/tile/entries/000", "agent", 403),
        (&open, "/tile/entries/000", "privacy-officer", 200),
        (&closed, "/checkpoint", "", 403),
        (&closed, "/tile/0/000", "", 403),
        (&closed, "/tile/0/000", "agent", 200),
        (&closed, "/tile/entries/000", "operator", 200),
        // Whether something is there is no secret: its size is in the checkpoint.
        (&closed, "/tile/entries/900", "auditor", 404),
    ] {
        let got = stage.ask(Method::GET, path, role, &[]).await;
        assert_eq!(got.status, status, "{path} {role}");
    }
    let got = closed.get("/tile/0/000").await;
    assert_eq!(got.header("cache-control"), "private, max-age=31536000, immutable");
}

#[tokio::test]
async fn where_witnesses_are_asked_only_what_they_cosigned_is_served() {
    let stage = Stage::new(true);
    let newest = stage.get("/checkpoint").await.bytes;
    stage.view.set_witnesses(WitnessesStatus::default());
    let none = stage.get("/checkpoint").await;
    assert_eq!(none.status, 503);
    assert!(String::from_utf8(none.bytes).unwrap().contains("outside witnesses"));
    stage.view.set_witnessed(SignedNote::parse(&newest).unwrap());
    assert_eq!(stage.get("/checkpoint").await.bytes, newest);
    assert_eq!(stage.get("/tile/0/000").await.status, 200, "tiles are there all the time");
}

#[tokio::test]
async fn the_end_of_a_bundle_is_there_by_the_entry_it_begins_with() {
    let stage = Stage::new(false);
    assert_eq!(stage.get("/first-entry").await.bytes, b"0\n");
    assert_eq!(stage.get("/minimum-index").await.bytes, b"0\n");
    let whole = stage.get("/tile/entries/001").await.bytes;
    let rest = stage.get("/entries-from/300").await;
    assert_eq!(rest.header("cache-control"), "private, max-age=31536000, immutable");
    assert!(whole.ends_with(&rest.bytes) && !rest.bytes.is_empty());
    assert_eq!(stage.get("/entries-from/256").await.bytes, whole);
    let (mut reader, mut count) = (Reader::new(&rest.bytes), 0);
    while reader.left() > 0 {
        let len = reader.u16().unwrap();
        reader.take(len.into()).unwrap();
        count += 1;
    }
    assert_eq!(count, 212);
    // One spelling of each number, and full bundles only.
    for path in ["0300", "+300", "", "x", "600", "512", "18446744073709551615"] {
        assert_eq!(stage.get(&format!("/entries-from/{path}")).await.status, 404, "{path}");
    }
    assert_eq!(stage.ask(Method::GET, "/entries-from/300", "agent", &[]).await.status, 403);
    assert_eq!(stage.ask(Method::GET, "/first-entry", "agent", &[]).await.status, 200);
    assert_eq!(stage.get("/base").await.status, 404);
}
