//! An agent that a test plays itself: it speaks the real protocol and lies where it is told to.

use crate::{LIMIT, tls_files};
use link::{
    Role,
    frame::{FrameReader, FrameWriter},
    message::{FromNode, MAX_FRAME, PROTOCOL, Refusal, ToNode},
    tls::{ClientSettings, ReloadingClient},
};
use logseal::site::Site;
use record::{
    AgentName, Origin, UnixMillis,
    batch::{BatchBuilder, Codec, Sealed},
    entry::{Enterprise, Header, LogElement},
    merkle::Frontier,
    note::{NoteSigner, SignatureType},
    seal::agent_vkey,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    runtime::Runtime,
};
use tokio_rustls::TlsStream;
use zeroize::Zeroizing;

/// The origin of every throw-away site.
pub fn origin() -> Origin {
    "demo.logseal.example/access".parse().unwrap()
}

/// A connection to the node with somebody's certificate.
pub struct Wire {
    runtime: Runtime,
    reader: FrameReader<ReadHalf<TlsStream<TcpStream>>>,
    writer: FrameWriter<WriteHalf<TlsStream<TcpStream>>>,
}

impl Wire {
    /// Connects and greets; gives back the node's answer too.
    pub fn connect(site: &Site, role: &str, name: &str) -> (Self, FromNode) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = ClientSettings::new(tls_files(site, role, name), &[]);
        let tls = ReloadingClient::open(settings).unwrap();
        let address = format!("127.0.0.1:{}", site.agents_port);
        let connected = link::tls::connect(address, "127.0.0.1", &tls, Role::Node, LIMIT);
        let (stream, _) = runtime.block_on(connected).unwrap();
        let (read, write) = tokio::io::split(stream);
        let mut wire = Wire {
            runtime,
            reader: FrameReader::new(read, MAX_FRAME),
            writer: FrameWriter::new(write, MAX_FRAME),
        };
        let hello = ToNode::Hello { protocol: PROTOCOL, program: "test".into() };
        let answer = wire.ask(&hello);
        (wire, answer)
    }

    /// Sends a message and waits for the next answer.
    pub fn ask(&mut self, message: &ToNode) -> FromNode {
        self.runtime.block_on(async {
            self.writer.send(message).await.unwrap();
            self.writer.flush().await.unwrap();
            let answer = tokio::time::timeout(LIMIT, self.reader.receive()).await;
            answer.expect("an answer in time").unwrap().expect("an answer")
        })
    }

    /// Submits a batch as it is encoded.
    pub fn submit(&mut self, batch: &[u8]) -> FromNode {
        self.ask(&ToNode::Submit { batch: batch.to_vec() })
    }
}

/// The refusal that an answer must be.
pub fn refusal(answer: FromNode) -> Refusal {
    match answer {
        FromNode::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// An agent's log that a test seals itself.
pub struct Log {
    /// The agent.
    pub agent: AgentName,
    /// Its key.
    pub signer: NoteSigner,
    builder: BatchBuilder,
}

impl Log {
    /// An empty log of an agent with the key of this seed.
    pub fn new(name: &str, seed: u8) -> Self {
        let agent: AgentName = name.parse().unwrap();
        let key_name = origin().agent(&agent).key_name().clone();
        let kind = SignatureType::CosignatureV1;
        let signer = NoteSigner::new(key_name, kind, &Zeroizing::new([seed; 32]));
        let builder = BatchBuilder::new(origin(), agent.clone(), Frontier::default());
        Log { agent, signer, builder }
    }

    /// Enrols the key.
    pub fn enrol(&self, site: &Site) {
        let vkey = agent_vkey(&origin(), &self.agent, self.signer.key().public()).to_string();
        let client = site.path("operator.toml").display().to_string();
        let name = self.agent.as_str();
        site.output("logseal", &["enrol", "--config", &client, "--agent", name, "--vkey", &vkey])
            .unwrap();
    }

    /// Seals these lines as the next batch, by the clock.
    pub fn seal(&mut self, lines: &[&str]) -> Sealed {
        for line in lines {
            let (agent, n) = (self.agent.clone(), self.builder.next());
            let element = LogElement {
                enterprise: Enterprise::default(),
                agent: &agent,
                n,
                source: "test",
                received: UnixMillis(0),
                peer: None,
                transport: None,
                part: None,
            };
            let header = Header {
                priority: 110,
                time: None,
                host: b"test",
                app: b"test",
                procid: b"",
                msgid: b"",
            };
            self.builder.push(|out| element.wrap(out, &header, &[], line.as_bytes()));
        }
        let now = service::clock::now().seconds();
        self.builder.seal(self.signer.key(), now, &mut Codec::default())
    }
}
