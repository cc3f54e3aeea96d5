//! The socket in the file system: who may connect, and what to do with one that is there already.
//!
//! ```text
//!   path     nothing           bind, mode 0600, listen
//!            no socket         refused: it is somebody's file
//!            a live socket     refused: in use
//!            a dead socket     replaced: whoever listened there is gone
//! ```
//!
//! All that under a lock on the folder, so that two nodes that start at once do not replace each other's. The file's
//! mode decides who may connect; change it with `chmod` to admit more. What the kernel says of a peer is held against
//! the mode once more, and logged.
#![forbid(unsafe_code)]

use super::{ShmIncoming, handshake};
use crate::transport::{Endpoint, Listener, TransportError};
use rustix::fs::{FlockOperation, flock};
use rustix::net::UCred;
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The socket's mode: its owner's processes.
const MODE: u32 = 0o600;

/// How often a folder that another node is starting in, or a full backlog, is tried again, and how long it is left
/// alone in between.
const TRIES: u32 = 200;
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// A listening socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct ShmListener {
    listener: UnixListener,
    endpoint: Endpoint,
    path: PathBuf,
    /// Device and inode of the file: another one at the same path is somebody else's.
    file: (u64, u64),
}

impl ShmListener {
    /// Listens at a path.
    pub(super) async fn new(endpoint: &Endpoint) -> io::Result<Self> {
        let path = path_of(endpoint)?.to_owned();
        let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
        lock(&folder).await?;
        make_way(&path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        // Nobody can connect before it listens: so nobody does before the mode is right.
        fs::set_permissions(&path, Permissions::from_mode(MODE))?;
        socket.listen(BACKLOG)?;
        let file = identity(&fs::symlink_metadata(&path)?);
        let listener = UnixListener::from_std(socket.into())?;
        Ok(Self { listener, endpoint: endpoint.clone(), path, file })
    }

    fn incoming(&self, socket: UnixStream) -> Result<ShmIncoming, TransportError> {
        let failed = |source| TransportError::Accept { source };
        let credentials = socket_peercred(&socket).map_err(|errno| failed(errno.into()))?;
        let mode = fs::metadata(&self.path).map_or(MODE, |metadata| metadata.mode());
        let owner = rustix::process::geteuid();
        if !admits(mode, (owner.as_raw(), rustix::process::getegid().as_raw()), credentials) {
            let text = format!("user {} may not connect here: mode {:o}", credentials.uid.as_raw(), mode & 0o777);
            return Err(failed(io::Error::new(ErrorKind::PermissionDenied, text)));
        }
        let (pid, uid) = (credentials.pid.as_raw_nonzero(), credentials.uid.as_raw());
        let segments = handshake::offer(socket.as_fd()).map_err(TransportError::Shm)?;
        Ok(ShmIncoming { socket, segments, peer: format!("shm://process {pid} of user {uid}"), uid })
    }
}

impl Listener for ShmListener {
    type Incoming = ShmIncoming;

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn local_only(&self) -> bool {
        true
    }

    async fn accept(&mut self) -> Result<ShmIncoming, TransportError> {
        let accepted = self.listener.accept().await.and_then(|(stream, _)| stream.into_std());
        self.incoming(accepted.map_err(|source| TransportError::Accept { source })?)
    }
}

impl Drop for ShmListener {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| identity(&metadata) == self.file);
        if still_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }
}

/// Whether a mode lets a process in: as the kernel judges, but for the groups that a process has besides its own.
fn admits(mode: u32, (owner, group): (u32, u32), peer: UCred) -> bool {
    const GROUP_WRITES: u32 = 0o020;
    const OTHERS_WRITE: u32 = 0o002;
    let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
    uid == owner || uid == 0 || mode & OTHERS_WRITE != 0 || mode & GROUP_WRITES != 0 && gid == group
}

fn path_of(endpoint: &Endpoint) -> io::Result<&Path> {
    endpoint.path().ok_or_else(|| io::Error::other("no path"))
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Keeps other nodes from starting in a folder until it is closed.
async fn lock(folder: &File) -> io::Result<()> {
    for _ in 0..TRIES {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(TRY_AGAIN).await,
            locked => return Ok(locked?),
        }
    }
    Err(io::Error::new(ErrorKind::AddrInUse, "the folder stays locked: another node is starting in it"))
}

/// Removes a dead socket.
fn make_way(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file of another kind, no socket"));
    }
    match probe(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Whatever else it says, somebody is there.
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "in use: somebody listens there")),
    }
}

fn probe(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// Connects to a node's socket.
pub(super) async fn connect(endpoint: &Endpoint) -> io::Result<UnixStream> {
    let path = path_of(endpoint)?;
    // The kernel says "refused" of a plain file, as if nobody listened.
    if !fs::metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "this is no socket"));
    }
    for _ in 0..TRIES {
        match probe(path) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(TRY_AGAIN).await,
            connected => return connected,
        }
    }
    Err(io::Error::new(ErrorKind::TimedOut, "the node accepts nobody: its backlog stays full"))
}
