//! Frames from peers that are honest, cut off, lying or mad.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bincode::{Decode, Encode};
use logseal_link::frame::{
    CodecError, FrameError, FrameReader, FrameWriter, MAX_MESSAGE_BYTES, from_bytes, to_bytes,
};
use proptest::prelude::*;
use tokio::io::{AsyncWrite, AsyncWriteExt};

#[derive(Debug, PartialEq, Encode, Decode)]
struct Message {
    height: u64,
    name: String,
    parts: Vec<Vec<u8>>,
}

/// Takes at most `most` bytes at once, and remembers how it was called.
#[derive(Default)]
struct Recorder {
    bytes: Vec<u8>,
    calls: usize,
    most: usize,
}

impl AsyncWrite for Recorder {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.most);
        self.bytes.extend_from_slice(&bytes[..taken]);
        self.calls += 1;
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = all.len().min(self.most);
        self.bytes.extend_from_slice(&all[..taken]);
        self.calls += 1;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs what needs no other task to go on.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn framed(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// All frames of a stream, and why it ended.
async fn read_all(bytes: &[u8], max: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut reader = FrameReader::new(bytes, max);
    let mut frames = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let small = prop::collection::vec(any::<u8>(), 1..40);
    let large = (1_usize..200_000, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]);
    prop::collection::vec(prop_oneof![4 => small, 1 => large], 0..20)
}

proptest! {
    #[test]
    fn what_one_end_writes_the_other_reads(
        payloads in payloads(),
        most in 1_usize..50_000,
        buffer in 1_usize..70_000,
        flush in any::<u8>(),
    ) {
        block_on(async {
            let recorder = Recorder { most: most.max(100), ..Recorder::default() };
            let mut recorder = recorder;
            let mut writer = FrameWriter::new(&mut recorder, 1 << 20);
            for (n, payload) in payloads.iter().enumerate() {
                writer.write(payload).await.unwrap();
                if (flush >> (n % 8)) & 1 == 1 {
                    writer.flush().await.unwrap();
                }
            }
            writer.shutdown().await.unwrap();
            assert_eq!(recorder.bytes, framed(&payloads));

            let (mut sender, receiver) = tokio::io::duplex(buffer.max(100));
            let send = async {
                sender.write_all(&recorder.bytes).await.unwrap();
                drop(sender);
            };
            let mut reader = FrameReader::new(receiver, 1 << 20);
            let receive = async {
                let mut frames = Vec::new();
                while let Some(frame) = reader.next().await.unwrap() {
                    frames.push(frame);
                }
                frames
            };
            assert_eq!(tokio::join!(send, receive).1, payloads);
        });
    }

    #[test]
    fn a_stream_that_is_cut_off_ends_in_an_error_or_between_frames(
        payloads in payloads(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = framed(&payloads);
        let cut = cut.index(bytes.len() + 1);
        let (frames, error) = block_on(read_all(&bytes[..cut], 1 << 20));
        prop_assert_eq!(&frames[..], &payloads[..frames.len()]);
        let between = framed(&frames).len() == cut;
        prop_assert_eq!(between, error.is_none());
        if let Some(error) = error {
            let truncated = matches!(error, FrameError::Truncated { .. });
            prop_assert!(truncated);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic_or_take_more_than_the_maximum(
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..300),
        max in 1_usize..600,
    ) {
        let (frames, error) = block_on(read_all(&bytes, max));
        let read = framed(&frames);
        prop_assert!(bytes.starts_with(&read));
        prop_assert!(frames.iter().all(|frame| (1..=max).contains(&frame.len())));
        let rest = &bytes[read.len()..];
        let length = rest.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize);
        let right = match (&error, length) {
            (None, None) => rest.is_empty(),
            (Some(FrameError::Truncated { .. }), None) => !rest.is_empty(),
            (Some(FrameError::Truncated { .. }), Some(n)) => n <= max && rest.len() - 4 < n,
            (Some(FrameError::Empty), Some(0)) => true,
            (Some(FrameError::TooLong { .. }), Some(n)) => n > max,
            _ => false,
        };
        prop_assert!(right, "{:?} at {:?}", error, rest);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = from_bytes::<Message>(&bytes) {
            prop_assert_eq!(to_bytes(&message).unwrap(), bytes);
        }
    }
}

#[tokio::test]
async fn signs_of_life_stand_between_frames_and_only_where_they_are_expected() {
    let mut bytes = Recorder { most: usize::MAX, ..Recorder::default() };
    let mut writer = FrameWriter::new(&mut bytes, 100_000);
    let payloads = [vec![1; 3], vec![2; 20_000], vec![3; 16_370]];
    for payload in &payloads {
        writer.beat().await.unwrap();
        writer.write(payload).await.unwrap();
    }
    writer.beat().await.unwrap();
    let bytes = bytes.bytes;
    let mut reader = FrameReader::new(&bytes[..], 10).with_beats();
    assert_eq!(reader.next().await.unwrap(), Some(vec![]));
    reader.set_max(100_000);
    for payload in &payloads {
        assert_eq!(reader.next().await.unwrap().as_ref(), Some(payload));
        assert_eq!(reader.next().await.unwrap(), Some(vec![]));
    }
    assert_eq!(reader.next().await.unwrap(), None);
    let (_, error) = read_all(&bytes, 100_000).await;
    assert!(matches!(error, Some(FrameError::Empty)));
}

#[tokio::test]
async fn a_length_of_gigabytes_is_refused_at_once() {
    let (_, error) = read_all(&[0xff; 4], MAX_MESSAGE_BYTES).await;
    let error = error.unwrap();
    assert!(matches!(error, FrameError::TooLong { length: u32::MAX, .. }), "{error}");
}

#[tokio::test]
async fn a_reader_that_is_interrupted_anywhere_loses_nothing() {
    let payloads = vec![vec![7; 5], vec![8; 300]];
    let bytes = framed(&payloads);
    let (mut sender, receiver) = tokio::io::duplex(1 << 16);
    let mut reader = FrameReader::new(receiver, 1000);
    let mut frames = Vec::new();
    for byte in bytes {
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(reader.next()).poll(&mut context).is_pending());
        sender.write_all(&[byte]).await.unwrap();
        if let Poll::Ready(frame) = pin!(reader.next()).poll(&mut context) {
            frames.push(frame.unwrap().unwrap());
        }
    }
    assert_eq!(frames, payloads);
}

#[tokio::test]
async fn a_writer_that_is_interrupted_within_a_frame_writes_no_other() {
    let (sender, _receiver) = tokio::io::duplex(100);
    let mut writer = FrameWriter::new(sender, 1 << 20);
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(writer.write(&[1; 50_000])).poll(&mut context).is_pending());
    assert!(matches!(writer.write(&[2]).await, Err(FrameError::HalfWritten)));
    assert!(matches!(writer.flush().await, Err(FrameError::HalfWritten)));
}

#[tokio::test]
async fn small_frames_leave_together_and_a_large_one_leaves_with_its_header() {
    let mut recorder = Recorder { most: usize::MAX, ..Recorder::default() };
    let mut writer = FrameWriter::new(&mut recorder, 1 << 20);
    for _ in 0..100 {
        writer.write(&[1; 100]).await.unwrap();
    }
    writer.flush().await.unwrap();
    writer.write(&[2; 300_000]).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    assert_eq!(recorder.calls, 2);
    assert_eq!(recorder.bytes.len(), 100 * 104 + 300_004);
}

#[tokio::test]
async fn a_message_that_the_peer_would_refuse_is_not_sent() {
    let mut recorder = Recorder { most: usize::MAX, ..Recorder::default() };
    let mut writer = FrameWriter::new(&mut recorder, 10);
    assert!(matches!(writer.write(&[1; 11]).await, Err(FrameError::TooLongToSend { .. })));
    writer.write(&[1; 10]).await.unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(recorder.bytes, framed(&[vec![1; 10]]));
    let huge = Message { height: 0, name: String::new(), parts: vec![vec![0; MAX_MESSAGE_BYTES]] };
    assert!(matches!(to_bytes(&huge), Err(CodecError::TooLong(_))));
}

#[tokio::test]
async fn a_message_arrives_as_it_was_sent_and_takes_up_its_whole_frame() {
    let message =
        Message { height: 7, name: "n1".into(), parts: vec![vec![1], vec![], vec![2; 9]] };
    let (sender, receiver) = tokio::io::duplex(1 << 16);
    let mut writer = FrameWriter::new(sender, 1 << 20);
    let mut reader = FrameReader::new(receiver, 1 << 20);
    writer.send(&message).await.unwrap();
    writer.write(&[to_bytes(&message).unwrap(), vec![0]].concat()).await.unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(reader.receive::<Message>().await.unwrap().unwrap(), message);
    let error = reader.receive::<Message>().await.unwrap_err();
    assert!(matches!(error, FrameError::Codec(CodecError::Trailing(1))), "{error}");
    assert!(reader.receive::<Message>().await.unwrap().is_none());
}

#[test]
fn a_message_that_lies_about_a_length_is_refused() {
    let good = to_bytes(&Message { height: 1, name: "n".into(), parts: vec![] }).unwrap();
    for claim in [2_u64, 1 << 20, 1 << 40, u64::MAX] {
        let mut lying = good.clone();
        lying[8..16].copy_from_slice(&claim.to_le_bytes());
        assert!(from_bytes::<Message>(&lying).is_err(), "{claim}");
    }
}
