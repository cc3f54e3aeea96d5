//! What verbs refuse, with what to do about it.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use thiserror::Error;

/// Why a verbs object cannot be made or used.
#[derive(Debug, Clone, Error)]
pub enum VerbsError {
    /// libibverbs is not installed.
    #[error("RDMA needs libibverbs, which this machine lacks ({reason}): install rdma-core or libibverbs1")]
    NoLibrary {
        /// The loader's reason.
        reason: String,
    },
    /// libibverbs lacks a function.
    #[error("libibverbs has no {function}: it is older than rdma-core 15, update it")]
    OldLibrary {
        /// The function.
        function: &'static str,
    },
    /// The kernel has no verbs.
    #[error("the kernel offers no verbs ({source}): modprobe ib_uverbs and the driver of the card, or rdma_rxe")]
    NoKernel {
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// There is no device at all.
    #[error("this machine has no RDMA device: load its driver, or `rdma link add rxe0 type rxe netdev NETDEV`")]
    NoDevice,
    /// There is no device of this name.
    #[error("no RDMA device is called '{name}': there are {}", there.join(", "))]
    UnknownDevice {
        /// The name.
        name: String,
        /// Those that exist.
        there: Vec<String>,
    },
    /// A device that is there cannot be opened.
    #[error("cannot open the RDMA device {device}: {source}; see `dmesg`, and who may use /dev/infiniband")]
    NotOpened {
        /// The device.
        device: String,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// A device has no such port.
    #[error("{device} has no port {port}: it has 1 to {ports}")]
    UnknownPort {
        /// The device.
        device: String,
        /// The port asked for.
        port: u8,
        /// How many it has.
        ports: u8,
    },
    /// A port is down.
    #[error("port {port} of {device} is {state}, not active: see `rdma link` and the cable")]
    PortDown {
        /// The device.
        device: String,
        /// The port.
        port: u8,
        /// Its state.
        state: &'static str,
    },
    /// A GID index that is empty or out of range.
    #[error("{device} port {port} has no GID at index {index} (its table has {entries}): see `freight rdma devices`")]
    UnknownGid {
        /// The device.
        device: String,
        /// The port.
        port: u8,
        /// The index asked for.
        index: u32,
        /// Entries of its table.
        entries: u32,
    },
    /// No device has an address among its GIDs.
    #[error(
        "no active RDMA port owns address {address}: use an address of one (`freight rdma devices`), or name it with \
         --rdma-device"
    )]
    NoOwner {
        /// The address.
        address: std::net::IpAddr,
    },
    /// Memory cannot be registered for lack of locked memory.
    #[error(
        "cannot register {bytes} bytes: the locked-memory limit is {limit}; raise it (`ulimit -l`, LimitMEMLOCK=, \
         limits.conf)"
    )]
    LockedMemory {
        /// Bytes to register.
        bytes: u64,
        /// The limit, for people.
        limit: String,
    },
    /// The memory budget has no room.
    #[error("the memory cap has no room for {bytes} registered bytes")]
    Budget {
        /// Bytes to register.
        bytes: u64,
    },
    /// Some other refusal of the system.
    #[error("{what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// The system's reason.
        source: Arc<io::Error>,
    },
}

impl VerbsError {
    /// What was to be done, and the error that the last call of this thread left behind.
    pub(super) fn last(what: &'static str) -> Self {
        Self::System { what, source: Arc::new(io::Error::last_os_error()) }
    }

    /// That a device cannot be opened, and the error that the last call of this thread left behind.
    pub(super) fn not_opened(device: &str) -> Self {
        Self::NotOpened { device: device.to_owned(), source: Arc::new(io::Error::last_os_error()) }
    }

    /// As [`VerbsError::last`] for calls that return the error.
    pub(super) fn returned(what: &'static str, code: i32) -> Self {
        Self::System { what, source: Arc::new(io::Error::from_raw_os_error(code.abs())) }
    }

    /// As an error of the system, for those who only know those.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::NoLibrary { .. } | Self::OldLibrary { .. } | Self::NoKernel { .. } => io::ErrorKind::Unsupported,
            Self::LockedMemory { .. } | Self::Budget { .. } => io::ErrorKind::OutOfMemory,
            Self::System { source, .. } | Self::NotOpened { source, .. } => source.kind(),
            _ => io::ErrorKind::NotFound,
        };
        io::Error::new(kind, self)
    }
}
