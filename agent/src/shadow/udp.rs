//! Receives a copy of the old feed by UDP.
//!
//! A thread does nothing else, so that the kernel's buffer is emptied as fast as
//! can be; what the kernel drops all the same it counts, and the reports say so.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::net::{RecvFlags, recv};
use tokio::sync::mpsc;

use super::{Delivery, Messages, ShadowError};
use crate::sources::udp::{dropped, enlarge};

/// How long the thread waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// The longest datagram, in bytes.
const MAX_DATAGRAM: usize = 64 << 10;

/// A running listener. Ends its thread when it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UdpSocket,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub(super) fn bind(address: SocketAddr, buffer: usize) -> Result<UdpSocket, ShadowError> {
    let bound = UdpSocket::bind(address).and_then(|socket| {
        socket.set_read_timeout(Some(LOOK))?;
        enlarge(&socket, buffer);
        Ok(socket)
    });
    bound.map_err(|error| ShadowError::Bind(address, error))
}

pub(super) fn start(socket: UdpSocket, deliveries: mpsc::Sender<Delivery>) -> io::Result<Listener> {
    let ending = Arc::new(AtomicBool::new(false));
    let (receiving, asked) = (socket.try_clone()?, Arc::clone(&ending));
    let thread = std::thread::Builder::new()
        .name("shadow-udp".into())
        .spawn(move || receive(&receiving, &deliveries, &asked))?;
    Ok(Listener { socket, ending, thread: Some(thread) })
}

fn receive(socket: &UdpSocket, deliveries: &mpsc::Sender<Delivery>, ending: &AtomicBool) {
    let mut datagram = vec![0; MAX_DATAGRAM];
    while !ending.load(Relaxed) {
        let mut messages = Messages::default();
        match socket.recv(&mut datagram) {
            Ok(len) => messages.push(&datagram[..len]),
            Err(error) if is_timeout(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "a copy of the old feed could not be received");
                std::thread::sleep(LOOK);
                continue;
            }
        }
        while !messages.is_full() {
            let received = recv(socket, &mut datagram[..], RecvFlags::DONTWAIT);
            let Ok((_, len)) = received else { break };
            messages.push(&datagram[..len]);
        }
        if deliveries.blocking_send(Delivery::Messages(messages)).is_err() {
            return;
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

impl Listener {
    /// How many datagrams the kernel has dropped because its buffer was full.
    pub(super) fn dropped(&self) -> io::Result<u64> {
        let inode = rustix::fs::fstat(&self.socket)?.st_ino;
        let unlisted =
            || io::Error::new(io::ErrorKind::NotFound, "the kernel does not list the socket");
        dropped(inode).ok_or_else(unlisted)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only ever panics together with this program.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_drops_is_counted() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), 64 << 10).unwrap();
        let address = socket.local_addr().unwrap();
        // Nobody receives: most of what is sent does not fit.
        let listener = Listener { socket, ending: Arc::default(), thread: None };
        assert_eq!(listener.dropped().unwrap(), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..1000 {
            sender.send_to(&[b'x'; 1024], address).unwrap();
        }
        assert!(listener.dropped().unwrap() > 500);
    }
}
