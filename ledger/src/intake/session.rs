//! One connection: its greeting, then its requests in order.

use super::{Context, operator, shown};
use crate::{
    node::Command,
    store::{BatchKey, PlanError, ReadError},
    view::Presence,
};
use link::{
    Identity, Role,
    frame::{FrameError, FrameReader, FrameWriter},
    message::{
        AgentState, FromNode, MAX_FRAME, NodeStatus, PROTOCOL, Refusal, RefusalCode,
        RetentionStatus, ToNode, Welcome,
    },
};
use record::{
    AgentName,
    batch::{BatchError, Codec, LogState, SealedBatch},
    declaration::Matter,
    merkle::EntryIndex,
};
use replica::Pending;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsStream;

/// Answers that may be on their way to a client; an agent's window is smaller.
const ANSWERS: usize = 256;
/// A client that says nothing for so long is gone; agents ping every 10 seconds.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a client may take to say hello.
const GREETING: Duration = Duration::from_secs(10);

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// What the peer sent, or did not.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer said nothing for too long.
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    /// The peer must say hello first, and once.
    #[error("the client did not begin with its greeting, or greeted twice")]
    Greeting,
    /// The node's thread is gone: the node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

struct Session<'c> {
    context: &'c Context,
    identity: Identity,
    certificate: Vec<u8>,
    answers: mpsc::Sender<FromNode>,
    /// For agents: that nobody else speaks for them, and the log that their next batch must fit.
    agent: Option<(AgentName, Presence)>,
    log: Option<LogState>,
    codec: Codec,
    bundle: Vec<u8>,
}

/// Serves one connection until it ends.
pub(super) async fn run(
    stream: TlsStream<TcpStream>,
    identity: Identity,
    address: SocketAddr,
    context: &Context,
) {
    let client = shown(&identity);
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().map(|c| c.to_vec()).unwrap_or_default();
    let (read, write) = tokio::io::split(stream);
    let (answers, queue) = mpsc::channel(ANSWERS);
    let session = Session {
        context,
        identity,
        certificate,
        answers,
        agent: None,
        log: None,
        codec: Codec::default(),
        bundle: Vec::new(),
    };
    let reading = session.read(FrameReader::new(read, MAX_FRAME));
    let writing = write_answers(FrameWriter::new(write, MAX_FRAME), queue);
    let ended = tokio::select! {
        ended = reading => ended,
        ended = writing => ended.map_err(SessionError::Frame),
    };
    match ended {
        Ok(()) => tracing::debug!(%client, %address, "disconnected"),
        Err(error) => tracing::info!(%client, %address, %error, "connection ended"),
    }
}

/// Writes answers as they come, several at once where several are ready.
async fn write_answers(
    mut writer: FrameWriter<WriteHalf<TlsStream<TcpStream>>>,
    mut queue: mpsc::Receiver<FromNode>,
) -> Result<(), FrameError> {
    while let Some(answer) = queue.recv().await {
        writer.send(&answer).await?;
        while let Ok(answer) = queue.try_recv() {
            writer.send(&answer).await?;
        }
        writer.flush().await?;
    }
    writer.shutdown().await
}

type Frames = FrameReader<ReadHalf<TlsStream<TcpStream>>>;

impl Session<'_> {
    async fn read(mut self, mut frames: Frames) -> Result<(), SessionError> {
        let hello = timeout(GREETING, frames.receive::<ToNode>()).await;
        let Some(hello) = hello.map_err(|_| SessionError::Silent(GREETING))?? else {
            return Ok(());
        };
        if !self.greet(hello).await? {
            // Hold the connection until the refusal has been read.
            let _ = timeout(GREETING, frames.next()).await;
            return Ok(());
        }
        loop {
            let message = timeout(SILENCE, frames.receive::<ToNode>()).await;
            let Some(message) = message.map_err(|_| SessionError::Silent(SILENCE))?? else {
                return Ok(());
            };
            self.handle(message).await?;
        }
    }

    /// True if the client may go on.
    async fn greet(&mut self, hello: ToNode) -> Result<bool, SessionError> {
        let ToNode::Hello { protocol, program } = hello else {
            return Err(SessionError::Greeting);
        };
        if protocol != PROTOCOL {
            let message = format!(
                "this node speaks protocol {PROTOCOL}, the client ({program}) {protocol}: \
                 install the same version on both"
            );
            self.refuse(RefusalCode::Protocol, message).await?;
            return Ok(false);
        }
        if let Some(agent) = self.identity.agent() {
            let Some(presence) = self.context.view.enter(&agent) else {
                let message = format!(
                    "another connection speaks for agent '{agent}' already: a name belongs to one \
                     agent. If that is a connection that died, it is given up within {SILENCE:?}"
                );
                self.refuse(RefusalCode::AlreadyConnected, message).await?;
                return Ok(false);
            };
            self.log = self.ask_log(&agent).await?;
            self.agent = Some((agent, presence));
        }
        // The client is told what is committed; what waits is answered when it sends it again.
        let committed = self.agent.as_ref().and_then(|(a, _)| self.context.view.log_of(a));
        let params = self.context.store.params();
        let welcome = Welcome {
            protocol: PROTOCOL,
            node: self.context.view.name.to_string(),
            origin: params.origin.to_string(),
            enterprise: params.enterprise.0,
            agent: committed.map(|log| AgentState {
                key: log.key.0,
                next: log.frontier.size().0,
                root: log.frontier.root().0,
                sealed: log.sealed.0,
            }),
        };
        self.answer(FromNode::Welcome(welcome)).await?;
        Ok(true)
    }

    async fn handle(&mut self, message: ToNode) -> Result<(), SessionError> {
        let role = self.identity.role;
        match message {
            ToNode::Hello { .. } => Err(SessionError::Greeting),
            ToNode::Ping => self.answer(FromNode::Pong).await,
            ToNode::Submit { batch } if self.agent.is_some() => self.submit(batch).await,
            ToNode::Enrol { enrolment } if role == Role::Operator => self.enrol(enrolment).await,
            ToNode::Declare { declaration } if role == Role::Operator => {
                self.declare(declaration).await
            }
            ToNode::PlanPrune { days } if role == Role::Operator => self.plan_prune(days).await,
            ToNode::Retention if role.may_read_records() => {
                let status = retention(self.context);
                self.answer(FromNode::Retention(status)).await
            }
            ToNode::Record { agent, n } if role.may_read_records() => self.record(&agent, n).await,
            ToNode::Status if role.may_read_records() => self.status().await,
            ToNode::Cluster if role.may_read_records() => self.cluster().await,
            ToNode::Store if role.may_read_records() => {
                let status = self.context.view.store();
                self.answer(FromNode::Store(status)).await
            }
            ToNode::Witnesses if role.may_read_records() => {
                let status = self.context.view.witnesses().unwrap_or_default();
                self.answer(FromNode::Witnesses((*status).clone())).await
            }
            _ => {
                let message = format!("a certificate with the role '{role}' does not allow this");
                self.refuse(RefusalCode::Role, message).await
            }
        }
    }

    async fn submit(&mut self, encoded: Vec<u8>) -> Result<(), SessionError> {
        let Some((agent, _)) = &self.agent else { return Ok(()) };
        let batch = match SealedBatch::decode(&encoded) {
            Ok(batch) if batch.agent == *agent => batch,
            Ok(batch) => {
                let message = format!(
                    "agent '{agent}' sent a batch of '{}': each speaks for itself",
                    batch.agent
                );
                return self.refuse(RefusalCode::Invalid, message).await;
            }
            Err(error) => return self.refuse(RefusalCode::Invalid, error.to_string()).await,
        };
        if self.log.is_none() {
            self.log = self.ask_log(&batch.agent).await?;
        }
        let Some(log) = &self.log else {
            let message = format!(
                "agent '{}' is not enrolled: an operator must run 'logseal enrol'",
                batch.agent
            );
            return self.refuse(RefusalCode::NotEnrolled, message).await;
        };
        let next = log.frontier.size().0;
        let newer = batch.count > 0 || batch.seal.time > log.sealed;
        if batch.start.0 == next && newer {
            return self.verify(batch, encoded).await;
        }
        let key = BatchKey::of(&batch);
        let digest = SealedBatch::digest(&encoded);
        let reply = self.answers.clone();
        self.tell(Command::Again { key, digest, reply }).await
    }

    /// Verifies a batch on a thread that may take its time, then hands it to the node.
    async fn verify(&mut self, batch: SealedBatch, encoded: Vec<u8>) -> Result<(), SessionError> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        let before = log.clone();
        let origin = self.context.store.params().origin.clone();
        let mut codec = std::mem::take(&mut self.codec);
        let mut bundle = std::mem::take(&mut self.bundle);
        let work = tokio::task::spawn_blocking(move || {
            let verified = batch.open(&origin, &log, &mut codec, &mut bundle);
            (verified, codec, bundle)
        });
        let (verified, codec, bundle) = work.await.map_err(|_| SessionError::Stopping)?;
        (self.codec, self.bundle) = (codec, bundle);
        match verified {
            Ok(verified) => {
                self.log = Some(verified.log_state());
                let pending = Box::new(Pending::new(verified, before, encoded.into()));
                let reply = self.answers.clone();
                self.tell(Command::Batch { pending, reply }).await
            }
            Err(error) => {
                self.context.metrics.refuse("batch");
                let client = shown(&self.identity);
                tracing::error!(%client, %error, "a batch was refused");
                let code = match error {
                    BatchError::Start { .. } => RefusalCode::NotNext,
                    _ => RefusalCode::Invalid,
                };
                self.refuse(code, error.to_string()).await
            }
        }
    }

    async fn enrol(&mut self, bytes: Vec<u8>) -> Result<(), SessionError> {
        let origin = &self.context.store.params().origin;
        let now = service::clock::now().seconds();
        let enrolment = match operator::enrolment(&bytes, origin, &self.certificate, now) {
            Ok(enrolment) => enrolment,
            Err(error) => return self.refuse(RefusalCode::Invalid, error.to_string()).await,
        };
        tracing::info!(agent = %enrolment.agent, operator = %self.identity.name.as_str(), "enrolment");
        let (reply, answered) = oneshot::channel();
        self.tell(Command::Enrol { enrolment: Box::new(enrolment), reply }).await?;
        let answer = answered.await.map_err(|_| SessionError::Stopping)?;
        self.answer(answer).await
    }

    async fn declare(&mut self, bytes: Vec<u8>) -> Result<(), SessionError> {
        let origin = &self.context.store.params().origin;
        let now = service::clock::now().seconds();
        let declaration = match operator::declaration(&bytes, origin, &self.certificate, now) {
            Ok(declaration) => declaration,
            Err(error) => return self.refuse(RefusalCode::Invalid, error.to_string()).await,
        };
        let (what, operator) = (declaration.matter.word(), self.identity.name.as_str());
        tracing::info!(what, operator, "declaration");
        let (reply, answered) = oneshot::channel();
        self.tell(Command::Declare { declaration: Box::new(declaration), reply }).await?;
        let answer = answered.await.map_err(|_| SessionError::Stopping)?;
        self.answer(answer).await
    }

    async fn plan_prune(&mut self, days: u32) -> Result<(), SessionError> {
        let context = self.context;
        let problem = match context.retention {
            None => {
                "this node never gives entries up: its configuration has no [retention]".to_owned()
            }
            Some(kept) if days < kept => format!("this node keeps entries for {kept} days"),
            Some(_) => String::new(),
        };
        if !problem.is_empty() {
            // Another node may let go of more.
            return self.refuse(RefusalCode::NotFound, problem).await;
        }
        let (store, now) = (context.store.clone(), service::clock::now());
        let planned = tokio::task::spawn_blocking(move || store.plan_prune(days, now));
        match planned.await.map_err(|_| SessionError::Stopping)? {
            Ok(prune) => {
                let mut matter = Vec::new();
                Matter::Prune(prune).put(&mut matter);
                self.answer(FromNode::PrunePlan { matter }).await
            }
            Err(error @ PlanError::Nothing(_)) => {
                self.refuse(RefusalCode::NotFound, error.to_string()).await
            }
            Err(PlanError::Store(error)) => {
                tracing::error!(%error, "what can be given up cannot be found out");
                self.refuse(RefusalCode::Failed, error.to_string()).await
            }
        }
    }

    async fn record(&mut self, agent: &str, n: u64) -> Result<(), SessionError> {
        let known = agent.parse::<AgentName>().ok();
        let known = known.and_then(|agent| Some((self.context.view.log_of(&agent)?, agent)));
        let Some((log, agent)) = known else {
            let message = format!("no agent '{agent}' is enrolled");
            return self.refuse(RefusalCode::NotFound, message).await;
        };
        let (store, head) = (self.context.store.clone(), self.context.view.head());
        let (name, key, size) = (agent.to_string(), log.key, log.frontier.size());
        let Some(checkpoint) = head.checkpoint.clone() else {
            let message = "the node has not heard yet that a quorum stands behind a checkpoint";
            return self.refuse(RefusalCode::Busy, format!("{message}: ask again")).await;
        };
        // Under the checkpoint that auditors get, so that it holds under their policy, unless the
        // record is newer than that.
        let served = self.context.view.served().ok().filter(|served| *served != checkpoint);
        let read = tokio::task::spawn_blocking(move || {
            let prove = |under: &_| store.record(&agent, EntryIndex(n), key, under);
            match served.as_ref().map(prove).transpose()?.flatten() {
                Some(evidence) => Ok(Some(evidence)),
                None => prove(&checkpoint),
            }
        });
        match read.await.map_err(|_| SessionError::Stopping)? {
            Ok(Some(evidence)) => self.answer(FromNode::Record(Box::new(evidence))).await,
            Ok(None) => {
                let message = format!("agent '{name}' has {size} records here, counted from 0");
                self.refuse(RefusalCode::NotFound, message).await
            }
            Err(error @ ReadError::Pruned(_)) => {
                self.refuse(RefusalCode::NotFound, error.to_string()).await
            }
            Err(error) => {
                tracing::error!(%error, agent = name, n, "a record cannot be read");
                self.refuse(RefusalCode::Failed, error.to_string()).await
            }
        }
    }

    async fn status(&mut self) -> Result<(), SessionError> {
        let view = &self.context.view;
        let (height, size) = view.tip();
        let served = view.served().ok().or_else(|| view.head().checkpoint.clone());
        let status = NodeStatus {
            node: view.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            height: height.0,
            size: size.0,
            checkpoint: served.map(|note| note.to_string()).unwrap_or_default(),
            agents: view.agents(),
            disk_free: service::disk::free_bytes(&self.context.dir).unwrap_or_default(),
            accepting: view.accepting(),
        };
        self.answer(FromNode::Status(status)).await
    }

    async fn cluster(&mut self) -> Result<(), SessionError> {
        match self.context.view.cluster() {
            Some(cluster) if cluster.peers.is_empty() => {
                let message = "this is a ledger of one node: it has no cluster";
                self.refuse(RefusalCode::NotFound, message.into()).await
            }
            Some(cluster) => self.answer(FromNode::Cluster(Box::new((*cluster).clone()))).await,
            None => self.refuse(RefusalCode::Busy, "the node is starting: ask again".into()).await,
        }
    }

    async fn ask_log(&self, agent: &AgentName) -> Result<Option<LogState>, SessionError> {
        let (reply, answered) = oneshot::channel();
        self.tell(Command::Log { agent: agent.clone(), reply }).await?;
        answered.await.map_err(|_| SessionError::Stopping)
    }

    /// Hands a command to the node's thread, and waits while its queue is full.
    async fn tell(&self, command: Command) -> Result<(), SessionError> {
        self.context.node.send(command).await.map_err(|_| SessionError::Stopping)
    }

    async fn answer(&self, message: FromNode) -> Result<(), SessionError> {
        self.answers.send(message).await.map_err(|_| SessionError::Stopping)
    }

    async fn refuse(&self, code: RefusalCode, message: String) -> Result<(), SessionError> {
        self.context.metrics.refuse(label(code));
        self.answer(FromNode::Refused(Refusal { code, message, next: None })).await
    }
}

fn retention(context: &Context) -> RetentionStatus {
    let store = &context.store;
    RetentionStatus {
        days: context.retention,
        dropped: store.dropped().0,
        height: store.base().map(|kept| kept.base.header.height.0).unwrap_or_default(),
        minimum_index: store.minimum_index().0,
    }
}

fn label(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Role => "role",
        RefusalCode::Protocol => "protocol",
        RefusalCode::NotEnrolled => "not-enrolled",
        RefusalCode::AlreadyConnected => "already-connected",
        RefusalCode::NotNext => "not-next",
        RefusalCode::Conflict => "conflict",
        RefusalCode::Invalid => "invalid",
        RefusalCode::Busy => "busy",
        RefusalCode::NotFound => "not-found",
        RefusalCode::Failed => "failed",
    }
}
