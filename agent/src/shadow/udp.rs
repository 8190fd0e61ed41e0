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

use rustix::net::{RecvFlags, recv, sockopt::set_socket_recv_buffer_size};
use tokio::sync::mpsc;

use super::{Delivery, Messages, ShadowError};

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
        // The system gives what it allows (net.core.rmem_max), without an error.
        set_socket_recv_buffer_size(&socket, buffer)?;
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
        for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
            if let Some(drops) = find_drops(&std::fs::read_to_string(table)?, inode) {
                return Ok(drops);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, "the kernel does not list the socket"))
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

/// The last column of the socket's row.
fn find_drops(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|row| {
        let mut columns = row.split_ascii_whitespace().skip(9);
        let found = columns.next()?.parse() == Ok(inode);
        found.then(|| columns.last()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_count_of_dropped_datagrams_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n \
             3571: 0100007F:158A 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 51234 2 0000000000000000 17\n";
        assert_eq!(find_drops(table, 51_234), Some(17));
        assert_eq!(find_drops(table, 51_235), None);
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
