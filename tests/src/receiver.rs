//! A receiver of posts, over HTTP or HTTPS, that does with each what a test says.

use crate::{
    http_lines::{self, Request},
    wait_for,
};
use link::tls::PublicServer;
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

/// What is done with a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status such as `204 No Content`.
    Status(&'static str),
    /// The connection is ended without an answer.
    HangUp,
}

/// The receiver, until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    secure: bool,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

#[derive(Default)]
struct Shared {
    /// What is done with the next ones; then each is taken.
    replies: Mutex<VecDeque<Reply>>,
    taken: Mutex<Vec<Request>>,
}

impl Receiver {
    /// Listens on loopback, with TLS if a certificate and its key are given, and does `replies`
    /// with the first posts.
    pub fn start(tls: Option<(PathBuf, PathBuf)>, replies: &[Reply]) -> Self {
        let shared = Arc::new(Shared::default());
        *lock(&shared.replies) = replies.iter().cloned().collect();
        let tls = tls.map(|(cert, key)| Arc::new(PublicServer::open(cert, key).unwrap()));
        let secure = tls.is_some();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serves = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = serve(serves, listener, tls) => {}
                }
            });
        });
        let address = is_ready.recv().unwrap();
        Receiver { address, secure, shared, thread: Some(thread), stop: Some(stop) }
    }

    /// Where it takes posts.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}/hook", self.address)
    }

    /// `HOST:PORT`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// All requests so far.
    pub fn taken(&self) -> Vec<Request> {
        lock(&self.shared.taken).clone()
    }

    /// Waits until there were so many requests.
    pub fn wait_taken(&self, count: usize) -> Vec<Request> {
        wait_for("posts", || Some(self.taken()).filter(|taken| taken.len() >= count))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(shared: Arc<Shared>, listener: TcpListener, tls: Option<Arc<PublicServer>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => talk(&shared, stream).await,
                Some(tls) => match tls.accept(stream, Duration::from_secs(10)).await {
                    Ok(stream) => talk(&shared, stream).await,
                    // Whoever does not trust the certificate has gone.
                    Err(_) => None,
                },
            }
        });
    }
}

/// Serves a connection to its end.
async fn talk(shared: &Shared, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
    loop {
        let request = http_lines::read(&mut stream).await?;
        lock(&shared.taken).push(request);
        let reply = lock(&shared.replies).pop_front();
        match reply.unwrap_or(Reply::Status("204 No Content")) {
            Reply::Status(status) => {
                http_lines::answer(&mut stream, status, b"").await.ok()?;
            }
            Reply::HangUp => return None,
        }
    }
}
