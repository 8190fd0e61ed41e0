//! Reading a ledger as any auditor can: checkpoint, hash tiles and entry bundles over HTTPS (C2SP
//! tlog-tiles).
//!
//! Nothing that is read here is verified but its shape. Every answer has a bound on its bytes,
//! packed and unpacked, and on its time.

use crate::output::{Failure, fail};
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use link::{
    Role,
    tls::{ClientSettings, ReloadingClient, TlsFiles},
};
use record::{
    Checkpoint, Hash, TreeSize,
    bytes::{Malformed, Reader},
    merkle::{Frontier, leaf_hash},
    note::SignedNote,
    policy::Policy,
};
use replica::MAX_BASE_BYTES;
use std::{io::Read, time::Duration};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);
/// 256 entries of 65,535 bytes, and their lengths.
const MAX_BUNDLE: usize = 256 * (65_535 + 2);
/// The most bytes of a checkpoint: 128 signatures with long names are less.
const MAX_CHECKPOINT: usize = 64 << 10;
/// How long a base may take, which can have many MiB.
const BASE_LIMIT: Duration = Duration::from_secs(300);
/// The most bytes of a number.
const MAX_NUMBER: usize = 32;
/// Hashes of a tile, entries of a bundle.
pub(crate) const FULL: u64 = 256;
const HASH: usize = 32;

/// A node gave nothing, or nothing that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TilesError {
    /// It does not answer; that is no lie.
    #[error("{0}")]
    Away(String),
    /// It answers, but has nothing to serve yet: status 503.
    #[error("{0}")]
    NotYet(String),
    /// It has no such thing: status 404.
    #[error("{0}: there is no such thing")]
    NotFound(String),
    /// It refuses us: status 401 or 403.
    #[error("{0}: a certificate with a role that may read is needed")]
    Forbidden(String),
    /// Its answer is not what it must be.
    #[error("{0}")]
    Malformed(String),
}

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
        Self::connect_with(address, &tls).await.map_err(fail)
    }

    /// The same with certificate files that were read.
    ///
    /// # Errors
    /// The node cannot be reached, or is none.
    pub async fn connect_with(address: &str, tls: &ReloadingClient) -> Result<Self, TilesError> {
        let away = |error: &dyn std::error::Error| TilesError::Away(service::exit::explain(error));
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let connected = link::tls::connect(address, host, tls, Role::Node, LIMIT).await;
        let (stream, _) = connected.map_err(|error| away(&error))?;
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| away(&error))?;
        // Its end shows in the next request.
        tokio::spawn(connection);
        Ok(Tiles { sender, host: host.to_owned() })
    }

    /// The newest checkpoint, not verified.
    pub async fn checkpoint(&mut self) -> Result<SignedNote, Failure> {
        let bytes = self.checkpoint_bytes().await.map_err(fail)?;
        SignedNote::parse(&bytes).map_err(fail)
    }

    /// The newest checkpoint as it came.
    ///
    /// # Errors
    /// There was none.
    pub async fn checkpoint_bytes(&mut self) -> Result<Bytes, TilesError> {
        self.get("/checkpoint", MAX_CHECKPOINT).await
    }

    /// The entries of bundle `index`, the first `width` of them.
    ///
    /// # Errors
    /// The node does not give exactly so many.
    pub async fn bundle(&mut self, index: u64, width: u64) -> Result<Vec<Vec<u8>>, TilesError> {
        let (bytes, width) = self.partial("entries", index, width, MAX_BUNDLE).await?;
        let entries = split(&bytes, width);
        let path = || path("entries", index, width);
        entries.map_err(|error| TilesError::Malformed(format!("{}: {error}", path())))
    }

    /// The entries from `from` on to the end of its bundle or of a ledger of `size` entries. A node that gave
    /// up the front of the bundle serves the rest of it by another address.
    ///
    /// # Errors
    /// The node does not give at least one of them.
    pub async fn entries_from(&mut self, from: u64, size: u64) -> Result<Vec<Vec<u8>>, TilesError> {
        let (index, skip) = (from / FULL, (from % FULL) as usize);
        let width = size.saturating_sub(index * FULL).min(FULL);
        let missing = match self.bundle(index, width).await {
            Ok(mut entries) => {
                entries.truncate(width as usize);
                let rest = entries.split_off(skip.min(entries.len()));
                let problem = || format!("bundle {index} has fewer than {width} entries");
                let given = !rest.is_empty();
                return given.then_some(rest).ok_or_else(|| TilesError::Malformed(problem()));
            }
            Err(missing @ TilesError::NotFound(_)) if skip > 0 && width == FULL => missing,
            Err(error) => return Err(error),
        };
        let path = format!("/entries-from/{from}");
        match self.get(&path, MAX_BUNDLE).await {
            Ok(bytes) => split(&bytes, FULL - skip as u64)
                .map_err(|error| TilesError::Malformed(format!("{path}: {error}"))),
            Err(TilesError::NotFound(_)) => Err(missing),
            Err(error) => Err(error),
        }
    }

    /// The first entry that the node still has, as it says: 0 if nothing was given up.
    ///
    /// # Errors
    /// There is no answer, or it is no number.
    pub async fn first_entry(&mut self) -> Result<u64, TilesError> {
        let path = "/first-entry";
        let bytes = match self.get(path, MAX_NUMBER).await {
            // It is of a time when nothing could be given up.
            Err(TilesError::NotFound(_)) => return Ok(0),
            got => got?,
        };
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
        text.ok_or_else(|| TilesError::Malformed(format!("{path}: it is no number")))
    }

    /// What is kept of entries that were given up, in its binary form.
    ///
    /// # Errors
    /// There is none, or it does not come in time.
    pub async fn base(&mut self) -> Result<Bytes, TilesError> {
        self.get_within("/base", MAX_BASE_BYTES, BASE_LIMIT).await
    }

    /// The hashes of tile `index` of a level, at least the first `width` of them.
    ///
    /// # Errors
    /// The node does not give so many.
    pub async fn hashes(
        &mut self,
        level: u8,
        index: u64,
        width: u64,
    ) -> Result<Vec<Hash>, TilesError> {
        let (name, max) = (level.to_string(), FULL as usize * HASH);
        let (bytes, width) = self.partial(&name, index, width, max).await?;
        let (hashes, rest) = bytes.as_chunks::<HASH>();
        if hashes.len() as u64 != width || !rest.is_empty() {
            let problem = format!("{} bytes are not {width} hashes", bytes.len());
            return Err(TilesError::Malformed(format!("{}: {problem}", path(&name, index, width))));
        }
        Ok(hashes.iter().copied().map(Hash).collect())
    }

    /// A tile of this width or, if the node has let go of that, the full one; and its width.
    async fn partial(
        &mut self,
        level: &str,
        index: u64,
        width: u64,
        max: usize,
    ) -> Result<(Bytes, u64), TilesError> {
        match self.get(&path(level, index, width), max).await {
            Err(TilesError::NotFound(_)) if width < FULL => {
                let full = self.get(&path(level, index, FULL), max).await?;
                Ok((full, FULL))
            }
            got => got.map(|bytes| (bytes, width)),
        }
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
        for index in 0..size.div_ceil(FULL) {
            let width = (size - index * FULL).min(FULL) as usize;
            let bundle = self.bundle(index, width as u64).await.map_err(fail)?;
            for entry in bundle.iter().take(width) {
                tree.push(leaf_hash(entry));
                each(entry);
            }
        }
        if tree.root() != checkpoint.root {
            return Err(Failure(
                "the entries are not those that the checkpoint was signed for".into(),
            ));
        }
        Ok(checkpoint)
    }

    async fn get(&mut self, path: &str, max: usize) -> Result<Bytes, TilesError> {
        self.get_within(path, max, LIMIT).await
    }

    async fn get_within(
        &mut self,
        path: &str,
        max: usize,
        limit: Duration,
    ) -> Result<Bytes, TilesError> {
        let request = Request::get(path)
            .header(header::HOST, &self.host)
            .header(header::ACCEPT_ENCODING, "gzip, identity")
            .body(Empty::new())
            .map_err(|error| TilesError::Away(error.to_string()))?;
        match timeout(limit, self.exchange(path, request, max)).await {
            Ok(result) => result,
            Err(_) => Err(TilesError::Away(format!("{path}: no answer within {limit:?}"))),
        }
    }

    async fn exchange(
        &mut self,
        path: &str,
        request: Request<Empty<Bytes>>,
        max: usize,
    ) -> Result<Bytes, TilesError> {
        let away = |error: &dyn std::error::Error| {
            TilesError::Away(format!("{path}: {}", service::exit::explain(error)))
        };
        self.sender.ready().await.map_err(|error| away(&error))?;
        let response = self.sender.send_request(request).await.map_err(|error| away(&error))?;
        let (head, body) = response.into_parts();
        let said = || format!("{path}: the node answers {}", head.status);
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(TilesError::NotFound(path.to_owned())),
            StatusCode::SERVICE_UNAVAILABLE => return Err(TilesError::NotYet(said())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(TilesError::Forbidden(path.to_owned()));
            }
            _ => return Err(TilesError::Malformed(said())),
        }
        let body = Limited::new(body, max).collect().await.map_err(|error| {
            match error.downcast_ref::<http_body_util::LengthLimitError>() {
                Some(_) => TilesError::Malformed(format!("{path}: more than {max} bytes")),
                None => TilesError::Away(format!("{path}: {error}")),
            }
        })?;
        let body = body.to_bytes();
        match head.headers.get(header::CONTENT_ENCODING).map(|kind| kind.as_bytes()) {
            None | Some(b"identity") => Ok(body),
            Some(b"gzip") => unpack(&body, max)
                .map_err(|problem| TilesError::Malformed(format!("{path}: {problem}"))),
            Some(_) => Err(TilesError::Malformed(format!("{path}: an unknown encoding"))),
        }
    }
}

/// Unpacks gzip of at most `max` bytes.
fn unpack(packed: &[u8], max: usize) -> Result<Bytes, String> {
    let mut bytes = Vec::new();
    let read = GzDecoder::new(packed).take(max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("it is no gzip: {error}"))?;
    if bytes.len() > max { Err(format!("more than {max} bytes")) } else { Ok(bytes.into()) }
}

/// The entries of a bundle, exactly `width` of them.
fn split(bundle: &[u8], width: u64) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut reader = Reader::new(bundle);
    let mut entries = Vec::new();
    for _ in 0..width {
        let len = reader.u16()?;
        entries.push(reader.take(len.into())?.to_vec());
    }
    reader.finish()?;
    Ok(entries)
}

/// The path of a tile; `width` 256 is a full one.
fn path(level: &str, index: u64, width: u64) -> String {
    let mut groups = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        groups = format!("x{:03}/{groups}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < FULL { format!(".p/{width}") } else { String::new() };
    format!("/tile/{level}/{groups}{partial}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(path("entries", 1_234_067, 256), "/tile/entries/x001/x234/067");
        assert_eq!(path("0", 273, 112), "/tile/0/273.p/112");
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![0; 1 << 20]).unwrap();
        let packed = gzip.finish().unwrap();
        assert!(packed.len() < 2000);
        assert_eq!(unpack(&packed, 1 << 20).unwrap().len(), 1 << 20);
        assert!(unpack(&packed, (1 << 20) - 1).is_err());
        assert!(unpack(b"no gzip", 100).is_err());
    }
}
