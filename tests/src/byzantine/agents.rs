//! To agents: a welcome that fits, and receipts that prove nothing.

use super::{Failure, LIMIT, Liar};
use link::{
    Identity,
    frame::{FrameReader, FrameWriter},
    message::{BatchReceipt, FromNode, MAX_FRAME, PROTOCOL, ToNode, Welcome},
    tls::ReloadingServer,
};
use record::{Checkpoint, Hash, TreeSize, UnixSeconds, batch::SealedBatch, note::SignedNote};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// Accepts agents.
pub(super) async fn listen(liar: Arc<Liar>, listener: TcpListener, tls: Arc<ReloadingServer>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (liar, tls) = (Arc::clone(&liar), Arc::clone(&tls));
        tokio::spawn(async move { serve(&liar, stream, &tls).await });
    }
}

async fn serve(liar: &Liar, stream: TcpStream, tls: &ReloadingServer) -> Result<(), Failure> {
    let (stream, identity) = link::tls::accept(stream, tls, LIMIT).await?;
    let (read, write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, MAX_FRAME);
    let mut writer = FrameWriter::new(write, MAX_FRAME);
    while let Some(message) = reader.receive::<ToNode>().await? {
        let answer = match message {
            ToNode::Hello { .. } => liar.welcome(&identity),
            ToNode::Submit { batch } => {
                FromNode::Receipt(liar.forge(&SealedBatch::decode(&batch)?))
            }
            ToNode::Ping => FromNode::Pong,
            _ => return Ok(writer.write(&[6; 100]).await?),
        };
        writer.send(&answer).await?;
        writer.flush().await?;
    }
    Ok(())
}

impl Liar {
    fn welcome(&self, identity: &Identity) -> FromNode {
        let agent = identity.agent();
        let state = agent.and_then(|agent| self.seen().agents.get(&agent).cloned());
        FromNode::Welcome(Welcome {
            protocol: PROTOCOL,
            node: self.config.name.to_string(),
            origin: self.config.params.origin.to_string(),
            enterprise: self.config.params.enterprise.0,
            agent: state,
        })
    }

    /// A receipt that is none, each time in another way.
    fn forge(&self, batch: &SealedBatch) -> BatchReceipt {
        let (known, lie) = (self.true_checkpoint(), self.next_lie());
        let checkpoint = match (lie % 4, known) {
            // A true checkpoint, and no path that leads to it.
            (1, Some((_, note))) => note.to_string(),
            // The signatures of a true checkpoint under another root.
            (2, Some((truth, note))) => {
                let other = Checkpoint { root: Hash([6; 32]), ..truth };
                let mut forged = SignedNote::new(other.text());
                note.signatures().iter().for_each(|signature| forged.put(signature.clone()));
                forged.to_string()
            }
            (3, _) => "no checkpoint at all".to_owned(),
            // A tree of its own, signed and cosigned by itself alone.
            _ => self.own_checkpoint(u64::from(batch.count) + 1).to_string(),
        };
        BatchReceipt {
            start: batch.start.0,
            size: batch.seal.size.0,
            sealed: batch.seal.time.0,
            first: 0,
            left: vec![],
            right: vec![],
            checkpoint,
        }
    }

    fn own_checkpoint(&self, size: u64) -> SignedNote {
        let origin = self.config.params.origin.clone();
        let text = Checkpoint::new(origin, TreeSize(size), Hash([6; 32])).text();
        let mut note = SignedNote::new(text.clone());
        let now = UnixSeconds(service::clock::now().seconds().0);
        note.put(self.keys.log.sign(&text, now));
        note.put(self.keys.cosigner.sign(&text, now));
        note
    }

    fn next_lie(&self) -> u64 {
        let mut seen = self.seen();
        seen.receipts += 1;
        seen.receipts - 1
    }
}
