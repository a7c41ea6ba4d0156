//! The floor: what the runtime of the server, its sockets and its ring cost by themselves.
//!
//! It takes the same bytes and gives the same bytes as the built-in agent asked for one address:
//! ACKs of fixed content, but for the two ids. It does not decode messages, look anything up,
//! watch a clock or check anything but that it stays inside its buffers. No server on this runtime
//! can be cheaper, so the distance to it is what the protocol costs.

use std::error::Error;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, UnixListener};
use monoio::{IoUringDriver, RuntimeBuilder};
use ringspoa::ListenAddress;
use ringspoa::spop::{AgentHello, FrameType, PREFIX_LEN, VERSION};

/// As the server's.
const RING_ENTRIES: u32 = 256;

/// As the server's input buffer.
const INPUT_LEN: usize = 16 * 1024;

/// The largest frame that fits the buffer.
const MAX_FRAME_SIZE: u32 = 16_380;

/// Type and flags of a frame, in front of its ids.
const TYPE_AND_FLAGS_LEN: usize = 5;

/// Type ACK, flags FIN.
const ACK_BEGIN: [u8; TYPE_AND_FLAGS_LEN] = [103, 0, 0, 0, 1];

/// set-var with 3 arguments: scope transaction, the name, the string.
const ACK_ACTIONS: &[u8] = b"\x01\x03\x02\x0bremediation\x08\x05allow";

pub(crate) fn serve(address: &ListenAddress) -> Result<(), Box<dyn Error>> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(RING_ENTRIES)
        .build()
        .map_err(|error| format!("cannot build an io_uring: {error}"))?;
    runtime.block_on(accept(address))?;
    Ok(())
}

/// Listens; one task a connection. The sockets stay blocking, as a ring wants them.
async fn accept(address: &ListenAddress) -> io::Result<()> {
    match address {
        ListenAddress::Unix { path, .. } => {
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::from_std(StdUnixListener::bind(path)?)?;
            loop {
                let (stream, _) = listener.accept().await?;
                drop(monoio::spawn(echo(stream)));
            }
        }
        ListenAddress::Tcp(address) => {
            let listener = TcpListener::from_std(StdTcpListener::bind(address)?)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                drop(monoio::spawn(echo(stream)));
            }
        }
    }
}

/// Serves one connection until its end, or until it sends what is no NOTIFY.
async fn echo<S: AsyncReadRent + AsyncWriteRent>(mut stream: S) {
    let mut input = Vec::with_capacity(INPUT_LEN);
    let mut output = Vec::with_capacity(INPUT_LEN);
    loop {
        let (filled, capacity) = (input.len(), input.capacity());
        let (result, slice) = stream.read(input.slice_mut(filled..capacity)).await;
        input = slice.into_inner();
        if !matches!(result, Ok(1..)) {
            return;
        }
        let Some(used) = answer(&input, &mut output) else {
            return;
        };
        if used == input.len() {
            input.clear();
        } else {
            input.copy_within(used.., 0);
            input.truncate(input.len() - used);
        }
        if !output.is_empty() {
            let (result, buffer) = stream.write_all(output).await;
            output = buffer;
            if result.is_err() {
                return;
            }
            output.clear();
        }
    }
}

/// Answers the whole frames of `input`, returning their bytes; `None` if the connection is over.
fn answer(input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    let mut used = 0;
    while let Some((prefix, rest)) = input[used..].split_first_chunk::<PREFIX_LEN>() {
        let frame_len = u32::from_be_bytes(*prefix) as usize;
        if frame_len > MAX_FRAME_SIZE as usize {
            return None;
        }
        let Some(frame) = rest.get(..frame_len) else {
            break;
        };
        match FrameType::from_code(*frame.first()?) {
            FrameType::Notify => {
                let ids = ids(frame.get(TYPE_AND_FLAGS_LEN..)?)?;
                let len = ACK_BEGIN.len() + ids.len() + ACK_ACTIONS.len();
                output.extend_from_slice(&u32::try_from(len).ok()?.to_be_bytes());
                output.extend_from_slice(&ACK_BEGIN);
                output.extend_from_slice(ids);
                output.extend_from_slice(ACK_ACTIONS);
            }
            FrameType::HaproxyHello => say_hello(output)?,
            _ => return None,
        }
        used += PREFIX_LEN + frame_len;
    }
    Some(used)
}

/// The bytes of stream-id and frame-id, which an ACK repeats.
fn ids(bytes: &[u8]) -> Option<&[u8]> {
    let stream_id_len = varint_len(bytes)?;
    let frame_id_len = varint_len(&bytes[stream_id_len..])?;
    Some(&bytes[..stream_id_len + frame_id_len])
}

/// The length of the varint in front: one byte below 240, else up to the first below 128.
fn varint_len(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? < 240 {
        return Some(1);
    }
    let end = bytes[1..].iter().position(|&byte| byte < 128)?;
    Some(end + 2)
}

fn say_hello(output: &mut Vec<u8>) -> Option<()> {
    let hello = AgentHello {
        version: VERSION.as_bytes(),
        max_frame_size: MAX_FRAME_SIZE,
        capabilities: b"pipelining",
    };
    let mut bytes = [0; 256];
    let len = hello.encode(&mut bytes).ok()?;
    output.extend_from_slice(&bytes[..len]);
    Some(())
}

#[cfg(test)]
mod tests {
    use ringspoa::spop::{
        Action, Actions, Argument, Frame, FrameId, NotifyWriter, Scope, StreamId, TypedData,
    };

    use super::*;

    fn notify(stream_id: u64, frame_id: u64) -> Vec<u8> {
        let mut out = vec![0; 256];
        let ids = (StreamId(stream_id), FrameId(frame_id));
        let mut writer = NotifyWriter::begin(&mut out, 16_380, ids.0, ids.1).unwrap();
        writer
            .message("check-client-ip", [Argument::new("ip", true)])
            .unwrap();
        let len = writer.finish();
        out.truncate(len);
        out
    }

    #[test]
    fn acks_are_those_of_the_built_in_agent() {
        let ids = [(1, 1), (239, 240), (2287, 2288), (u64::MAX, 5)];
        let input: Vec<u8> = ids.iter().flat_map(|&(s, f)| notify(s, f)).collect();
        let mut output = Vec::new();
        assert_eq!(answer(&input, &mut output), Some(input.len()));
        let mut rest = &output[..];
        for (stream_id, frame_id) in ids {
            let (frame, used) = Frame::split(rest, 16_380).unwrap().unwrap();
            rest = &rest[used..];
            assert_eq!(frame.frame_type, FrameType::Ack);
            assert_eq!((frame.stream_id.0, frame.frame_id.0), (stream_id, frame_id));
            let actions: Vec<_> = Actions::new(frame.payload)
                .collect::<Result<_, _>>()
                .unwrap();
            let expected = Action::SetVar {
                scope: Scope::Transaction,
                name: b"remediation",
                value: TypedData::String(b"allow"),
            };
            assert_eq!(actions, [expected]);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn every_cut_waits_and_nothing_panics() {
        let input = notify(2288, u64::MAX);
        for cut in 0..input.len() {
            assert_eq!(answer(&input[..cut], &mut Vec::new()), Some(0), "{cut}");
        }
        // A frame that ends inside its ids, and one that cannot fit.
        for wrong in [&[0, 0, 0, 6, 3, 0, 0, 0, 1, 255][..], &[1, 0, 0, 0][..]] {
            assert_eq!(answer(wrong, &mut Vec::new()), None);
        }
    }
}
