//! Asking a node, or the first of several that can answer.

use crate::output::{Failure, fail};
use clap::Args;
use link::{
    Role,
    frame::{FrameError, FrameReader, FrameWriter},
    message::{FromNode, MAX_FRAME, PROTOCOL, RefusalCode, ToNode, Welcome},
    tls::{ClientSettings, Problem, ReloadingClient},
};
use record::policy::Policy;
use serde::Deserialize;
use service::config::{Source, Tls};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsStream;

/// What the first bytes of an HTTP answer look like to whoever expects a frame's length.
const HTTP: u32 = u32::from_be_bytes(*b"HTTP");
const LIMIT: Duration = Duration::from_secs(10);
/// An enrolment waits for a block; that is at most a few rounds away.
const ANSWER: Duration = Duration::from_secs(60);

/// Where the nodes are and who asks. Options override the configuration file.
#[derive(Args, Clone, Debug, Default)]
pub struct ClientArgs {
    /// File with 'nodes', 'policy' and a table 'tls', so that the options below can be left out
    /// [default: /etc/logseal/client.toml if it exists]
    #[arg(long, env = "LOGSEAL_CLIENT", value_name = "FILE")]
    config: Option<PathBuf>,
    /// A node, HOST:PORT; can be repeated, and the nodes are then tried in this order
    #[arg(long = "node", value_name = "HOST:PORT")]
    nodes: Vec<String>,
    /// The ledger's policy, as you were given it
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The CA's certificate
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The CA's revocation list
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    node: Option<String>,
    nodes: Option<Vec<String>>,
    https: Option<Vec<String>>,
    policy: Option<PathBuf>,
    tls: Option<Tls>,
}

/// The arguments as they are meant.
#[derive(Clone, Debug)]
pub struct Client {
    /// The nodes, at least one, each `HOST:PORT`.
    pub nodes: Vec<String>,
    policy: Option<PathBuf>,
    /// The certificate files.
    pub tls: Tls,
}

const DEFAULT_CONFIG: &str = "/etc/logseal/client.toml";

impl ClientArgs {
    /// Everything from a configuration file.
    pub fn from_file(config: &Path) -> Self {
        ClientArgs { config: Some(config.to_owned()), ..ClientArgs::default() }
    }

    /// The policy that was named as an option.
    pub fn policy_file(&self) -> Option<&Path> {
        self.policy.as_deref()
    }

    /// Combines options and configuration file.
    pub fn resolve(self) -> Result<Client, Failure> {
        let nodes = |file: Written| file.nodes.into_iter().flatten().chain(file.node).collect();
        self.resolve_with(nodes, || missing("node"))
    }

    /// The same for who reads checkpoints and tiles: nodes are reached at their HTTPS ports.
    pub fn resolve_https(self) -> Result<Client, Failure> {
        let problem = "give --node HOST:PORT for the HTTPS port of each node, 7580 unless configured \
                       otherwise, or 'https' in";
        let missing = || Failure(format!("{problem} {DEFAULT_CONFIG} (see --config)"));
        self.resolve_with(|file| file.https.unwrap_or_default(), missing)
    }

    fn resolve_with(
        self,
        nodes: fn(Written) -> Vec<String>,
        no_nodes: impl Fn() -> Failure,
    ) -> Result<Client, Failure> {
        let path = match &self.config {
            Some(path) => Some(path.clone()),
            None => Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.exists()),
        };
        let file = path.map_or(Ok(Written::default()), |path| Written::load(&path))?;
        let (tls, policy) = (file.tls.clone(), file.policy.clone());
        let pick = |option: Option<PathBuf>, from: fn(&Tls) -> PathBuf, name: &str| {
            option.or(tls.as_ref().map(from)).ok_or_else(|| missing(name))
        };
        let nodes = if self.nodes.is_empty() { nodes(file) } else { self.nodes };
        if nodes.is_empty() {
            return Err(no_nodes());
        }
        Ok(Client {
            nodes,
            policy: self.policy.or(policy),
            tls: Tls {
                ca: pick(self.ca, |tls| tls.ca.clone(), "ca")?,
                cert: pick(self.cert, |tls| tls.cert.clone(), "cert")?,
                key: pick(self.key, |tls| tls.key.clone(), "key")?,
                crl: self.crl.or(tls.and_then(|tls| tls.crl)),
            },
        })
    }
}

impl Written {
    /// Reads the file; its paths are relative to its own folder, so that the folder can be moved.
    fn load(path: &Path) -> Result<Self, Failure> {
        let (mut written, source): (Written, Source) = Source::load(path).map_err(fail)?;
        if written.node.is_some() && written.nodes.is_some() {
            return Err(fail(source.error("node", "give either 'node' or 'nodes'")));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let place = |path: &mut PathBuf| *path = folder.join(&*path);
        written.policy.iter_mut().for_each(place);
        if let Some(tls) = &mut written.tls {
            let files = [&mut tls.ca, &mut tls.cert, &mut tls.key];
            files.into_iter().chain(tls.crl.as_mut()).for_each(place);
        }
        Ok(written)
    }
}

fn missing(name: &str) -> Failure {
    Failure(format!("give --{name}, or put it into {DEFAULT_CONFIG} (see --config)"))
}

/// A greeted connection.
pub struct Connection {
    reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    writer: FrameWriter<WriteHalf<TlsStream<TcpStream>>>,
    node: String,
    /// The node's name, as its certificate says.
    pub name: String,
    /// What the node said about itself.
    pub welcome: Welcome,
}

impl Client {
    /// Of what a configuration file of another command says.
    pub fn new(nodes: Vec<String>, policy: PathBuf, tls: Tls) -> Self {
        Client { nodes, policy: Some(policy), tls }
    }

    /// True if a policy was named.
    pub fn has_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// Checks our own certificate files, so that no node is blamed for them.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn check_files(&self, own: &[Role]) -> Result<(), Failure> {
        let settings = ClientSettings::new(self.tls.files(), own);
        ReloadingClient::open(settings).map(drop).map_err(fail)
    }

    /// The trusted policy: its text and what it says.
    pub fn policy(&self) -> Result<(Vec<u8>, Policy), Failure> {
        let path = self.policy.as_ref().ok_or_else(|| missing("policy"))?;
        read_policy(path)
    }

    /// Asks the nodes in their order until one can answer; gives back the answer and whose it is.
    /// A node that cannot be reached, is busy, has failed or has not the record yet is passed over.
    ///
    /// # Errors
    /// Why each of them could not.
    pub async fn first(
        &self,
        own: &[Role],
        ask: impl AsyncFn(&mut Connection) -> Result<FromNode, Failure>,
    ) -> Result<(FromNode, Connection), Failure> {
        let mut failures: Vec<String> = Vec::new();
        for node in &self.nodes {
            let failure = match self.attempt(node, own, &ask).await {
                Ok((answer, connection)) if may_differ(&answer) => connection.unexpected(answer),
                Ok(answered) => return Ok(answered),
                Err(failure) => failure,
            };
            if !failures.contains(&failure.0) {
                failures.push(failure.0);
            }
        }
        Err(Failure(failures.join("\n")))
    }

    async fn attempt(
        &self,
        node: &str,
        own: &[Role],
        ask: impl AsyncFn(&mut Connection) -> Result<FromNode, Failure>,
    ) -> Result<(FromNode, Connection), Failure> {
        let mut connection = self.connect(node, own).await?;
        Ok((ask(&mut connection).await?, connection))
    }

    /// Connects to a node in one of these roles.
    pub async fn connect(&self, node: &str, own: &[Role]) -> Result<Connection, Failure> {
        let settings = ClientSettings::new(self.tls.files(), own);
        let tls = ReloadingClient::open(settings).map_err(fail)?;
        let (host, _) = node.rsplit_once(':').ok_or_else(|| {
            Failure(format!("'{node}' is not HOST:PORT, such as ledger1.city.example:7514"))
        })?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let (stream, identity) =
            link::tls::connect(node, host, &tls, Role::Node, LIMIT).await.map_err(fail)?;
        let (read, write) = tokio::io::split(stream);
        let mut connection = Connection {
            reader: FrameReader::new(read, MAX_FRAME),
            writer: FrameWriter::new(write, MAX_FRAME),
            node: node.to_owned(),
            name: identity.name.as_str().to_owned(),
            welcome: Welcome {
                protocol: 0,
                node: String::new(),
                origin: String::new(),
                enterprise: 0,
                agent: None,
            },
        };
        let program = format!("logseal {}", env!("CARGO_PKG_VERSION"));
        let hello = ToNode::Hello { protocol: PROTOCOL, program };
        match connection.ask(&hello).await? {
            FromNode::Welcome(welcome) => connection.welcome = welcome,
            other => return Err(connection.unexpected(other)),
        }
        Ok(connection)
    }
}

/// True for a refusal that another node may not repeat.
fn may_differ(answer: &FromNode) -> bool {
    let FromNode::Refused(refusal) = answer else { return false };
    matches!(refusal.code, RefusalCode::Busy | RefusalCode::Failed | RefusalCode::NotFound)
}

impl Connection {
    /// Sends a request and waits for its answer.
    pub async fn ask(&mut self, request: &ToNode) -> Result<FromNode, Failure> {
        self.writer.send(request).await.map_err(|error| self.lost(error.into()))?;
        self.writer.flush().await.map_err(|error| self.lost(error.into()))?;
        let answer = timeout(ANSWER, self.reader.receive::<FromNode>()).await;
        match answer {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(Failure(format!("{} closed the connection", self.node))),
            Ok(Err(error)) => Err(self.lost(error.into())),
            Err(_) => Err(Failure(format!("{} did not answer within {ANSWER:?}", self.node))),
        }
    }

    /// The failure for an answer that was not hoped for.
    pub fn unexpected(&self, answer: FromNode) -> Failure {
        match answer {
            FromNode::Refused(refusal) => Failure(format!("{}: {}", self.node, refusal.message)),
            _ => Failure(format!("{} answered something else than was asked", self.node)),
        }
    }

    fn lost(&self, error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
        let error = match error.downcast::<FrameError>() {
            Ok(frame) => match *frame {
                FrameError::Io(io) => Problem::from_io(io).to_string(),
                FrameError::TooLong { length: HTTP, .. } => {
                    "it answers in HTTP: this is a node's HTTPS port; use its port for agents, 7514 \
                     unless configured otherwise"
                        .to_owned()
                }
                other => other.to_string(),
            },
            Err(other) => other.to_string(),
        };
        Failure(format!("{}: {error}", self.node))
    }
}

/// Reads a policy file.
pub fn read_policy(path: &Path) -> Result<(Vec<u8>, Policy), Failure> {
    let bytes = std::fs::read(path).map_err(Failure::file(path))?;
    let policy =
        Policy::parse(&bytes).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
    Ok((bytes, policy))
}

/// A runtime for one request.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(fail)?.block_on(future)
}
