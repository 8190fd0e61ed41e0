//! Reading a ledger as any auditor can: checkpoint and entry bundles over HTTPS (C2SP tlog-tiles).

use crate::output::{Failure, fail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use link::{
    Role,
    tls::{ClientSettings, ReloadingClient, TlsFiles},
};
use record::{
    Checkpoint, Hash, TreeSize,
    bytes::Reader,
    merkle::{Frontier, leaf_hash},
    note::SignedNote,
    policy::Policy,
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
/// 256 entries of 65,535 bytes, and their lengths.
const MAX_BUNDLE: usize = 256 * (65_535 + 2);
const BUNDLE: u64 = 256;

/// A connection to a node's HTTPS side.
pub struct Tiles {
    sender: http1::SendRequest<Empty<Bytes>>,
    host: String,
}

impl Tiles {
    /// Connects to `address` (HOST:PORT).
    pub async fn connect(address: &str, files: TlsFiles) -> Result<Self, Failure> {
        let settings = ClientSettings::new(files, &[]).alpn(&["http/1.1"]);
        let tls = ReloadingClient::open(settings).map_err(fail)?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let (stream, _) =
            link::tls::connect(address, host, &tls, Role::Node, LIMIT).await.map_err(fail)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(fail)?;
        // Its end shows in the next request.
        tokio::spawn(connection);
        Ok(Tiles { sender, host: host.to_owned() })
    }

    /// The newest checkpoint, not verified.
    pub async fn checkpoint(&mut self) -> Result<SignedNote, Failure> {
        let bytes = self.get("/checkpoint").await?;
        SignedNote::parse(&bytes).map_err(fail)
    }

    /// Reads every entry and gives it to `each`; checks that together they are exactly what a
    /// checkpoint that satisfies `policy` stands for.
    pub async fn read_all(
        &mut self,
        policy: &Policy,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Checkpoint, Failure> {
        let verified = policy.verify(&self.checkpoint().await?).map_err(fail)?;
        let checkpoint = verified.checkpoint().clone();
        let TreeSize(size) = checkpoint.size;
        let mut tree = Frontier::default();
        for index in 0..size.div_ceil(BUNDLE) {
            let width = (size - index * BUNDLE).min(BUNDLE);
            let bundle = self.get(&path("entries", index, width)).await?;
            let mut reader = Reader::new(&bundle);
            for _ in 0..width {
                let len = reader.u16().map_err(fail)?;
                let entry = reader.take(len.into()).map_err(fail)?;
                tree.push(leaf_hash(entry));
                each(entry);
            }
            reader.finish().map_err(fail)?;
        }
        if tree.root() != checkpoint.root {
            return Err(Failure(
                "the entries are not those that the checkpoint was signed for".into(),
            ));
        }
        Ok(checkpoint)
    }

    /// The entries of bundle `index`, the first `width` of them.
    ///
    /// # Errors
    /// The node does not give exactly so many.
    pub async fn bundle(&mut self, index: u64, width: u64) -> Result<Vec<Vec<u8>>, Failure> {
        let path = path("entries", index, width);
        let bundle = self.get(&path).await?;
        let malformed = |error| Failure(format!("{path}: {error}"));
        let mut reader = Reader::new(&bundle);
        let mut entries = Vec::new();
        for _ in 0..width {
            let len = reader.u16().map_err(malformed)?;
            entries.push(reader.take(len.into()).map_err(malformed)?.to_vec());
        }
        reader.finish().map_err(malformed)?;
        Ok(entries)
    }

    /// The hashes of tile `index` of a level, the first `width` of them.
    ///
    /// # Errors
    /// The node does not give so many.
    pub async fn hashes(
        &mut self,
        level: u8,
        index: u64,
        width: u64,
    ) -> Result<Vec<Hash>, Failure> {
        let path = path(&level.to_string(), index, width);
        let bytes = self.get(&path).await?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() as u64 != width || !rest.is_empty() {
            return Err(Failure(format!("{path}: {} bytes are not {width} hashes", bytes.len())));
        }
        Ok(hashes.iter().copied().map(Hash).collect())
    }

    async fn get(&mut self, path: &str) -> Result<Bytes, Failure> {
        let request = Request::get(path)
            .header(hyper::header::HOST, &self.host)
            .body(Empty::new())
            .map_err(fail)?;
        self.sender.ready().await.map_err(fail)?;
        let response = self.sender.send_request(request).await.map_err(fail)?;
        if response.status() != StatusCode::OK {
            return Err(Failure(format!("{path}: the node answers {}", response.status())));
        }
        let body = Limited::new(response.into_body(), MAX_BUNDLE).collect().await;
        Ok(body.map_err(|error| Failure(format!("{path}: {error}")))?.to_bytes())
    }
}

/// The path of a tile; `width` 256 is a full one.
fn path(level: &str, index: u64, width: u64) -> String {
    let mut groups = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        groups = format!("x{:03}/{groups}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < BUNDLE { format!(".p/{width}") } else { String::new() };
    format!("/tile/{level}/{groups}{partial}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(super::path("entries", 1_234_067, 256), "/tile/entries/x001/x234/067");
        assert_eq!(super::path("0", 273, 112), "/tile/0/273.p/112");
    }
}
