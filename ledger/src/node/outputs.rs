//! Carrying out what the replica wants, in order.

use super::{Node, NodeError};
use crate::peers::Lane;
use bytes::Bytes;
use journal::Seq;
use record::block::Height;
use replica::{Executed, Head, Message, NodeIndex, Output};
use std::time::Instant;

/// How many blocks are sent for one request.
const SERVED_BLOCKS: u64 = 64;
/// How many bytes of them, unless the first one is larger.
const SERVED_BYTES: usize = 8 << 20;

impl Node {
    /// Carries out outputs until there are none.
    pub(super) fn carry_out(&mut self) -> Result<(), NodeError> {
        while let Some(output) = self.replica.poll()? {
            match output {
                Output::Log(record) => self.log(&record)?,
                Output::SyncLog => self.sync_log()?,
                Output::Send { to, message } => self.send(to, &message),
                Output::Append(executed) => self.append(executed)?,
                Output::Published(head) => self.publish(&head),
                Output::ServeBlocks { to, from } => self.serve_blocks(to, from),
                Output::Mended { height, bytes } => self.handle_mended(height, &bytes),
                Output::Dropped(pending) => self.answers.dropped(&pending),
                Output::Declined { digest, why } => self.answers.declined(&digest, why),
                Output::ServeBase { to, digest, offset } => self.serve_base(to, digest, offset),
                Output::ServeLeaves { to, chunk } => self.serve_leaves(to, chunk),
                Output::Base { base, encoded, begins } => {
                    self.handle_base(base, &encoded, begins)?;
                }
                Output::Leaves { chunk, leaves } => self.handle_leaves(chunk, &leaves)?,
                Output::Rebase(_) => self.rebase()?,
                Output::Event(event) => self.handle_news(event)?,
            }
        }
        Ok(())
    }

    fn log(&mut self, record: &[u8]) -> Result<(), NodeError> {
        Ok(self.while_full(|node| match &mut node.votes {
            Some(votes) => votes.append(record),
            None => Ok(()),
        })?)
    }

    fn sync_log(&mut self) -> Result<(), NodeError> {
        Ok(self.while_full(|node| match &mut node.votes {
            Some(votes) => votes.sync(),
            None => Ok(()),
        })?)
    }

    pub(super) fn send(&self, to: Option<NodeIndex>, message: &Message) {
        let Some(outlets) = &self.links.outlets else { return };
        let lane = if message.is_bulk() { Lane::Bulk } else { Lane::Control };
        let frame = Bytes::from(message.encode());
        if frame.len() > lane.max_frame() {
            tracing::error!(bytes = frame.len(), %lane, "a message is too large to be sent");
            return;
        }
        let own = self.replica.own();
        for (index, member) in self.replica.members().iter() {
            if index != own && to.is_none_or(|to| to == index) {
                // What cannot be sent is dropped: the replica repeats it when it matters.
                outlets.send(&member.name, lane, frame.clone());
            }
        }
    }

    fn append(&mut self, executed: Box<Executed>) -> Result<(), NodeError> {
        let begun = Instant::now();
        self.while_full(|node| node.store.append(&executed))?;
        self.while_full(|node| node.store.record(&executed, node.replica.state()))?;
        if let Some(votes) = &mut self.votes {
            votes.release()?;
        }
        let header = &executed.block.header;
        let records: u64 = executed.placed.iter().map(|placed| u64::from(placed.count)).sum();
        self.metrics.blocks.inc();
        self.metrics.batches.inc_by(header.batches.len() as u64);
        self.metrics.records.inc_by(records);
        self.view.set_logs(executed.agents.clone());
        let now = self.now();
        self.replica.handle_durable(now, &executed)?;
        self.unflushed.get_or_insert_with(Instant::now);
        self.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        self.answers.appended(executed);
        self.note_tip();
        Ok(())
    }

    fn publish(&mut self, head: &Head) {
        // Whoever has a receipt finds its batch under the newest checkpoint.
        self.view.set_head(crate::view::Head {
            height: head.height,
            size: head.size,
            checkpoint: Some(head.checkpoint.clone()),
        });
        self.answers.published(&self.store.reader(), head);
    }

    fn serve_blocks(&self, to: NodeIndex, from: Height) {
        let Some(outlets) = &self.links.outlets else { return };
        let peer = &self.replica.members().get(to).name;
        if self.serve_pruned(peer, from) {
            outlets.send(peer, Lane::Bulk, Message::Served.encode().into());
            return;
        }
        let (reader, tip) = (self.store.reader(), self.replica.state().height);
        let mut sent = 0;
        let last = tip.0.min(from.0.saturating_add(SERVED_BLOCKS - 1));
        for height in from.0.max(1)..=last {
            let bytes = match reader.block_bytes(Seq(height - 1)) {
                Ok(bytes) => Bytes::from(bytes),
                Err(error) => {
                    tracing::error!(%error, height, "a block cannot be read for another node");
                    break;
                }
            };
            if sent > 0 && sent + bytes.len() > SERVED_BYTES {
                break;
            }
            sent += bytes.len();
            if !outlets.send(peer, Lane::Bulk, Message::Block(bytes).encode().into()) {
                break;
            }
        }
        outlets.send(peer, Lane::Bulk, Message::Served.encode().into());
    }
}
