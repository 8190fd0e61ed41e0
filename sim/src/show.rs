//! How things look in a trace.

use crate::{drive::signatures, plan::Plan, world::World};
use record::Hash;
use replica::{
    BlockHeader, Event, Executed, Message,
    forge::{Said, certificate, said},
};

fn short(hash: &Hash) -> String {
    hash.0[..3].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn statement(said: &Said) -> String {
    let value = said.value.as_ref().map_or("nil".into(), short);
    let by: String = said.signer.0[..2].iter().map(|byte| format!("{byte:02x}")).collect();
    let pol = if said.pol_round < 0 { String::new() } else { format!(" pol r{}", said.pol_round) };
    format!("{:?} h{} r{} {value}{pol} by {by}", said.step, said.height, said.round)
}

/// A message.
pub fn message(message: &Message) -> String {
    match message {
        Message::Consensus(bytes) => said(bytes)
            .map(|said| statement(&said))
            .or_else(|| certificate(bytes))
            .unwrap_or_else(|| "noise".into()),
        Message::Proposal { signed, header } => {
            let what = said(signed).map_or_else(|| "no proposal".into(), |said| statement(&said));
            let header = BlockHeader::decode(header);
            let count = header.map_or(0, |header| header.batches.len());
            format!("{what}, {count} batches")
        }
        Message::Status(status) => {
            let until = status.abstains_until.0;
            format!("Status h{} size {} until {until}", status.height.0, status.size.0)
        }
        Message::Cosigned(c) => {
            format!("Cosigned h{} size {} {}", c.height.0, c.size.0, short(&c.root))
        }
        Message::Have(digests) => format!("Have {}", list(digests)),
        Message::Fetch(digests) => format!("Fetch {}", list(digests)),
        Message::FetchBlocks(from) => format!("FetchBlocks {}", from.0),
        Message::Body(kind, bytes) => {
            format!("{kind:?} {}", short(&record::batch::SealedBatch::digest(bytes)))
        }
        Message::Block(bytes) => format!("Block, {} bytes", bytes.len()),
        Message::Served => "Served".into(),
        Message::Pruned(bytes) => format!("Pruned, {} bytes", bytes.len()),
        Message::FetchBase(digest, offset) => format!("FetchBase {} from {offset}", short(digest)),
        Message::BasePart { total, offset, part } => {
            format!("BasePart, {} bytes from {offset} of {total}", part.len())
        }
        Message::FetchLeaves(chunk) => format!("FetchLeaves {chunk}"),
        Message::Leaves { chunk, hashes } => format!("Leaves {chunk}, {} bytes", hashes.len()),
    }
}

fn list(digests: &[Hash]) -> String {
    digests.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// A block that has become durable.
pub fn block(executed: &Executed) -> String {
    let header = &executed.block.header;
    format!(
        "block {} {} round {} of {} with {} batches, {} enrolments, {} equivocation, {} signatures",
        header.height.0,
        short(&header.id()),
        executed.block.certificate.round,
        header.proposer,
        header.batches.len(),
        header.enrolments.len(),
        header.equivocations.len(),
        signatures(executed),
    )
}

/// What a node reports.
pub fn event(event: &Event) -> String {
    match event {
        Event::Equivocation(equivocation) => {
            format!("Equivocation {:?} against {}", equivocation.kind, equivocation.culprit)
        }
        other => format!("{other:?}"),
    }
}

/// What will happen.
pub fn plan(plan: &Plan) -> String {
    format!(
        "{} nodes, {}, liars {:?}, {} agents, {} faults, calm at {} s",
        plan.nodes,
        plan.model,
        plan.liars,
        plan.agents,
        plan.faults.len(),
        plan.calm / 1_000_000,
    )
}

/// A node, for a complaint.
pub fn node(world: &World, at: usize) -> String {
    let node = &world.nodes[at];
    let process = node.process.as_ref().map_or("down".into(), |process| {
        let replica = &process.replica;
        let published = process.head.as_ref().map_or(0, |head| head.size.0);
        let (height, dropped) = (replica.state().height.0, replica.state().dropped_height().0);
        let shelf = node.disk.shelf();
        let lacks = match node.has_what_it_should(&shelf) {
            true => String::new(),
            false => format!(", from {} of {dropped} on, {:?}", shelf.floor(), shelf.rot),
        };
        format!("h{height} published {published} {:?}{lacks}", replica.standing())
    });
    let liar = if node.liar.is_some() { " (liar)" } else { "" };
    format!("n{at}{liar} {process}")
}
