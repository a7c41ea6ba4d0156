//! Giving everything to another process while it goes on: listeners, and connections between two
//! frames. HAProxy notices nothing, and no NOTIFY is lost, whatever it has on its way.
//!
//! Both processes hold one end of a stream socket. The old one sends its listeners, the new one
//! starts with them and says that it is ready, the old one sends its connections one by one and
//! ends. A message is a head, a body and, where it gives something away, a descriptor:
//!
//! ```text
//!  0      4          8      12
//! +------+----------+------+----------------------+
//! | kind | "rings1" | len  | body, `len` bytes    |
//! | 2,BE | 6        | 4,BE |                      |
//! +------+----------+------+----------------------+
//! ```
//!
//! It knows neither workers nor tasks.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use super::config::ListenAddress;
use super::io::Socket;
use crate::connection::{LARGEST_MAX_FRAME_SIZE, NotifyId, Snapshot};
use crate::spop::{FrameId, StreamId};

/// Both ends must be of versions that understand each other.
const MAGIC: &[u8; 6] = b"rings1";

const HEAD_LEN: usize = 12;

/// A body is a few fields, a part of a frame, and the fragments of a message so far. More than
/// that is not from us.
const MAX_BODY_LEN: usize = 64 * 1024 * 1024;

/// A connection on its way to another process.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) socket: OwnedFd,
    pub(super) snapshot: Snapshot,
    /// Received, and not yet a whole frame.
    pub(super) input: Vec<u8>,
}

/// A connection of another process.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) socket: Socket,
    pub(super) snapshot: Snapshot,
    pub(super) input: Vec<u8>,
}

/// A listening socket that is open already: of another process, of the service manager, or of one's own
/// code, for [`Server::start_with`](crate::Server::start_with).
#[derive(Debug)]
pub struct InheritedSocket {
    /// What it is for: empty for HAProxy, else a name of the binary's.
    pub name: String,
    /// The Unix socket file that is ours to remove at the end, if it is.
    pub owned_file: Option<std::path::PathBuf>,
    /// Somebody else goes on listening when we end, such as the service manager: a drain stops
    /// accepting, and leaves what connects to them.
    pub is_lent: bool,
    /// The socket.
    pub socket: OwnedFd,
}

impl InheritedSocket {
    /// A listener that nobody else has: a `TcpListener` or `UnixListener` of the standard library, or the
    /// descriptor of one.
    ///
    /// It is for HAProxy and not lent, and its socket file, if it has one, is left where it is. The fields
    /// say otherwise: for a socket of systemd,
    /// `InheritedSocket { is_lent: true, ..InheritedSocket::from_listener(listener) }`.
    #[must_use]
    pub fn from_listener(listener: impl Into<OwnedFd>) -> Self {
        Self {
            name: String::new(),
            owned_file: None,
            is_lent: false,
            socket: listener.into(),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// It does not listen, or not on TCP or a Unix socket with a path.
    pub fn address(&self) -> io::Result<ListenAddress> {
        super::listen::address_of(&self.socket)
    }
}

/// What the two processes say to each other.
#[derive(Debug)]
pub(super) enum Message {
    Listener(InheritedSocket),
    /// That was the last listener.
    Begin,
    /// The new process serves.
    Ready,
    Connection(HandedOver),
    /// That was the last connection.
    Done,
}

/// Sends one message.
pub(super) fn send(channel: &UnixStream, message: &Message) -> io::Result<()> {
    let (kind, body, descriptor) = match message {
        Message::Listener(listener) => {
            let mut body = Vec::new();
            put(&mut body, listener.name.as_bytes());
            let file = listener.owned_file.as_ref();
            body.push(u8::from(file.is_some()) | u8::from(listener.is_lent) << 1);
            if let Some(file) = file {
                use std::os::unix::ffi::OsStrExt;
                put(&mut body, file.as_os_str().as_bytes());
            }
            (1_u16, body, Some(listener.socket.as_raw_fd()))
        }
        Message::Begin => (2, Vec::new(), None),
        Message::Ready => (3, Vec::new(), None),
        Message::Connection(connection) => {
            let body = encode_connection(&connection.snapshot, &connection.input);
            (4, body, Some(connection.socket.as_raw_fd()))
        }
        Message::Done => (5, Vec::new(), None),
    };
    let mut head = [0; HEAD_LEN];
    head[..2].copy_from_slice(&kind.to_be_bytes());
    head[2..8].copy_from_slice(MAGIC);
    let len = u32::try_from(body.len()).map_err(|_| io::Error::other("too long to hand over"))?;
    head[8..].copy_from_slice(&len.to_be_bytes());
    let descriptors: Vec<RawFd> = descriptor.into_iter().collect();
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() {
        &control[..0]
    } else {
        &control[..]
    };
    // The descriptor goes with the first byte; what else of the head is not taken at once follows.
    let sent = loop {
        let vector = [IoSlice::new(&head)];
        match sendmsg::<UnixAddr>(
            channel.as_raw_fd(),
            &vector,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            result => break result?,
        }
    };
    let mut channel = channel;
    channel.write_all(&head[sent..])?;
    channel.write_all(&body)
}

/// Receives one message.
pub(super) fn receive(channel: &UnixStream) -> io::Result<Message> {
    let mut head = [0; HEAD_LEN];
    let mut descriptor = None;
    let received = {
        let mut space = nix::cmsg_space!([RawFd; 1]);
        let mut vector = [IoSliceMut::new(&mut head)];
        let message = loop {
            match recvmsg::<UnixAddr>(
                channel.as_raw_fd(),
                &mut vector,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                Err(nix::errno::Errno::EINTR) => {}
                result => break result?,
            }
        };
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                for raw in descriptors {
                    // SAFETY: the kernel has just made this descriptor for us, and nobody else has
                    // its number.
                    descriptor = Some(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
        }
        message.bytes
    };
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut channel = channel;
    channel.read_exact(&mut head[received..])?;
    if head[2..8] != *MAGIC {
        return Err(invalid("the other process speaks another hand-over"));
    }
    let kind = u16::from_be_bytes([head[0], head[1]]);
    let len = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
    if len > MAX_BODY_LEN {
        return Err(invalid("a message is too long"));
    }
    let mut body = Vec::new();
    channel.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let need = |descriptor: Option<OwnedFd>| {
        descriptor.ok_or_else(|| invalid("a descriptor is missing: too many open files?"))
    };
    Ok(match kind {
        1 => {
            let mut rest = &body[..];
            let name = take(&mut rest)?.to_vec();
            let name = String::from_utf8(name).map_err(|_| invalid("a name is not UTF-8"))?;
            let flags = take_byte(&mut rest)?;
            let owned_file = if flags & 1 == 0 {
                None
            } else {
                use std::os::unix::ffi::OsStrExt;
                Some(std::ffi::OsStr::from_bytes(take(&mut rest)?).into())
            };
            Message::Listener(InheritedSocket {
                name,
                owned_file,
                is_lent: flags & 2 != 0,
                socket: need(descriptor)?,
            })
        }
        2 => Message::Begin,
        3 => Message::Ready,
        4 => {
            let (snapshot, input) = decode_connection(&body)?;
            Message::Connection(HandedOver {
                socket: need(descriptor)?,
                snapshot,
                input,
            })
        }
        5 => Message::Done,
        _ => return Err(invalid("a message of unknown kind")),
    })
}

fn encode_connection(snapshot: &Snapshot, input: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&snapshot.max_frame_size.unwrap_or(0).to_be_bytes());
    let (state, id) = match snapshot.fragments {
        None => (0, NotifyId::default()),
        Some((id, true)) => (1, id),
        Some((id, false)) => (2, id),
    };
    body.push(state);
    body.extend_from_slice(&id.stream_id.0.to_be_bytes());
    body.extend_from_slice(&id.frame_id.0.to_be_bytes());
    put(&mut body, &snapshot.payload);
    put(&mut body, input);
    body
}

fn decode_connection(body: &[u8]) -> io::Result<(Snapshot, Vec<u8>)> {
    let mut rest = body;
    let max_frame_size = u32::from_be_bytes(take_array(&mut rest)?);
    if max_frame_size > LARGEST_MAX_FRAME_SIZE {
        return Err(invalid("a frame size is out of range"));
    }
    let state = take_byte(&mut rest)?;
    let id = NotifyId {
        stream_id: StreamId(u64::from_be_bytes(take_array(&mut rest)?)),
        frame_id: FrameId(u64::from_be_bytes(take_array(&mut rest)?)),
    };
    let fragments = match state {
        0 => None,
        1 => Some((id, true)),
        2 => Some((id, false)),
        _ => return Err(invalid("a state of fragments is unknown")),
    };
    let payload = take(&mut rest)?.to_vec();
    let input = take(&mut rest)?.to_vec();
    let snapshot = Snapshot {
        max_frame_size: (max_frame_size > 0).then_some(max_frame_size),
        fragments,
        payload,
    };
    Ok((snapshot, input))
}

fn put(body: &mut Vec<u8>, bytes: &[u8]) {
    // Far below: what is put here is bounded by frame sizes.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    body.extend_from_slice(&len.to_be_bytes());
    body.extend_from_slice(bytes);
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (array, after) = rest
        .split_first_chunk()
        .ok_or_else(|| invalid("a message is too short"))?;
    *rest = after;
    Ok(*array)
}

fn take_byte(rest: &mut &[u8]) -> io::Result<u8> {
    take_array::<1>(rest).map(|[byte]| byte)
}

fn take<'a>(rest: &mut &'a [u8]) -> io::Result<&'a [u8]> {
    let len = u32::from_be_bytes(take_array(rest)?) as usize;
    let (bytes, after) = rest
        .split_at_checked(len)
        .ok_or_else(|| invalid("a message is too short"))?;
    *rest = after;
    Ok(bytes)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("hand-over: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots() -> Vec<(Snapshot, Vec<u8>)> {
        let id = NotifyId {
            stream_id: StreamId(u64::MAX),
            frame_id: FrameId(7),
        };
        let quiet = Snapshot {
            max_frame_size: Some(16_380),
            fragments: None,
            payload: Vec::new(),
        };
        let new = Snapshot {
            max_frame_size: None,
            ..quiet.clone()
        };
        let collecting = Snapshot {
            fragments: Some((id, true)),
            payload: vec![9; 100_000],
            ..quiet.clone()
        };
        let dropping = Snapshot {
            fragments: Some((id, false)),
            ..quiet.clone()
        };
        [quiet, new, collecting, dropping]
            .into_iter()
            .zip([vec![], vec![1, 2], vec![3; 70_000], vec![]])
            .collect()
    }

    #[test]
    fn connections_go_through_a_channel_with_their_sockets() {
        let (here, there) = UnixStream::pair().unwrap();
        let sender = std::thread::spawn(move || {
            for (snapshot, input) in snapshots() {
                let (socket, mut other) = UnixStream::pair().unwrap();
                other.write_all(b"through").unwrap();
                let message = Message::Connection(HandedOver {
                    socket: socket.into(),
                    snapshot,
                    input,
                });
                send(&here, &message).unwrap();
            }
            send(&here, &Message::Done).unwrap();
        });
        for (snapshot, input) in snapshots() {
            let Message::Connection(connection) = receive(&there).unwrap() else {
                panic!("not a connection")
            };
            assert_eq!(connection.snapshot, snapshot);
            assert_eq!(connection.input, input);
            let mut text = String::new();
            let mut socket = UnixStream::from(connection.socket);
            socket.read_to_string(&mut text).unwrap();
            assert_eq!(text, "through");
        }
        assert!(matches!(receive(&there).unwrap(), Message::Done));
        sender.join().unwrap();
        let end = receive(&there).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_not_a_connection_is_refused() {
        let (snapshot, input) = snapshots().remove(2);
        let body = encode_connection(&snapshot, &input);
        for cut in (0..body.len()).step_by(97).chain(0..40) {
            decode_connection(&body[..cut]).unwrap_err();
        }
        let mut wrong = body.clone();
        wrong[0] = 0xff;
        decode_connection(&wrong).unwrap_err();
        wrong = body;
        wrong[4] = 3;
        decode_connection(&wrong).unwrap_err();
    }

    #[test]
    fn another_version_is_told_by_its_head() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"\0\x05rings9\0\0\0\0").unwrap();
        let error = receive(&there).unwrap_err().to_string();
        assert!(error.contains("another hand-over"), "{error}");
    }

    /// Nobody waits for what nobody would send.
    #[test]
    fn a_body_without_measure_is_refused_by_its_length() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"\0\x04rings1\xff\xff\xff\xff").unwrap();
        drop(here);
        let error = receive(&there).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}
