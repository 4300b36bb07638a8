//! Where a process listens: TCP, Unix sockets, and sockets passed in by the service manager.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket::Accepted;
use crate::config::settings::{Grpc, Listen};

/// Connections that wait to be accepted: after a roll-back every client comes back at once. The kernel lowers it to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A bound socket. Nothing is accepted yet; connections wait in its backlog.
#[derive(Debug)]
pub enum Listener {
    /// TCP
    Tcp(TcpListener),
    /// A Unix stream socket
    Unix(UnixListener),
}

/// Why it is impossible to listen there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {at}: {why}")]
pub struct BindError {
    at: String,
    why: String,
}

/// Binds everything that `grpc.listen` names.
///
/// # Errors
/// The first that can't be bound; those before it are closed again.
pub fn bind(grpc: &Grpc) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for listen in &grpc.listen {
        listeners.extend(bind_one(listen)?);
    }
    Ok(listeners)
}

/// Binds one address; more than one listener only where the service manager passes several sockets of one name.
///
/// # Errors
/// What is wrong with the address, and what to do.
pub fn bind_one(listen: &Listen) -> Result<Vec<Listener>, BindError> {
    match listen {
        Listen::Tcp(address) => {
            let tcp = bind_tcp(*address)
                .map_err(|error| BindError { at: address.to_string(), why: why_not_tcp(&error) })?;
            Ok(vec![Listener::Tcp(tcp)])
        }
        Listen::Unix(path) => {
            let unix =
                bind_unix(path).map_err(|why| BindError { at: format!("unix:{}", path.display()), why })?;
            Ok(vec![Listener::Unix(unix)])
        }
        Listen::Systemd(name) => {
            inherit(name).map_err(|why| BindError { at: format!("systemd:{name}"), why })
        }
    }
}

impl Listener {
    /// Where it listens, as `grpc.listen` would name it; with the port that was chosen where 0 was asked for.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(tcp) => tcp.local_addr().map_or_else(|_| "tcp".to_owned(), |at| at.to_string()),
            Listener::Unix(unix) => {
                let at = unix.local_addr().ok();
                let path = at.as_ref().and_then(|at| at.as_pathname()).unwrap_or(Path::new(""));
                format!("unix:{}", path.display())
            }
        }
    }

    /// Begins to accept, on the present thread's runtime.
    ///
    /// # Errors
    /// The runtime can't watch it.
    pub fn watch(self) -> io::Result<Watched> {
        Ok(match self {
            Listener::Tcp(tcp) => Watched::Tcp(tokio::net::TcpListener::from_std(tcp)?),
            Listener::Unix(unix) => Watched::Unix(tokio::net::UnixListener::from_std(unix)?),
        })
    }
}

/// A listener that a thread's runtime watches.
#[derive(Debug)]
pub enum Watched {
    /// TCP
    Tcp(tokio::net::TcpListener),
    /// A Unix stream socket
    Unix(tokio::net::UnixListener),
}

impl Watched {
    /// The next connection, for any thread to serve. Cancel safe.
    ///
    /// # Errors
    /// As `accept(2)`.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Watched::Tcp(tcp) => tcp.accept().await?.0.into_std().map(Accepted::Tcp),
            Watched::Unix(unix) => unix.accept().await?.0.into_std().map(Accepted::Unix),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a process that has just ended must not keep its successor out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn why_not_tcp(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there; stop it, or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE or a socket of the service manager"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// A socket that a dead process left behind is replaced; one that somebody answers on, or any other file, never is.
fn bind_unix(path: &Path) -> Result<UnixListener, String> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let listener = bound.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted to create the socket there".to_owned(),
        _ => error.to_string(),
    })?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), String> {
    let found = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !found.file_type().is_socket() {
        return Err("a file that is no socket is in the way; remove it, or choose another path".to_owned());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| format!("cannot replace a dead socket: {error}"))
        }
        Err(error) => Err(format!("cannot tell whether another process listens there: {error}")),
        Ok(_) => Err("another process listens there; stop it, or choose another path".to_owned()),
    }
}

fn inherit(name: &str) -> Result<Vec<Listener>, String> {
    let passed: Vec<(RawFd, String)> =
        sd_notify::listen_fds_with_names().map_err(|error| error.to_string())?.collect();
    let named = passed.iter().filter(|(_, passed)| passed == name);
    let listeners = named.map(|(fd, _)| adopt(*fd)).collect::<io::Result<Vec<Listener>>>();
    let listeners = listeners.map_err(|error| error.to_string())?;
    if !listeners.is_empty() {
        return Ok(listeners);
    }
    let names: Vec<&str> = passed.iter().map(|(_, name)| name.as_str()).collect();
    Err(match names.as_slice() {
        [] => {
            "the service manager passed no sockets; start the .socket unit instead of the process".to_owned()
        }
        names => format!("no such socket; FileDescriptorName= of those passed: {}", names.join(", ")),
    })
}

fn adopt(fd: RawFd) -> io::Result<Listener> {
    let socket = duplicate(fd)?;
    let kind = SockRef::from(&socket);
    if kind.r#type()? != Type::STREAM || !kind.is_listener()? {
        return Err(io::Error::other("the socket passed in is no listening stream socket"));
    }
    kind.set_nonblocking(true)?;
    Ok(if kind.domain()? == Domain::UNIX {
        Listener::Unix(socket.into())
    } else {
        Listener::Tcp(socket.into())
    })
}

/// A duplicate, so that nobody is the owner of the number itself and binding twice is harmless.
fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the service manager opened it before this process began (sd_listen_fds(3)), and nothing here ever closes it.
    #[allow(unsafe_code)]
    let passed = unsafe { BorrowedFd::borrow_raw(fd) };
    passed.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &Path) -> Result<Vec<Listener>, BindError> {
        bind_one(&Listen::Unix(path.to_owned()))
    }

    #[test]
    fn a_port_in_use_is_said_to_be() {
        let first = bind_one(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = first[0].address();
        let error = bind_one(&Listen::Tcp(address.parse().unwrap())).unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("another process listens there"), "{error}");
    }

    #[test]
    fn a_dead_processs_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blockhouse.sock");
        drop(unix(&path).unwrap());
        assert!(path.exists());
        let again = unix(&path).unwrap();
        assert_eq!(again[0].address(), format!("unix:{}", path.display()));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_living_processs_socket_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blockhouse.sock");
        let alive = unix(&path).unwrap();
        let error = unix(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(alive);
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        assert!(unix(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
        assert!(unix(&folder.path().join("no/such")).unwrap_err().to_string().contains("folder"));
    }

    #[test]
    fn without_a_service_manager_its_sockets_are_missed() {
        let error = bind_one(&Listen::Systemd("grpc".to_owned())).unwrap_err().to_string();
        assert!(error.contains("systemd:grpc") && error.contains(".socket unit"), "{error}");
    }
}
