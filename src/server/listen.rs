//! Opening listeners, with the options that std and monoio leave out.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::config::ListenAddress;
use super::hand_over::InheritedSocket;

/// Connections the kernel holds until they are accepted; it cuts this to `net.core.somaxconn`.
/// HAProxy opens hundreds at once after a reload.
pub(super) const BACKLOG: i32 = 4096;

/// Who may use a Unix socket if nothing else is said: its owner and its group, not everybody.
const DEFAULT_MODE: u32 = 0o660;

/// One address, open on every core.
#[derive(Debug)]
pub(super) struct Listener {
    /// Where it really is: with the port the kernel chose if 0 was asked for.
    pub(super) address: ListenAddress,
    /// One socket a core, at least.
    pub(super) sockets: Vec<OwnedFd>,
    /// The socket file that is ours to remove at the end.
    pub(super) owned_file: Option<PathBuf>,
    /// Somebody else goes on listening when we end.
    pub(super) is_lent: bool,
}

/// Listeners of sockets that another process opened, for `count` cores.
pub(super) fn inherit(sockets: Vec<InheritedSocket>, count: usize) -> io::Result<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    for inherited in sockets {
        let address = address_of(&inherited.socket)?;
        // Of TCP there is one for each core of the process before.
        match listeners.iter_mut().find(|known| known.address == address) {
            Some(known) => known.sockets.push(inherited.socket),
            None => listeners.push(Listener {
                address,
                sockets: vec![inherited.socket],
                owned_file: inherited.owned_file,
                is_lent: inherited.is_lent,
            }),
        }
    }
    for listener in &mut listeners {
        for index in listener.sockets.len()..count {
            let again = listener.sockets[index % listener.sockets.len()].try_clone()?;
            listener.sockets.push(again);
        }
    }
    Ok(listeners)
}

/// One socket for an admin listener: inherited, or opened. With where it is, and the socket file
/// that is ours to remove.
pub(crate) fn open_one(
    address: &ListenAddress,
    inherited: Option<InheritedSocket>,
) -> io::Result<(OwnedFd, ListenAddress, Option<PathBuf>)> {
    let listener = match inherited {
        Some(inherited) => inherit(vec![inherited], 1)?.pop(),
        None => Some(open(address, 1)?),
    };
    let socket = listener.and_then(|mut listener| {
        let socket = listener.sockets.pop()?;
        Some((socket, listener.address, listener.owned_file))
    });
    socket.ok_or_else(|| io::Error::other("no socket"))
}

/// Where a listening socket listens.
pub(super) fn address_of(socket: &OwnedFd) -> io::Result<ListenAddress> {
    let wrong = |what: &str| {
        let fd = socket.as_raw_fd();
        io::Error::other(format!("the inherited socket {fd} {what}"))
    };
    let options = SockRef::from(socket);
    if !options.is_listener().unwrap_or(false) {
        return Err(wrong(
            "does not listen; use a stream socket (ListenStream=)",
        ));
    }
    let address = options.local_addr()?;
    if let Some(address) = address.as_socket() {
        return Ok(ListenAddress::Tcp(address));
    }
    let path = address.as_pathname();
    Ok(ListenAddress::Unix {
        path: path.ok_or_else(|| wrong("has no address"))?.to_owned(),
        mode: None,
        user: None,
        group: None,
    })
}

/// How long to wait for an address in use. A ring is torn down some time after its process ended,
/// killed ones included, and its accept holds the listener until then: 35 ms on an idle machine.
const IN_USE_PATIENCE: Duration = Duration::from_secs(1);

/// Opens `address` once for each of `count` cores.
pub(super) fn open(address: &ListenAddress, count: usize) -> io::Result<Listener> {
    let give_up = Instant::now() + IN_USE_PATIENCE;
    loop {
        match try_open(address, count) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn try_open(address: &ListenAddress, count: usize) -> io::Result<Listener> {
    match address {
        ListenAddress::Tcp(address) => open_tcp(*address, count),
        ListenAddress::Unix {
            path,
            mode,
            user,
            group,
        } => {
            let socket = open_unix(path, *mode, user.as_deref(), group.as_deref())?;
            // SO_REUSEPORT is refused on Unix sockets: the cores share one queue.
            let mut sockets = vec![OwnedFd::from(socket)];
            for _ in 1..count {
                sockets.push(sockets[0].try_clone()?);
            }
            Ok(Listener {
                address: address.clone(),
                sockets,
                owned_file: Some(path.clone()),
                is_lent: false,
            })
        }
    }
}

fn open_tcp(mut address: SocketAddr, count: usize) -> io::Result<Listener> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        if sockets.is_empty() && address.port() != 0 {
            // The first bind goes without SO_REUSEPORT, so that a port in use is an error and not
            // a share in another process's connections.
            let probe = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            if address.is_ipv6() {
                probe.set_only_v6(true)?;
            }
            probe.set_reuse_address(true)?;
            probe.bind(&address.into())?;
        }
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        sockets.push(OwnedFd::from(socket));
    }
    Ok(Listener {
        address: ListenAddress::Tcp(address),
        sockets,
        owned_file: None,
        is_lent: false,
    })
}

fn open_unix(
    path: &Path,
    mode: Option<u32>,
    user: Option<&str>,
    group: Option<&str>,
) -> io::Result<UnixListener> {
    let owner = user.map(user_id).transpose()?;
    let group = group.map(group_id).transpose()?;
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket
        .bind(&socket2::SockAddr::unix(path)?)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), "its folder does not exist"),
            _ => error,
        })?;
    // Owner and mode before listen: nobody connects in between with the wrong ones.
    if owner.is_some() || group.is_some() {
        nix::unistd::chown(path, owner, group)?;
    }
    let mode = mode.unwrap_or(DEFAULT_MODE);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Removes a socket file nobody listens on; leaves everything else alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path exists and is not a socket",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens on this socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

/// The user of this name or number.
///
/// # Errors
///
/// There is none, or the user database cannot be read.
pub fn user_id(name: &str) -> io::Result<Uid> {
    if let Ok(number) = name.parse() {
        return Ok(Uid::from_raw(number));
    }
    let user = User::from_name(name)?;
    user.map(|user| user.uid)
        .ok_or_else(|| io::Error::other(format!("there is no user '{name}'")))
}

/// The group of this name or number.
///
/// # Errors
///
/// There is none, or the group database cannot be read.
pub fn group_id(name: &str) -> io::Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let group = Group::from_name(name)?;
    group
        .map(|group| group.gid)
        .ok_or_else(|| io::Error::other(format!("there is no group '{name}'")))
}

/// The socket files to remove at the end.
pub(super) fn socket_files(listeners: &[Listener]) -> Vec<PathBuf> {
    listeners
        .iter()
        .filter_map(|listener| listener.owned_file.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ringspoa-listen-{}-{name}", std::process::id()))
    }

    fn unix(path: &Path, mode: Option<u32>, user: Option<&str>) -> ListenAddress {
        let (path, user) = (path.to_owned(), user.map(str::to_owned));
        ListenAddress::Unix {
            path,
            mode,
            user,
            group: None,
        }
    }

    #[test]
    fn every_core_gets_the_port_the_first_one_got() {
        let listener = open(&"127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(listener.sockets.len(), 3);
        let ListenAddress::Tcp(address) = listener.address else {
            panic!("not TCP")
        };
        assert_ne!(address.port(), 0);
        let error = open(&ListenAddress::Tcp(address), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_unix_socket_has_its_mode_and_a_stale_one_is_replaced() {
        let path = temporary("mode");
        let listener = open(&unix(&path, Some(0o640), None), 2).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        let error = open(&unix(&path, None, None), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        open(&unix(&path, None, None), 1).unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn other_files_and_unknown_users_are_named() {
        let path = temporary("file");
        std::fs::write(&path, b"precious").unwrap();
        let error = open(&unix(&path, None, None), 1).unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
        let error = open(&unix(&path, None, Some("no-such-user")), 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("'no-such-user'"), "{error}");
    }
}
