//! Why connections ended, counted. Nobody counts here while all goes well.
#![forbid(unsafe_code)]

use crate::transport::TransportError;
use crate::transport::rdma::{Failure, RdmaError};
use crate::transport::tls::TlsError;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often connections ended for each reason, other than by their client closing them.
#[derive(Debug, Default)]
pub(super) struct Endings {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    /// By reason.
    pub(super) reasons: BTreeMap<&'static str, u64>,
    /// Failed completions of RDMA, by class.
    pub(super) completions: BTreeMap<&'static str, u64>,
}

impl Endings {
    /// Counts one.
    pub(super) fn count(&self, reason: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.reasons.entry(reason).or_default() += 1;
    }

    /// Counts one that its transport ended.
    pub(super) fn count_transport(&self, error: &TransportError) {
        self.count(reason(error));
        if let Some(failure) = failed_completion(error) {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.completions.entry(class(failure)).or_default() += 1;
        }
    }

    pub(super) fn read(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Every reason that connections end for, so that each is told before it first happens.
pub(super) const REASONS: [&str; 17] = [
    "client_connections",
    "connections",
    "forbidden",
    "idle",
    "lost",
    "malformed",
    "memory",
    "no_hello",
    "not_taken",
    "rdma",
    "shared_memory",
    "stalled",
    "throttled",
    "tls",
    "unauthorized",
    "user_connections",
    "version",
];

fn reason(error: &TransportError) -> &'static str {
    match error {
        TransportError::Framing(crate::wire::WireError::BadVersion { .. }) => "version",
        TransportError::Framing(_) => "malformed",
        TransportError::Stalled { .. } => "stalled",
        TransportError::NotTaken { .. } => "not_taken",
        TransportError::OutOfMemory { .. } => "memory",
        TransportError::Shm(_) => "shared_memory",
        TransportError::Tls(_) => "tls",
        TransportError::Lost { source } if source.get_ref().is_some_and(|source| source.is::<TlsError>()) => "tls",
        TransportError::Lost { source } if source.get_ref().is_some_and(|source| source.is::<RdmaError>()) => "rdma",
        _ => "lost",
    }
}

fn failed_completion(error: &TransportError) -> Option<Failure> {
    let TransportError::Lost { source } = error else { return None };
    match source.get_ref()?.downcast_ref() {
        Some(RdmaError::Completion { failure }) => Some(*failure),
        _ => None,
    }
}

/// Every class of failed completions, likewise.
pub(super) const CLASSES: [&str; 9] =
    ["device", "flushed", "local", "not_ready", "other", "remote", "remote_access", "too_long", "unreachable"];

fn class(failure: Failure) -> &'static str {
    match failure {
        Failure::Local => "local",
        Failure::TooLong => "too_long",
        Failure::Remote => "remote",
        Failure::RemoteAccess => "remote_access",
        Failure::Unreachable => "unreachable",
        Failure::NotReady => "not_ready",
        Failure::Flushed => "flushed",
        Failure::Device => "device",
        Failure::Other(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_failed_completion_is_told_by_its_class() {
        let endings = Endings::default();
        for failure in [Failure::Unreachable, Failure::Unreachable, Failure::Other(77)] {
            let source = io::Error::other(RdmaError::Completion { failure });
            endings.count_transport(&TransportError::Lost { source });
        }
        endings.count_transport(&TransportError::Lost { source: io::Error::other(RdmaError::Gone) });
        endings.count_transport(&TransportError::Lost { source: io::ErrorKind::ConnectionReset.into() });
        let counts = endings.read();
        assert!(counts.completions.keys().all(|class| CLASSES.contains(class)));
        assert_eq!(counts.reasons, [("rdma", 4), ("lost", 1)].into());
        assert_eq!(counts.completions, [("unreachable", 2), ("other", 1)].into());
    }
}
