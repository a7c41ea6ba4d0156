//! A socket of either family, with a timeout for every call.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::plan::Target;

/// What `connect` to a Unix socket waits between tries: the queue of the listener may be full.
const RETRY: Duration = Duration::from_millis(5);

/// A socket of either family.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Does the same to a socket of either family.
macro_rules! either {
    ($socket:expr, $name:ident => $do:expr) => {
        match $socket {
            Socket::Tcp($name) => $do,
            Socket::Unix($name) => $do,
        }
    };
}

impl Socket {
    pub(super) fn connect(target: &Target, within: Duration) -> io::Result<Self> {
        match target {
            Target::Tcp(address) => {
                let socket = TcpStream::connect_timeout(address, within)?;
                socket.set_nodelay(true)?;
                Ok(Self::Tcp(socket))
            }
            Target::Unix(path) => connect_unix(path, within).map(Self::Unix),
        }
    }

    /// Reads what is there, or waits for some.
    pub(super) fn read_some(&mut self, into: &mut [u8], within: Duration) -> io::Result<usize> {
        // No timeout at all is what zero would mean.
        let within = Some(within.max(Duration::from_millis(1)));
        either!(self, socket => {
            socket.set_read_timeout(within)?;
            socket.read(into)
        })
    }

    /// Writes what the socket takes, or waits until it takes some.
    pub(super) fn write_some(&mut self, bytes: &[u8], within: Duration) -> io::Result<usize> {
        let within = Some(within.max(Duration::from_millis(1)));
        either!(self, socket => {
            socket.set_write_timeout(within)?;
            socket.write(bytes)
        })
    }

    pub(super) fn finish(&self) {
        // The agent may have closed it.
        let _ = either!(self, socket => socket.shutdown(Shutdown::Write));
    }

    pub(super) fn reset(self) {
        // A socket that cannot linger closes without; a Unix socket knows no reset.
        let _ = either!(&self, socket => set_socket_linger(socket.as_fd(), Some(Duration::ZERO)));
    }
}

/// Connects without blocking: `UnixStream::connect` would wait without end where a listener's queue
/// is full.
fn connect_unix(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let until = Instant::now() + within;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match rustix::net::connect(&fd, &address) {
            Ok(()) => break,
            Err(rustix::io::Errno::AGAIN) if Instant::now() < until => std::thread::sleep(RETRY),
            Err(rustix::io::Errno::AGAIN) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
    let socket = UnixStream::from(fd);
    socket.set_nonblocking(false)?;
    Ok(socket)
}
