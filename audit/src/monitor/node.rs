//! The nodes, as they are asked.

use super::{Monitor, Word, read::Reading};
use crate::{
    output::Failure,
    tiles::{Tiles, TilesError},
};
use hyper::body::Bytes;
use link::tls::ReloadingClient;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a node may take for its checkpoint: one that is silent must not blind us to the others.
const LIMIT: Duration = Duration::from_secs(10);

/// A node, and how it goes with it.
pub(super) struct Node {
    /// Its HTTPS address, `HOST:PORT`.
    pub(super) address: String,
    tiles: Option<Tiles>,
    /// Since when it has not answered.
    silent: Option<Instant>,
    /// Since when it has not given what its checkpoints are over.
    pub(super) unread: Option<Instant>,
    /// How far it was read behind its base, as long as nothing declares that.
    pub(super) behind: Option<Box<Reading>>,
    /// Since when all was read that its checkpoint is over, and did not declare it.
    pub(super) undeclared: Option<Instant>,
}

impl Node {
    pub(super) fn new(address: String) -> Self {
        Node { address, tiles: None, silent: None, unread: None, behind: None, undeclared: None }
    }

    /// Does something with the node, over the connection that is there or a new one.
    pub(super) async fn with<T>(
        &mut self,
        tls: &ReloadingClient,
        ask: impl AsyncFn(&mut Tiles) -> Result<T, TilesError>,
    ) -> Result<T, TilesError> {
        // A kept connection may have ended meanwhile: that says nothing about the node.
        if let Some(mut tiles) = self.tiles.take() {
            match ask(&mut tiles).await {
                Err(TilesError::Away(_)) => {}
                answer => {
                    self.tiles = Some(tiles);
                    return answer;
                }
            }
        }
        let mut tiles = Tiles::connect_with(&self.address, tls).await?;
        let answer = ask(&mut tiles).await;
        if !matches!(answer, Err(TilesError::Away(_))) {
            self.tiles = Some(tiles);
        }
        answer
    }
}

/// A node's checkpoint, if it gives one in time.
async fn ask(node: &mut Node, tls: &ReloadingClient) -> Result<Bytes, TilesError> {
    let answer = node.with(tls, async |tiles| tiles.checkpoint_bytes().await);
    match timeout(LIMIT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(TilesError::Away(format!("no answer within {LIMIT:?}"))),
    }
}

impl Monitor {
    /// The checkpoints of all nodes, asked for at once.
    pub(super) async fn ask_all(&mut self) -> Vec<(usize, Result<Bytes, TilesError>)> {
        let tls = &self.tls;
        let ask = |node| Box::pin(ask(node, tls));
        let mut asking: Vec<_> = self.nodes.iter_mut().map(ask).collect();
        let mut answers: Vec<Option<_>> = asking.iter().map(|_| None).collect();
        std::future::poll_fn(|context| {
            for (asking, answer) in asking.iter_mut().zip(&mut answers) {
                if answer.is_none()
                    && let std::task::Poll::Ready(ready) = asking.as_mut().poll(context)
                {
                    *answer = Some(ready);
                }
            }
            match answers.iter().all(Option::is_some) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        answers.into_iter().flatten().enumerate().collect()
    }

    /// A node answered.
    pub(super) async fn back(&mut self, node: usize) -> Result<(), Failure> {
        self.nodes[node].silent = None;
        self.clear(Word::Unreachable, Some(node));
        Ok(())
    }

    /// A node gave no checkpoint.
    pub(super) async fn not_shown(
        &mut self,
        node: usize,
        error: &TilesError,
    ) -> Result<(), Failure> {
        if let TilesError::Malformed(problem) | TilesError::NotFound(problem) = error {
            let problem = format!("what it serves is no checkpoint: {problem}");
            return self.raise(Word::BadCheckpoint, Some(node), problem, &[]).await;
        }
        let since = *self.nodes[node].silent.get_or_insert_with(Instant::now);
        if self.settings.once || since.elapsed() >= self.settings.patience {
            let problem = format!("it does not answer as it should: {error}");
            self.raise(Word::Unreachable, Some(node), problem, &[]).await?;
        }
        Ok(())
    }

    /// A node shows checkpoints, and does not give what they are over. For a while that happens to everybody; for
    /// longer it is how a node would keep us from seeing.
    pub(super) async fn withheld(
        &mut self,
        node: usize,
        error: &TilesError,
    ) -> Result<(), Failure> {
        let since = *self.nodes[node].unread.get_or_insert_with(Instant::now);
        if since.elapsed() < self.settings.patience {
            return Ok(());
        }
        let seconds = since.elapsed().as_secs();
        let problem =
            format!("it shows checkpoints, and for {seconds} s not what they are over: {error}");
        self.raise(Word::Withheld, Some(node), problem, &[]).await
    }
}
