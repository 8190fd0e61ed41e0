//! What stays of blocks that are given up, made from what executing them led to.

use record::{
    TreeSize,
    batch::Codec,
    merkle::{EntryIndex, perfect_root},
};
use replica::{
    Base, BaseLog, CHUNK, Executed, LedgerState, MAX_NEWEST, Params, entries::for_each_entry,
};

/// The base of the blocks up to the last of `blocks`, which stand behind `before`. `state` is the ledger there.
pub fn make<'b>(
    params: &Params,
    before: Option<&Base>,
    blocks: impl Iterator<Item = &'b Executed> + Clone,
    state: &LedgerState,
    leaves: &[record::Hash],
) -> Option<Base> {
    let header = blocks.clone().last()?.block.header.clone();
    let TreeSize(size) = header.size;
    let whole = leaves.get(..size as usize)?.chunks_exact(CHUNK as usize);
    let mut base = Base {
        frontier: state.tree.clone(),
        chunks: whole.map(|chunk| perfect_root(chunk.to_vec())).collect(),
        header,
        agents: state
            .agents
            .iter()
            .map(|(agent, log)| {
                let newest = before.and_then(|base| base.agents.get(agent));
                let newest = newest.map(|log| log.newest.clone()).unwrap_or_default();
                (
                    agent.clone(),
                    BaseLog { frontier: log.frontier.clone(), sealed: log.sealed, newest },
                )
            })
            .collect(),
        kept: before.map(|base| base.kept.clone()).unwrap_or_default(),
    };
    for executed in blocks {
        for placed in &executed.placed {
            let log = base.agents.get_mut(&placed.agent)?;
            log.newest.push(placed.clone());
            let more = log.newest.len().saturating_sub(MAX_NEWEST);
            log.newest.drain(..more);
        }
        for index in &executed.kept {
            let (mut entry, wanted) = (vec![], *index..EntryIndex(index.0 + 1));
            let found = |bytes: &[u8]| entry.extend_from_slice(bytes);
            for_each_entry(params, &executed.block, wanted, &mut Codec::default(), found).ok()?;
            base.kept.insert(*index, entry);
        }
    }
    Some(base)
}
