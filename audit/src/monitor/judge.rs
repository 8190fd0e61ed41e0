//! Judging what the nodes show.

use super::{
    Monitor, Word,
    alarm::as_evidence,
    proof::{Relation, relation},
    read::Verdict,
};
use crate::{output::Failure, tiles::TilesError};
use record::{
    Checkpoint, Hash, TreeSize, UnixSeconds, note::SignedNote, policy::VerifiedCheckpoint,
};
use std::time::Instant;

/// A checkpoint that a node shows and that satisfies the policy.
pub(super) struct Shown {
    pub(super) node: usize,
    pub(super) size: TreeSize,
    root: Hash,
    note: SignedNote,
    fresh: Option<UnixSeconds>,
}

impl Shown {
    fn head(&self) -> (TreeSize, Hash) {
        (self.size, self.root)
    }
}

impl Monitor {
    /// What a node answered, if it is a checkpoint of this ledger that satisfies the policy.
    pub(super) async fn check_note(
        &mut self,
        node: usize,
        bytes: &[u8],
    ) -> Result<Option<Shown>, Failure> {
        let parsed = SignedNote::parse(bytes).map_err(|error| error.to_string());
        let verified = parsed.and_then(|note| {
            let verified = self.settings.policy.verify(&note);
            verified.map(|verified| (note, verified)).map_err(|error| error.to_string())
        });
        let verified = verified
            .and_then(|(note, verified)| self.check_date(&verified).map(|()| (note, verified)));
        match verified {
            Ok((note, verified)) => {
                self.clear(Word::BadCheckpoint, Some(node));
                let Checkpoint { size, root, .. } = *verified.checkpoint();
                Ok(Some(Shown { node, size, root, note, fresh: verified.fresh() }))
            }
            Err(problem) => {
                let problem = format!("its checkpoint does not hold: {problem}");
                let evidence = [("checkpoint", bytes.to_vec())];
                self.raise(Word::BadCheckpoint, Some(node), problem, &evidence).await?;
                Ok(None)
            }
        }
    }

    /// Cosignatures of the future could hide that nobody signs any more.
    fn check_date(&self, verified: &VerifiedCheckpoint) -> Result<(), String> {
        let latest = service::clock::now().seconds().0.saturating_add(self.settings.max_age);
        match verified.fresh() {
            Some(fresh) if fresh.0 > latest => {
                Err(format!("a quorum dated it {fresh}, in the future: is this clock right?"))
            }
            _ => Ok(()),
        }
    }

    /// Compares a checkpoint with all that is known; reads what is new. `guide` is a node that was
    /// found right in this pass, and how far it is. `begin` says whether to begin behind what a
    /// node gave up.
    pub(super) async fn judge(
        &mut self,
        shown: &Shown,
        guide: Option<(usize, TreeSize)>,
        begin: bool,
    ) -> Result<Verdict, Failure> {
        if !self.compare_with_itself(shown).await? {
            return Ok(Verdict::Wrong);
        }
        let known = (self.history.follower.size(), self.history.follower.root());
        let verdict = if shown.size == known.0 {
            self.same_root(shown, known).await?.into()
        } else if shown.size > known.0 {
            match self.extends(shown, known).await? {
                true => self.read_to(shown.node, &shown.note, begin).await?,
                false => Verdict::Wrong,
            }
        } else {
            self.is_beginning(shown, known, guide).await?.into()
        };
        if verdict == Verdict::Right {
            self.nodes[shown.node].unread = None;
            for word in [Word::Fork, Word::BadEntry, Word::Gap, Word::Withheld] {
                self.clear(word, Some(shown.node));
            }
            let address = self.nodes[shown.node].address.clone();
            let before = self.last_of(&address).map_or(TreeSize(0), |(_, size, _)| size);
            if shown.size >= before {
                self.clear(Word::Rollback, Some(shown.node));
                self.history.note_seen(&address, &shown.note);
            }
        }
        Ok(verdict)
    }

    /// A node never shows less than it has shown, nor another root. False if the latter.
    async fn compare_with_itself(&mut self, shown: &Shown) -> Result<bool, Failure> {
        let address = self.nodes[shown.node].address.clone();
        let Some((note, size, root)) = self.last_of(&address) else { return Ok(true) };
        let evidence = [("before", as_evidence(&note)), ("now", as_evidence(&shown.note))];
        if shown.size < size {
            let now = shown.size;
            let problem = format!("it shows {now} entries and has shown {size}");
            self.raise(Word::Rollback, Some(shown.node), problem, &evidence).await?;
        } else if shown.size == size && shown.root != root {
            let problem = format!("it shows two roots at {size} entries");
            self.raise(Word::Fork, Some(shown.node), problem, &evidence).await?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn same_root(&mut self, shown: &Shown, known: (TreeSize, Hash)) -> Result<bool, Failure> {
        if shown.root == known.1 {
            return Ok(true);
        }
        self.fork(shown, known.0).await
    }

    /// The checkpoint is of a longer tree: it must extend what was read.
    async fn extends(&mut self, shown: &Shown, known: (TreeSize, Hash)) -> Result<bool, Failure> {
        let node = &mut self.nodes[shown.node];
        let found = relation(node, &self.tls, shown.size, known, shown.head()).await;
        self.concluded(shown, shown.node, known.0, found).await
    }

    /// The checkpoint is of a shorter tree: it must be the beginning of what was read, by the tiles
    /// of a node that has all of it; or, if none has, extend what was seen still earlier.
    async fn is_beginning(
        &mut self,
        shown: &Shown,
        known: (TreeSize, Hash),
        guide: Option<(usize, TreeSize)>,
    ) -> Result<bool, Failure> {
        if let Some((guide, size)) = guide.filter(|(_, size)| *size >= known.0) {
            let node = &mut self.nodes[guide];
            let found = relation(node, &self.tls, size, shown.head(), known).await;
            return self.concluded(shown, guide, known.0, found).await;
        }
        let mut kept = self.history.notes.iter().rev().filter_map(head_of);
        let Some(earlier) = kept.find(|(size, _)| *size <= shown.size) else {
            return Ok(true);
        };
        let node = &mut self.nodes[shown.node];
        let found = match earlier.0 == shown.size {
            true if earlier.1 == shown.root => Ok(Relation::Extends),
            true => Ok(Relation::Forked),
            false => relation(node, &self.tls, shown.size, earlier, shown.head()).await,
        };
        self.concluded(shown, shown.node, earlier.0, found).await
    }

    /// What a comparison by the tiles of `by` says of `shown`.
    async fn concluded(
        &mut self,
        shown: &Shown,
        by: usize,
        with: TreeSize,
        found: Result<Relation, TilesError>,
    ) -> Result<bool, Failure> {
        match found {
            Ok(Relation::Extends) => Ok(true),
            Ok(Relation::Forked) => self.fork(shown, with).await,
            Ok(Relation::WrongTiles) => {
                let problem = "its hash tiles do not lead to its own checkpoint".to_owned();
                let evidence = [("checkpoint", as_evidence(&shown.note))];
                self.raise(Word::BadEntry, Some(by), problem, &evidence).await?;
                Ok(false)
            }
            Err(error) => self.not_read(by, &error).await.map(|()| false),
        }
    }

    /// A node did not give what its checkpoint says that it has.
    pub(super) async fn not_read(
        &mut self,
        node: usize,
        error: &TilesError,
    ) -> Result<(), Failure> {
        match error {
            TilesError::Malformed(problem) | TilesError::NotFound(problem) => {
                let problem = format!("it does not serve what it signed for: {problem}");
                self.raise(Word::BadEntry, Some(node), problem, &[]).await
            }
            _ if self.settings.once => self.not_shown(node, error).await,
            _ => self.withheld(node, error).await,
        }
    }

    /// The checkpoint does not fit the one that was known at `with` entries.
    async fn fork(&mut self, shown: &Shown, with: TreeSize) -> Result<bool, Failure> {
        let kept = self.history.notes.iter();
        let at = |note: &&SignedNote| head_of(note).is_some_and(|(size, _)| size >= with);
        let known = kept.clone().find(at).or(kept.clone().last());
        let mut evidence = vec![("now", as_evidence(&shown.note))];
        evidence.extend(known.map(|note| ("before", as_evidence(note))));
        let size = shown.size;
        let problem = match size == with {
            true => format!("two roots at {size} entries, both signed"),
            false => format!(
                "what it shows at {size} entries is another history than was shown at {with}"
            ),
        };
        self.raise(Word::Fork, Some(shown.node), problem, &evidence).await?;
        Ok(false)
    }

    /// The newest that a node has shown before.
    fn last_of(&self, address: &str) -> Option<(SignedNote, TreeSize, Hash)> {
        let seen = self.history.seen.iter().find(|seen| seen.node == address)?;
        let (size, root) = head_of(&seen.note)?;
        Some((seen.note.clone(), size, root))
    }

    /// Somebody must have cosigned lately.
    pub(super) async fn check_age(&mut self, shown: &[Shown]) -> Result<(), Failure> {
        let Some(fresh) = shown.iter().filter_map(|shown| shown.fresh).max() else {
            return Ok(());
        };
        let age = service::clock::now().seconds().0.saturating_sub(fresh.0);
        if age > self.settings.max_age {
            let problem = format!("no quorum has cosigned since {fresh}, {age} s ago");
            return self.raise(Word::Stale, None, problem, &[]).await;
        }
        self.clear(Word::Stale, None);
        Ok(())
    }

    /// What was seen under a quorum, some node must have, soon if not now.
    pub(super) async fn check_behind(&mut self, shown: &[Shown]) -> Result<(), Failure> {
        let known = self.history.follower.size();
        let best = shown.iter().max_by_key(|shown| shown.size);
        let Some(best) = best.filter(|best| best.size < known) else {
            if best.is_some() {
                self.behind = None;
                self.clear(Word::Rollback, None);
            }
            return Ok(());
        };
        let since = *self.behind.get_or_insert_with(Instant::now);
        if since.elapsed() < self.settings.patience {
            return Ok(());
        }
        let now = best.size;
        let problem = format!("{known} entries were shown, and no node shows more than {now}");
        let mut evidence = vec![("now", as_evidence(&best.note))];
        evidence.extend(self.history.notes.last().map(|note| ("before", as_evidence(note))));
        self.raise(Word::Rollback, None, problem, &evidence).await
    }
}

/// What a checkpoint that was verified before says.
fn head_of(note: &SignedNote) -> Option<(TreeSize, Hash)> {
    Checkpoint::parse(note.text()).ok().map(|checkpoint| (checkpoint.size, checkpoint.root))
}
