//! Receives syslog on a local socket, as programs write it with `syslog(3)` or `logger --socket`.
//!
//! What it guarantees: every message that the system took from a program is handed over, with who
//! that program is by the system's word, which none but root can choose; a slow pipeline makes the
//! programs wait, because the system takes no more of them then than a few. What it cannot
//! guarantee: a local socket acknowledges nothing, so what the agent had not handed over yet when
//! it is killed is lost, and programs that write while it is away get an error.

mod socket;
mod stream;

pub use socket::{BindError, Bound, bind};

use std::path::PathBuf;

use super::{Outlet, datagram::Datagrams};

/// What [`Bound`] sockets' records say of how their lines came.
const TRANSPORT: &str = "unix";

/// What a local socket is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A datagram is a message.
    #[default]
    Datagram,
    /// Connections, on which a line feed or a NUL ends a message, or its octets are counted.
    Stream,
}

/// Where programs of this machine write to, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixConfig {
    /// The socket's file.
    pub path: PathBuf,
    /// What it is like.
    pub kind: Kind,
    /// Its permissions: who may write to it.
    pub mode: u32,
    /// The longest message, in bytes. A longer datagram is cut into pieces; whoever writes a
    /// longer message into a stream is disconnected.
    pub max_message: usize,
    /// How many connections at a time; more wait.
    pub max_connections: usize,
}

/// Receives until it is to stop, or, if it has connections, to retire; then hands over what has
/// come, and removes the socket.
pub async fn serve(bound: Bound, config: UnixConfig, outlet: Outlet) {
    match bound {
        Bound::Datagram(socket, file) => {
            let datagrams = Datagrams::new(&socket, TRANSPORT, config.max_message, outlet);
            // When it stops, whoever looks for the socket learns at once that nobody is there.
            datagrams.serve(|| drop(file)).await;
        }
        Bound::Stream(listener, file) => stream::serve(listener, file, config, outlet).await,
    }
}

#[cfg(test)]
mod tests;
