//! From an address to a node that is ready to take batches.

use link::{
    Identity, Role,
    frame::{FrameReader, FrameWriter},
    message::{FromNode, MAX_FRAME, PROTOCOL, ToNode, Welcome},
    tls::{TlsStream, connect},
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};

use super::{Ours, UplinkSettings, judge::OurLog, trouble::Trouble};
use crate::config::NodeAddress;

/// The largest message that a node sends to an agent, in bytes: a receipt with the signatures of
/// as many nodes as a policy can name.
const MAX_ANSWER: usize = 256 << 10;

/// A connection over which a node said welcome.
pub(super) struct Connection {
    pub(super) reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    pub(super) writer: FrameWriter<WriteHalf<TlsStream<TcpStream>>>,
    pub(super) welcome: Welcome,
    /// Who its certificate says it is; the name is that in the welcome.
    pub(super) identity: Identity,
}

/// Connects to a node and greets it.
pub(super) async fn greet(
    settings: &UplinkSettings,
    node: &NodeAddress,
) -> Result<Connection, Trouble> {
    let limit = settings.timing.connect;
    let address = node.to_string();
    let (stream, identity) =
        connect(address, node.host(), &settings.tls, Role::Node, limit).await?;
    let (read, write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read, MAX_ANSWER);
    let mut writer = FrameWriter::new(write, MAX_FRAME);
    let program = concat!("logseal-agent ", env!("CARGO_PKG_VERSION")).to_owned();
    let exchange = async {
        writer.send(&ToNode::Hello { protocol: PROTOCOL, program }).await?;
        writer.flush().await?;
        Ok::<_, Trouble>(reader.receive::<FromNode>().await?)
    };
    let answer = timeout(limit, exchange).await.map_err(|_| Trouble::Silent(limit))??;
    let welcome = match answer {
        Some(FromNode::Welcome(welcome)) => welcome,
        Some(FromNode::Refused(refusal)) => {
            return Err(Trouble::refused(refusal, &settings.agent, &settings.vkey));
        }
        Some(_) => return Err(Trouble::Unexpected),
        None => return Err(Trouble::Closed),
    };
    if identity.name.as_str() != welcome.node {
        let certified = identity.name.to_string();
        return Err(Trouble::NodeName { said: welcome.node, certified });
    }
    Ok(Connection { reader, writer, welcome, identity })
}

impl UplinkSettings {
    /// What a welcome is judged by.
    pub(super) fn ours(&self, log: Option<OurLog>) -> Ours<'_> {
        Ours {
            agent: &self.agent,
            vkey: &self.vkey,
            origin: &self.origin,
            enterprise: self.enterprise,
            spool: &self.spool,
            log,
        }
    }
}
