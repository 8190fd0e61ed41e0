//! A witness as strangers see it: what the specification says, and kill -9.
//!
//! Nothing here uses our own reading of the formats: trees are those of RFC 6962 word for word, and
//! notes are put together by hand. Only SHA-256 and Ed25519 come from the product.

use logseal::site::Process;
use logseal_tests::{
    LIMIT,
    cluster::{Dice, tell, turn},
    outside::Witness,
};
use record::crypto::{PublicKey, Signature, SigningKey, sha256};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use zeroize::Zeroizing;

type Hash = [u8; 32];

/// RFC 6962, section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1], &root(left), &root(right)])
        }
    }
}

/// RFC 6962, section 2.1.2.
fn consistency(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { vec![] } else { vec![root(leaves)] };
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut proof, other) = match m <= k {
        true => (consistency(m, &leaves[..k], whole), root(&leaves[k..])),
        false => (consistency(m - k, &leaves[k..], false), root(&leaves[..k])),
    };
    proof.push(other);
    proof
}

fn leaves(fork: u8, common: usize, count: usize) -> Vec<Hash> {
    let leaf = |n: usize| sha256(&[&[0], &[if n < common { 0 } else { fork }], &n.to_be_bytes()]);
    (0..count).map(leaf).collect()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at)) as usize & 63] as char;
            out.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

fn unbase64(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for c in text.trim_end_matches('=').bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        (bits, count) = (bits << 6 | u32::from(digit), count + 6);
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

/// A log with a key.
struct Log {
    origin: String,
    name: String,
    key: SigningKey,
}

impl Log {
    fn new(origin: &str, name: &str, seed: u8) -> Self {
        let key = SigningKey::from_seed(&Zeroizing::new([seed; 32]));
        Log { origin: origin.into(), name: name.into(), key }
    }

    fn id(&self) -> [u8; 4] {
        let hash = sha256(&[self.name.as_bytes(), b"\n", &[1], &self.key.public().0]);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    fn vkey(&self) -> String {
        let id: String = self.id().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}+{id}+{}", self.name, base64(&[&[1], &self.key.public().0[..]].concat()))
    }

    fn signed(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes()).0;
        let line = base64(&[&self.id()[..], &signature[..]].concat());
        format!("{text}\n\u{2014} {} {line}\n", self.name)
    }

    fn checkpoint(&self, size: usize, root: &Hash) -> String {
        self.signed(&format!("{}\n{size}\n{}\n", self.origin, base64(root)))
    }

    /// A request that is right for a witness that saw `old` of these leaves.
    fn request(&self, old: usize, leaves: &[Hash]) -> String {
        let proof = if old == 0 { vec![] } else { consistency(old, leaves, true) };
        body(old, &proof, &self.checkpoint(leaves.len(), &root(leaves)))
    }
}

fn body(old: usize, proof: &[Hash], checkpoint: &str) -> String {
    let lines: String = proof.iter().map(|hash| base64(hash) + "\n").collect();
    format!("old {old}\n{lines}\n{checkpoint}")
}

struct Answer {
    status: u16,
    kind: String,
    body: String,
}

fn http(port: u16, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: w\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let _ = stream.shutdown(Shutdown::Both);
    let short = || std::io::Error::other("no whole answer");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(short)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(short)?;
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let whole = header("content-length").parse() == Ok(body.len()) || method == "HEAD";
    if !whole {
        return Err(short());
    }
    Ok(Answer { status, kind: header("content-type"), body: body.to_owned() })
}

/// The size, root and time that a signature line of the witness's stands for.
fn assert_cosigned(witness: &Witness, line: &str, text: &str) -> u64 {
    let line =
        line.strip_prefix("\u{2014} witness.example/w1 ").unwrap().strip_suffix('\n').unwrap();
    let bytes = unbase64(line);
    let key = witness.vkey.public();
    let id = sha256(&[b"witness.example/w1\n", &[4], &key.0]);
    assert_eq!((&bytes[..4], bytes.len()), (&id[..4], 4 + 8 + 64));
    let time = u64::from_be_bytes(bytes[4..12].try_into().unwrap());
    let statement = format!("cosignature/v1\ntime {time}\n{text}");
    let signature = Signature(bytes[12..].try_into().unwrap());
    assert!(PublicKey(key.0).verifies(statement.as_bytes(), &signature));
    time
}

#[test]
fn add_checkpoint_answers_as_the_specification_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut witness = Witness::make(&dir.path().join("w"));
    let log = Log::new("example.com/behind the sofa", "example.com/sofa", 1);
    let second = Log::new(&log.origin, "example.com/sofa-2", 2);
    let stranger = Log::new(&log.origin, "example.com/sofa-3", 3);
    let empty = Log::new("example.com/empty", "example.com/empty", 4);
    witness.add_log(&log.origin, &[log.vkey(), second.vkey()]);
    witness.add_log(&empty.origin, &[empty.vkey()]);
    witness.start();
    let port = witness.port;
    let post = |body: &str| http(port, "POST", "/add-checkpoint", body.as_bytes()).unwrap();
    let tree = leaves(1, 0, 40);
    let text = |size: usize| format!("{}\n{size}\n{}\n", log.origin, base64(&root(&tree[..size])));
    let hash: String =
        sha256(&[log.origin.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    let newest = format!("/{hash}/checkpoint");

    // Nothing cosigned yet: no checkpoint to fetch, and an old size that is not zero conflicts.
    assert_eq!(http(port, "GET", &newest, b"").unwrap().status, 404);
    let conflict = post(&log.request(3, &tree[..7]));
    assert_eq!((conflict.status, conflict.body.as_str()), (409, "0\n"));
    assert_eq!(conflict.kind, "text/x.tlog.size");
    // The order: unknown origin, then signature, then sizes.
    let unknown = Log::new("example.com/other", "example.com/sofa", 1);
    assert_eq!(post(&unknown.request(0, &tree[..7])).status, 404);
    assert_eq!(post(&stranger.request(0, &tree[..7])).status, 403);
    let mut forged = log.request(0, &tree[..7]);
    let flipped = if forged.ends_with("A==\n") { "Q==\n" } else { "A==\n" };
    forged.truncate(forged.len() - 4);
    forged += flipped;
    assert_eq!(post(&forged).status, 403, "the name and id of a known key, and another signature");
    assert_eq!(post(&body(9, &[], &log.checkpoint(7, &root(&tree[..7])))).status, 400);
    assert_eq!(post(&body(0, &[[1; 32]], &log.checkpoint(7, &root(&tree[..7])))).status, 422);
    assert_eq!(
        http(port, "GET", &newest, b"").unwrap().status,
        404,
        "nothing of that was cosigned"
    );

    let first = post(&log.request(0, &tree[..7]));
    assert_eq!(first.status, 200, "{}", first.body);
    let time = assert_cosigned(&witness, &first.body, &text(7));
    assert!(time > 1_700_000_000);
    // Another key of the same log goes on from there; signatures of strangers are ignored.
    let mut both = second.request(7, &tree[..20]);
    both += stranger.checkpoint(20, &root(&tree[..20])).split_once("\n\n").unwrap().1;
    let next = post(&both);
    assert_eq!(next.status, 200, "{}", next.body);
    assert_cosigned(&witness, &next.body, &text(20));
    // What is asked twice is answered twice; what was passed is a conflict.
    let again = post(&log.request(20, &tree[..20]));
    assert_cosigned(&witness, &again.body, &text(20));
    let late = post(&log.request(7, &tree[..12]));
    assert_eq!((late.status, late.body.as_str()), (409, "20\n"));
    assert_eq!(post(&log.request(0, &tree[..30])).status, 409);
    // Another history, with every proof that could be thought of.
    let other = leaves(2, 19, 40);
    assert_eq!(post(&log.request(20, &other[..30])).status, 422);
    assert_eq!(post(&body(20, &[], &log.checkpoint(20, &root(&other[..20])))).status, 422);
    let proof = consistency(20, &tree[..30], true);
    assert_eq!(post(&body(20, &proof, &log.checkpoint(30, &root(&other[..30])))).status, 422);
    assert_eq!(post(&body(20, &proof[1..], &log.checkpoint(30, &root(&tree[..30])))).status, 422);
    assert_eq!(post(&body(20, &proof, &log.checkpoint(20, &root(&tree[..20])))).status, 422);
    // Extension lines are cosigned with the rest.
    let extended = format!("{}extension\n", text(30));
    let answer = post(&body(20, &proof, &log.signed(&extended)));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_cosigned(&witness, &answer.body, &extended);

    // An empty tree has one root.
    assert_eq!(post(&body(0, &[], &empty.checkpoint(0, &[0; 32]))).status, 422);
    let nothing = post(&body(0, &[], &empty.checkpoint(0, &sha256(&[]))));
    assert_eq!(nothing.status, 200);
    assert_eq!(post(&empty.request(0, &tree[..3])).status, 200);

    malformed(port, &log, &tree);
    let served = http(port, "GET", &newest, b"").unwrap();
    assert_eq!((served.status, served.kind.as_str()), (200, "text/plain; charset=utf-8"));
    let (body, signatures) = served.body.split_once("\n\n").unwrap();
    assert_eq!(format!("{body}\n"), extended);
    assert!(signatures.contains("example.com/sofa ") && signatures.contains("witness.example/w1"));
    assert_eq!(http(port, "HEAD", &newest, b"").unwrap().status, 200);

    // It remembers, and what it remembers cannot be replaced by somebody else's word.
    witness.kill();
    witness.start();
    let late = post(&log.request(7, &tree[..12]));
    assert_eq!((late.status, late.body.as_str()), (409, "30\n"));
    witness.kill();
    let file = witness.dir.join("state").join(&hash);
    let note = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, note.replacen("30\n", "20\n", 1)).unwrap();
    let mut altered = witness.spawn();
    assert_eq!(altered.wait(LIMIT).unwrap().code(), Some(2), "{}", altered.log_tail());
    std::fs::remove_dir_all(witness.dir.join("state")).unwrap();
    let mut forgetful = witness.spawn();
    assert_eq!(forgetful.wait(LIMIT).unwrap().code(), Some(2));
    assert!(forgetful.log_tail().contains("forgot what it cosigned"), "{}", forgetful.log_tail());
}

#[test]
fn a_witness_with_a_certificate_is_reached_over_tls_only() {
    let (dir, site) = logseal_tests::new_site();
    let mut witness = Witness::make(&dir.path().join("w"));
    let log = Log::new("example.com/log", "example.com/log", 1);
    witness.add_log(&log.origin, &[log.vkey()]);
    let path = witness.dir.join("witness.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let open = text.replace("listen = \"127.0.0.1:", "listen = \"0.0.0.0:");
    std::fs::write(&path, &open).unwrap();
    let mut bare = witness.spawn();
    assert_eq!(bare.wait(LIMIT).unwrap().code(), Some(2), "{}", bare.log_tail());
    let (cert, key) = (site.cert("node", "node1"), site.key("node", "node1"));
    let tls = format!("\n[tls]\ncert = {cert:?}\nkey = {key:?}\n\n[[log]]");
    std::fs::write(&path, open.replacen("\n[[log]]", &tls, 1)).unwrap();
    witness.start();
    assert!(http(witness.port, "POST", "/add-checkpoint", b"").is_err(), "no plain HTTP");
    let request = log.request(0, &leaves(1, 0, 5)).into_bytes();
    let ask = |ca: std::path::PathBuf| {
        let url = format!("https://127.0.0.1:{}", witness.port).parse().unwrap();
        let mut client = service::http::HttpClient::new(url, &ca).unwrap();
        let kind = "text/plain";
        logseal::client::block_on(async {
            client
                .post("/add-checkpoint", kind, request.clone(), 4096, LIMIT)
                .await
                .map_err(logseal::output::fail)
        })
    };
    assert_eq!(ask(site.path("pki/ca.pem")).unwrap().status, 200);
    let other = tempfile::tempdir().unwrap();
    let other = logseal::site::Site::make(other.path()).unwrap().path("pki/ca.pem");
    let refused = ask(other);
    assert!(refused.is_err(), "a certificate of nobody we trust: {refused:?}");
}

fn malformed(port: u16, log: &Log, tree: &[Hash]) {
    let good = log.request(30, &tree[..35]);
    for (from, to) in [
        ("old 30\n", ""),
        ("old 30\n", "old 030\n"),
        ("old 30\n", "old 30\r\n"),
        ("old 30\n", "old -1\n"),
        ("old 30\n", "old 30\nAAAA\n"),
        ("=\n\n", "=\n"),
        ("\n35\n", "\n035\n"),
        ("\n35\n", "\n35\nAAAA\n"),
        ("\u{2014} ", "- "),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from:?}");
        let answer = http(port, "POST", "/add-checkpoint", bad.as_bytes()).unwrap();
        assert_eq!(answer.status, 400, "{bad}");
    }
    let line = base64(&[1; 32]) + "\n";
    let long = good.replacen("old 30\n", &format!("old 30\n{}", line.repeat(64)), 1);
    assert_eq!(http(port, "POST", "/add-checkpoint", long.as_bytes()).unwrap().status, 400);
    let huge = vec![b'x'; 1 << 20];
    // It may hang up before all of it is sent.
    if let Ok(answer) = http(port, "POST", "/add-checkpoint", &huge) {
        assert_eq!(answer.status, 413);
    }
    assert_eq!(http(port, "GET", "/add-checkpoint", b"").unwrap().status, 405);
    assert_eq!(http(port, "POST", "/", b"").unwrap().status, 404);
}

/// Logs of which two histories are offered.
const LOGS: u8 = 24;
const KILLS: usize = 100;
const BUDGET: Duration = Duration::from_secs(60);
/// The two histories of each have so many entries in common.
const COMMON: usize = 5;
const LONGEST: usize = 4000;

/// What was cosigned, by log: size to root.
type Cosigned = Mutex<BTreeMap<u8, BTreeMap<usize, Hash>>>;

#[test]
fn a_witness_that_is_killed_all_the_time_never_cosigns_two_histories() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let witness = Witness::make(&dir.path().join("w"));
    for log in 0..LOGS {
        let log = race_log(log);
        witness.add_log(&log.origin, &[log.vkey()]);
    }
    let forks = Arc::new([1u8, 2].map(|fork| leaves(fork, COMMON, LONGEST)));
    let (going, cosigned) = (Arc::new(AtomicBool::new(true)), Arc::new(Cosigned::default()));
    let (port, vkey) = (witness.port, witness.vkey.public());
    let mut racers = Vec::new();
    for racer in 0..4u64 {
        let (forks, going, cosigned) =
            (Arc::clone(&forks), Arc::clone(&going), Arc::clone(&cosigned));
        racers.push(std::thread::spawn(move || {
            let mut dice = Dice::new(71 + racer);
            let fork = &forks[racer as usize % 2];
            let mut calls = 0u64;
            while going.load(Ordering::Relaxed) {
                calls += u64::from(race(&mut dice, fork, port, &vkey, &cosigned).is_some());
            }
            calls
        }));
    }
    let (begun, mut dice, mut kills) = (Instant::now(), Dice::new(5), 0);
    while kills < KILLS && begun.elapsed() < BUDGET {
        let mut process: Process = witness.spawn();
        process.wait_ready(LIMIT).unwrap();
        dice.pause_from(Duration::from_millis(20), Duration::from_millis(300));
        process.kill().unwrap();
        kills += 1;
    }
    going.store(false, Ordering::Relaxed);
    let calls: u64 = racers.into_iter().map(|racer| racer.join().unwrap()).sum();
    let cosigned = cosigned.lock().unwrap();
    let count: usize = cosigned.values().map(BTreeMap::len).sum();
    let mut taken = [0; 2];
    for sizes in cosigned.values() {
        let of =
            |fork: usize| sizes.iter().all(|(size, found)| root(&forks[fork][..*size]) == *found);
        let fork = (0..2).find(|fork| of(*fork)).expect("all of one history");
        taken[fork] += 1;
    }
    assert!(count > 200, "{count} cosignatures");
    tell(&format!(
        "a witness killed {kills} times: {calls} answers, {count} sizes of {} logs cosigned, {taken:?} of each history",
        cosigned.len()
    ));
}

fn race_log(log: u8) -> Log {
    let origin = format!("race.example/{log}");
    Log::new(&origin, &origin, 10 + log)
}

/// Asks for a cosignature on a longer tree of this history, whatever the other one has done.
fn race(
    dice: &mut Dice,
    fork: &[Hash],
    port: u16,
    key: &PublicKey,
    cosigned: &Cosigned,
) -> Option<()> {
    let number = dice.below(LOGS.into()) as u8;
    let log = race_log(number);
    let first = http(port, "POST", "/add-checkpoint", log.request(0, &fork[..1]).as_bytes());
    let old = match first {
        Ok(answer) if answer.status == 409 => answer.body.trim().parse().unwrap(),
        Ok(answer) if answer.status == 200 => 1,
        Ok(answer) => panic!("{}: {}", answer.status, answer.body),
        Err(_) => return None,
    };
    let new: usize = old + dice.below(4) as usize;
    if new > fork.len() {
        return None;
    }
    let request = log.request(old, &fork[..new]);
    let answer = http(port, "POST", "/add-checkpoint", request.as_bytes()).ok()?;
    match answer.status {
        200 => {
            let text = format!("{}\n{new}\n{}\n", log.origin, base64(&root(&fork[..new])));
            let bytes = unbase64(answer.body.trim().rsplit(' ').next().unwrap());
            let time = u64::from_be_bytes(bytes[4..12].try_into().unwrap());
            let statement = format!("cosignature/v1\ntime {time}\n{text}");
            let signature = Signature(bytes[12..].try_into().unwrap());
            assert!(key.verifies(statement.as_bytes(), &signature));
            let mut cosigned = cosigned.lock().unwrap();
            let known = cosigned.entry(number).or_default().insert(new, root(&fork[..new]));
            assert!(known.is_none_or(|known| known == root(&fork[..new])), "two roots at {new}");
        }
        409 | 422 => {}
        status => panic!("{status}: {}", answer.body),
    }
    Some(())
}
