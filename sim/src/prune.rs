//! What a node's driver does with what was given up, and what its disk lost; and what operators declare.

use crate::{
    cast,
    check::{Verdict, Violation, violated},
    disk::{Kept, Rot, Shelf},
    drive::LINE,
    node::{Input, Node, placed},
    plan::{Declare, Rotten},
    world::{Happening, SECOND, World},
};
use bytes::Bytes;
use record::{
    Hash, TreeSize, UnixMillis,
    block::Height,
    declaration::{Drill, Matter, Prune},
};
use replica::{Base, Block, Message, NodeIndex, base_part};
use std::sync::Arc;

const DAY_MS: u64 = 86_400_000;

impl Node {
    /// True if its disk has all that was durable, and nothing that was to go.
    pub fn has_what_it_should(&self, shelf: &Shelf) -> bool {
        let Some(process) = &self.process else { return false };
        let state = process.replica.state();
        let dropped = state.dropped_height().0;
        let lost = shelf.rot.blocks.iter().any(|height| *height > dropped);
        let due = state.pruned.as_ref().is_some_and(|it| it.prune.days >= self.retention);
        !lost && !shelf.rot.base && !shelf.rot.leaves && (!due || shelf.floor() >= dropped)
    }
}

impl World {
    pub(crate) fn grow_older(&mut self, days: u64) {
        self.aged += days * DAY_MS;
        self.nodes.iter_mut().for_each(|node| node.clock.aged += days * DAY_MS);
    }

    /// An operator signs something, and brings it to a node.
    pub(crate) fn declare(&mut self, node: usize, what: Declare) {
        let now = UnixMillis(self.wall().0 * 1000);
        let shelf = self.nodes[node].disk.shelf();
        let declaration = match what {
            Declare::Drill => Some(drill(now)),
            Declare::Prune { permille, days } => shelf.plan(days, now, permille).map(Matter::Prune),
            Declare::Wrong(kind) => {
                let later = UnixMillis(now.0 + if kind == 0 { 400 * DAY_MS } else { 0 });
                shelf.plan(365, later, 500).map(|prune| Matter::Prune(wrong(kind, prune)))
            }
        };
        drop(shelf);
        let Some(matter) = declaration else { return };
        let mut declaration = cast::declaration(matter, self.wall());
        if matches!(what, Declare::Wrong(6)) {
            declaration.signature = vec![3];
        }
        self.tally.one("declarations");
        let incarnation = self.nodes[node].incarnation;
        let input = Input::Declare(Box::new(declaration));
        self.after(LINE, Happening::Reach { node, incarnation, input });
    }

    pub(crate) fn declared(&mut self, node: usize, taken: Result<(), String>) -> Verdict {
        match taken {
            Ok(()) => self.tally.one("declarations taken"),
            Err(why) => self.say(format_args!("n{node} takes no declaration: {why}")),
        }
        Ok(())
    }

    /// A disk loses something that others have.
    pub(crate) fn rot(&mut self, node: usize, what: Rotten) {
        let rotten = |node: &Node| node.disk.shelf().rot != Rot::default();
        let liar = self.nodes[node].liar.is_some();
        if self.plan.nodes == 1 || liar || self.nodes.iter().any(rotten) || !self.may_rot(node) {
            return;
        }
        let mut shelf = self.nodes[node].disk.shelf();
        let (floor, height) = (shelf.floor(), shelf.height());
        match what {
            Rotten::Block { permille } if height > floor + 3 => {
                let at = floor + 1 + (height - floor - 3) * permille / 1000;
                shelf.rot.blocks.insert(at);
            }
            Rotten::Base if shelf.kept.is_some() => shelf.rot.base = true,
            Rotten::Leaves if shelf.kept.is_some() => shelf.rot.leaves = true,
            _ => return,
        }
        drop(shelf);
        self.tally.one("rot");
        self.scrub_soon(node);
    }

    /// Somebody else must be able to help: not all who could may have lost their disks.
    fn may_rot(&self, node: usize) -> bool {
        let shelf = self.nodes[node].disk.shelf();
        let (floor, tip) = (shelf.floor(), shelf.height());
        drop(shelf);
        let helps = |other: &Node| {
            let shelf = other.disk.shelf();
            other.liar.is_none() && shelf.floor() == floor && shelf.height() + 2 >= tip
        };
        self.nodes.iter().filter(|other| helps(other)).count() > self.members.tolerates() + 1
    }

    pub(crate) fn scrub_soon(&mut self, node: usize) {
        if self.nodes[node].disk.shelf().rot != Rot::default() {
            let incarnation = self.nodes[node].incarnation;
            self.after(SECOND / 2, Happening::Scrub { node, incarnation });
        }
    }

    /// The scrub looks at everything, and asks others for what cannot be read.
    pub(crate) fn scrub(&mut self, node: usize) -> Verdict {
        let Node { process, disk, .. } = &mut self.nodes[node];
        let Some(process) = process else { return Ok(()) };
        let shelf = disk.shelf();
        let (rot, kept) = (shelf.rot.clone(), shelf.kept.clone());
        drop(shelf);
        // The others have only the newest.
        let newest = process.replica.state().pruned.as_ref().map(|pruned| pruned.prune.base);
        process.replica.mend(rot.blocks.iter().copied().map(Height));
        if let Some(kept) = kept {
            if rot.base {
                process.replica.want_base(newest.unwrap_or(kept.digest));
            } else if rot.leaves {
                process.replica.want_chunks(&kept.base, 0..kept.base.chunk_count());
            }
        }
        self.give_up(node)?;
        self.scrub_soon(node);
        if self.nodes[node].process.as_ref().is_some_and(|process| !process.blocked) {
            return self.work(node);
        }
        Ok(())
    }

    /// Gives up what was decided to be given up, if it can be done now.
    pub(crate) fn give_up(&mut self, node: usize) -> Verdict {
        let Node { process, disk, retention, .. } = &mut self.nodes[node];
        let Some(process) = process else { return Ok(()) };
        let pruned = process.replica.state().pruned.as_ref().map(|pruned| &pruned.prune);
        let Some(prune) = pruned.filter(|prune| prune.days >= *retention) else { return Ok(()) };
        let mut shelf = disk.shelf();
        if shelf.floor() >= prune.height.0 {
            return Ok(());
        }
        let (kept, state) = (shelf.base_of(prune.height.0), shelf.state(prune.height.0));
        let (Some(kept), Some(state)) = (kept, state) else {
            // Nobody may have the blocks any more that it cannot read, but others have the base.
            let digest = prune.base;
            drop(shelf);
            process.replica.want_base(digest);
            return Ok(());
        };
        self.checker.gave_up(node, &kept, &state)?;
        shelf.give_up(kept);
        drop(shelf);
        self.tally.one("blocks given up");
        self.say(format_args!("n{node} gives up what is old"));
        Ok(())
    }

    /// Tells a node that the blocks from this one on were given up, if they were.
    pub(crate) fn serve_pruned(
        &mut self,
        node: usize,
        to: NodeIndex,
        from: u64,
    ) -> Result<bool, Violation> {
        let shelf = self.nodes[node].disk.shelf();
        let pruned = (from <= shelf.floor()).then(|| shelf.pruned_by());
        drop(shelf);
        if let Some(Some(bytes)) = &pruned {
            self.transmit(node, usize::from(to.0), &Message::Pruned(bytes.clone()), 0)?;
        }
        Ok(pruned.is_some())
    }

    pub(crate) fn serve_base(
        &mut self,
        node: usize,
        to: NodeIndex,
        digest: Hash,
        offset: u64,
    ) -> Verdict {
        let shelf = self.nodes[node].disk.shelf();
        let kept = shelf.kept.clone().filter(|_| !shelf.rot.base);
        drop(shelf);
        match kept.filter(|kept| kept.digest == digest) {
            Some(kept) => {
                let part = base_part(&kept.encoded, offset);
                self.transmit(node, usize::from(to.0), &part, 0)
            }
            None => self.serve_pruned(node, to, 1).map(drop),
        }
    }

    pub(crate) fn serve_leaves(&mut self, node: usize, to: NodeIndex, chunk: u64) -> Verdict {
        let shelf = self.nodes[node].disk.shelf();
        let leaves =
            shelf.chunk(chunk).map(|leaves| leaves.iter().flat_map(|leaf| leaf.0).collect());
        drop(shelf);
        let Some(hashes) = leaves.map(Vec::<u8>::into) else { return Ok(()) };
        self.transmit(node, usize::from(to.0), &Message::Leaves { chunk, hashes }, 0)
    }

    pub(crate) fn mended(&mut self, node: usize, height: u64, bytes: &Bytes) -> Verdict {
        let mut shelf = self.nodes[node].disk.shelf();
        if !shelf.rot.blocks.remove(&height) {
            return Ok(());
        }
        let (was, found) = (shelf.block(height), Block::decode(bytes));
        drop(shelf);
        let Some(was) = was.and_then(|was| Block::decode(&was).ok()) else { return Ok(()) };
        // Each node keeps the votes that it saw first; everything else is the same.
        let same =
            found.is_ok_and(|found| Block { certificate: was.certificate.clone(), ..found } == was);
        self.tally.one("blocks mended");
        if same { Ok(()) } else { violated(format!("MENDED: n{node} has another block {height}")) }
    }

    pub(crate) fn base_came(
        &mut self,
        node: usize,
        base: Arc<Base>,
        encoded: Bytes,
        begins: bool,
    ) -> Verdict {
        let kept = Kept { digest: Base::digest_of(&encoded), base, encoded };
        let Node { process, disk, .. } = &mut self.nodes[node];
        if begins {
            let Some(process) = process else { return Ok(()) };
            process.leaves.clear();
            process.fetched = Some(kept);
            return Ok(());
        }
        let mut shelf = disk.shelf();
        shelf.rot.base = false;
        let height = kept.base.header.height.0;
        if let Some(state) = shelf.state(height).filter(|_| height > shelf.floor()) {
            self.checker.gave_up(node, &kept, &state)?;
            shelf.give_up(kept.clone());
        }
        let same = shelf.kept.as_ref().is_some_and(|was| was.encoded == kept.encoded);
        drop(shelf);
        self.tally.one("bases mended");
        if same { Ok(()) } else { violated(format!("MENDED: n{node} has another base")) }
    }

    pub(crate) fn leaves_came(&mut self, node: usize, chunk: u64, leaves: Vec<Hash>) -> Verdict {
        let Node { process, disk, .. } = &mut self.nodes[node];
        let Some(process) = process else { return Ok(()) };
        if process.fetched.is_some() {
            process.leaves.insert(chunk, leaves);
            return Ok(());
        }
        let mut shelf = disk.shelf();
        shelf.rot.leaves = false;
        let same = shelf.chunk(chunk).is_some_and(|was| was.starts_with(&leaves));
        drop(shelf);
        self.tally.one("leaf hashes mended");
        if same { Ok(()) } else { violated(format!("MENDED: n{node} has other leaf hashes")) }
    }

    /// All that belongs to a base came.
    pub(crate) fn rebase(&mut self, node: usize, base: &Base) -> Verdict {
        let now = self.now(node);
        let Node { process, disk, published, .. } = &mut self.nodes[node];
        let Some(process) = process else { return Ok(()) };
        let kept = process.fetched.take().filter(|kept| *kept.base == *base);
        let leaves: Vec<Hash> =
            std::mem::take(&mut process.leaves).into_values().flatten().collect();
        let Some(kept) = kept else {
            return violated(format!("n{node} begins again with a base that did not come"));
        };
        self.checker.rebased(node, &kept, &leaves)?;
        disk.shelf().begin_again(kept, leaves);
        disk.release();
        process.replica.handle_rebased(now, base);
        process.placed.extend(placed(&disk.shelf()));
        *published = None;
        self.tally.one("nodes that began again with a base");
        self.say(format_args!("n{node} begins again behind block {}", base.header.height.0));
        Ok(())
    }
}

fn drill(now: UnixMillis) -> Matter {
    Matter::Drill(Drill {
        verified: true,
        snapshot: "snapshot".into(),
        size: TreeSize(0),
        root: Hash([0; 32]),
        begun: now,
        millis: 1,
        report: Hash([1; 32]),
    })
}

/// What no node may agree to.
fn wrong(kind: u64, mut prune: Prune) -> Prune {
    match kind {
        1 => prune.base.0[0] ^= 1,
        2 => prune.days = 364,
        3 => prune.from.0 += 1,
        4 => prune.height.0 += 1,
        5 => prune.before.0 -= 1,
        _ => {}
    }
    prune
}
