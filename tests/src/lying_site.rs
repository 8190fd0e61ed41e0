//! A node's HTTPS side that lies to whoever reads it: it has the node's certificate, and all else
//! from an honest node.

use crate::{auditor, http_lines};
use link::tls::{ReloadingServer, TlsFiles};
use logseal::{site::Site, tiles::Tiles};
use logseal_ledger::config::{Config, Keys};
use record::{
    Checkpoint, Hash, Origin, TreeSize, UnixSeconds,
    merkle::{Frontier, leaf_hash, perfect_root},
    note::SignedNote,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::net::TcpListener;

/// So many nodes of a lying quorum sign, or all if there are fewer.
const LIARS: usize = 3;

/// What it lies about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// A root of its own making, which only it has signed.
    Root,
    /// A root of its own making, signed by a quorum that lies with it.
    ForkedQuorum,
    /// A word in every entry that has it.
    Entry(String, String),
    /// An old checkpoint.
    Old(Vec<u8>),
    /// All of it: the entries are these, signed by a quorum that lies with it.
    Ledger(Arc<Vec<Vec<u8>>>),
    /// The same, with those in front of one given up, and this for a base.
    Pruned {
        /// All entries.
        entries: Arc<Vec<Vec<u8>>>,
        /// The first that is served.
        first: usize,
        /// Whether it says that others were given up.
        admitted: bool,
        /// What is served as the base.
        base: Option<Vec<u8>>,
    },
}

/// The lying side, until it is dropped.
pub struct LyingSite {
    lie: Arc<Mutex<Lie>>,
    thread: Option<std::thread::JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

struct Server {
    lie: Arc<Mutex<Lie>>,
    tls: ReloadingServer,
    honest: String,
    files: TlsFiles,
    origin: Origin,
    keys: Vec<Keys>,
}

impl LyingSite {
    /// Takes the place of node `index`, which must not run, and reads from node `honest` unless it
    /// makes up everything.
    pub fn start(site: &Site, index: usize, honest: usize) -> Self {
        let config = Config::load(&site.node_dir(index).join("ledger.toml")).unwrap();
        let origin = &config.params.origin;
        let keys = (0..site.node_count()).map(|node| {
            Keys::load(&site.node_dir(node).join("keys"), origin, &site.node_name(node)).unwrap()
        });
        let lie = Arc::new(Mutex::new(Lie::None));
        let server = Server {
            lie: Arc::clone(&lie),
            tls: config.https_tls().unwrap(),
            honest: site.https_address(honest).to_string(),
            files: auditor(site),
            origin: origin.clone(),
            keys: keys.collect(),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let address = site.https_address(index);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind(address).await.unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = Arc::new(server).serve(listener) => {}
                }
            });
        });
        is_ready.recv().unwrap();
        LyingSite { lie, thread: Some(thread), stop: Some(stop) }
    }

    /// Lies like that from now on.
    pub fn lie(&self, lie: Lie) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }
}

impl Drop for LyingSite {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

impl Server {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                let limit = Duration::from_secs(10);
                let accepted = link::tls::accept_optional(stream, &server.tls, limit).await;
                let Ok((mut stream, _)) = accepted else { return };
                while let Some(request) = http_lines::read(&mut stream).await {
                    let body = server.respond(&request.path).await;
                    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
                    let body = body.unwrap_or_default();
                    if http_lines::answer(&mut stream, status, &body).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    async fn respond(&self, path: &str) -> Option<Vec<u8>> {
        let lie = self.lie.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match &lie {
            Lie::Ledger(entries) => return self.made_up(path, entries),
            Lie::Pruned { entries, first, admitted, base } => {
                if path == "/first-entry" && !admitted {
                    return Some(b"0\n".to_vec());
                }
                return self.pruned(path, entries, *first, base.as_deref());
            }
            _ => {}
        }
        let mut tiles = Tiles::connect(&self.honest, self.files.clone()).await.ok()?;
        if path == "/checkpoint" {
            let honest = tiles.checkpoint_bytes().await.ok()?.to_vec();
            return Some(self.checkpoint(&lie, honest));
        }
        match Tile::parse(path)? {
            Tile { level: None, index, width } => {
                bundle(&tiles.bundle(index, width).await.ok()?, &lie)
            }
            Tile { level: Some(level), index, width } => {
                Some(joined(&tiles.hashes(level, index, width).await.ok()?))
            }
        }
    }

    /// What a node would serve that gave up the entries in front of `first`.
    fn pruned(
        &self,
        path: &str,
        entries: &[Vec<u8>],
        first: usize,
        base: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        match path {
            "/first-entry" => return Some(format!("{first}\n").into_bytes()),
            "/base" => return base.map(<[u8]>::to_vec),
            _ => {}
        }
        if let Some(from) = path.strip_prefix("/entries-from/") {
            let from: usize = from.parse().ok().filter(|from| *from >= first)?;
            return bundle(entries.get(from..(from / 256 + 1) * 256)?, &Lie::None);
        }
        let gone = Tile::parse(path)
            .is_some_and(|tile| tile.level.is_none() && tile.index * 256 < first as u64);
        if gone { None } else { self.made_up(path, entries) }
    }

    /// What a node with these entries would serve.
    fn made_up(&self, path: &str, entries: &[Vec<u8>]) -> Option<Vec<u8>> {
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        if path == "/checkpoint" {
            let mut tree = Frontier::default();
            leaves.iter().for_each(|leaf| tree.push(*leaf));
            let size = TreeSize(leaves.len() as u64);
            let checkpoint = Checkpoint::new(self.origin.clone(), size, tree.root());
            return Some(self.signed(&checkpoint, LIARS));
        }
        let Tile { level, index, width } = Tile::parse(path)?;
        let first = usize::try_from(index).ok()? * 256;
        let range = first..first + usize::try_from(width).ok()?;
        match level {
            None => bundle(entries.get(range)?, &Lie::None),
            Some(level) => {
                let under = (0..level).fold(leaves, |below, _| {
                    below.chunks_exact(256).map(|full| perfect_root(full.to_vec())).collect()
                });
                Some(joined(under.get(range)?))
            }
        }
    }

    fn checkpoint(&self, lie: &Lie, honest: Vec<u8>) -> Vec<u8> {
        let signers = match lie {
            Lie::Root => 1,
            Lie::ForkedQuorum => LIARS,
            Lie::Old(old) => return old.clone(),
            Lie::None | Lie::Entry(..) | Lie::Ledger(_) | Lie::Pruned { .. } => return honest,
        };
        let note = SignedNote::parse(&honest).unwrap();
        let mut checkpoint = Checkpoint::parse(note.text()).unwrap();
        checkpoint.root = Hash([7; 32]);
        self.signed(&checkpoint, signers)
    }

    fn signed(&self, checkpoint: &Checkpoint, signers: usize) -> Vec<u8> {
        let (text, now) = (checkpoint.text(), service::clock::now().seconds());
        let mut note = SignedNote::new(text.clone());
        note.put(self.keys[0].log.sign(&text, UnixSeconds(0)));
        self.keys.iter().take(signers).for_each(|keys| note.put(keys.cosigner.sign(&text, now)));
        note.to_string().into_bytes()
    }
}

/// A tile or, without a level, a bundle.
struct Tile {
    level: Option<u8>,
    index: u64,
    width: u64,
}

impl Tile {
    /// Reads a path, of the first thousand of its level.
    fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("/tile/")?.split_once('/')?;
        let (index, width) = rest.split_once(".p/").unwrap_or((rest, "256"));
        let level = if level == "entries" { None } else { Some(level.parse().ok()?) };
        Some(Tile { level, index: index.parse().ok()?, width: width.parse().ok()? })
    }
}

fn bundle(entries: &[Vec<u8>], lie: &Lie) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        let entry = match lie {
            Lie::Entry(from, to) => String::from_utf8_lossy(entry).replace(from, to).into_bytes(),
            _ => entry.clone(),
        };
        out.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&entry);
    }
    Some(out)
}

fn joined(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}
