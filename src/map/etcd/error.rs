//! Why an etcd endpoint gave no answer that is of use.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Characters of what a peer said that are told on.
const SAID_CHARS_MAX: usize = 200;

/// Why one endpoint gave none. Cheap to clone.
#[derive(Debug, Clone, Error)]
pub enum EtcdError {
    /// It cannot be reached; nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(Arc<io::Error>),
    /// It said nothing in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The connection broke, or what came is no HTTP.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// Another status than 200.
    #[error("HTTP status {status}: {said}")]
    Status {
        /// The status.
        status: u16,
        /// What stood under it, shortened.
        said: String,
    },
    /// More than any answer of etcd to our questions.
    #[error("an answer of more than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// HTTP, but not what etcd answers.
    #[error("no answer of etcd's: {0}")]
    NotEtcd(String),
}

impl EtcdError {
    /// What broke an exchange, as hyper tells it: the kind, and the cause under it.
    pub(super) fn broken(error: &hyper::Error) -> Self {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Broken(shortened(&format!("{error}{cause}")))
    }
}

/// Text of a peer as part of a line.
pub(super) fn shortened(text: &str) -> String {
    let text = text.trim();
    text.chars().take(SAID_CHARS_MAX).collect::<String>().escape_debug().to_string()
}

/// An endpoint that was asked in vain.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Host and port.
    pub endpoint: String,
    /// What happened.
    pub error: EtcdError,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.error)
    }
}

/// All that were asked, in one line.
pub(in crate::map) fn told(tried: &[Tried]) -> String {
    tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
