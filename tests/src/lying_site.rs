//! A node's HTTPS side that lies to whoever reads it: it has the node's certificate, and all else
//! from an honest node.

use crate::auditor;
use http_lines::{Request, answer};
use link::tls::{ReloadingServer, TlsFiles};
use logseal::{
    site::Site,
    tiles::{Tiles, TilesError},
};
use logseal_ledger::config::{Config, Keys};
use record::{Checkpoint, Hash, UnixSeconds, note::SignedNote};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpListener};

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
    keys: Vec<Keys>,
}

impl LyingSite {
    /// Takes the place of node `index`, which must not run, and reads from node `honest`.
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
                while let Some(Request { path }) = http_lines::read(&mut stream).await {
                    let body = server.respond(&path).await;
                    if answer(&mut stream, body.as_deref()).await.is_err() {
                        return;
                    }
                }
                let _ = stream.read(&mut [0]).await;
            });
        }
    }

    async fn respond(&self, path: &str) -> Option<Vec<u8>> {
        let lie = self.lie.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut tiles = Tiles::connect(&self.honest, self.files.clone()).await.ok()?;
        if path == "/checkpoint" {
            let honest = tiles.checkpoint_bytes().await.ok()?.to_vec();
            return Some(self.checkpoint(&lie, honest));
        }
        let rest = path.strip_prefix("/tile/")?;
        let (level, rest) = rest.split_once('/')?;
        let (index, width) = rest.split_once(".p/").unwrap_or((rest, "256"));
        let (index, width) = (index.parse().ok()?, width.parse().ok()?);
        match level {
            "entries" => bundle(tiles.bundle(index, width).await, &lie),
            level => {
                let hashes = tiles.hashes(level.parse().ok()?, index, width).await.ok()?;
                Some(hashes.iter().flat_map(|hash| hash.0).collect())
            }
        }
    }

    fn checkpoint(&self, lie: &Lie, honest: Vec<u8>) -> Vec<u8> {
        let signers = match lie {
            Lie::Root => 1,
            Lie::ForkedQuorum => 3,
            Lie::Old(old) => return old.clone(),
            Lie::None | Lie::Entry(..) => return honest,
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

fn bundle(entries: Result<Vec<Vec<u8>>, TilesError>, lie: &Lie) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries.ok()? {
        let entry = match lie {
            Lie::Entry(from, to) => String::from_utf8_lossy(&entry).replace(from, to).into_bytes(),
            _ => entry,
        };
        out.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&entry);
    }
    Some(out)
}

/// As much of HTTP/1.1 as a liar needs.
mod http_lines {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    pub(super) struct Request {
        pub(super) path: String,
    }

    /// The next request, up to its blank line.
    pub(super) async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Request> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok().filter(|_| head.len() < 8192)?);
        }
        let head = String::from_utf8(head).ok()?;
        let path = head.split(' ').nth(1)?.to_owned();
        Some(Request { path })
    }

    pub(super) async fn answer(
        stream: &mut (impl AsyncWriteExt + Unpin),
        body: Option<&[u8]>,
    ) -> std::io::Result<()> {
        let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
        let body = body.unwrap_or_default();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        stream.flush().await
    }
}
