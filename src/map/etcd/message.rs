//! What is asked of etcd's JSON gateway, and what it answers. Keys and values are base64, numbers of 64 bits text.
//!
//! Source: etcd v3 API, `api/etcdserverpb/rpc.proto` (`RangeRequest`, `TxnRequest`, `WatchRequest`) as JSON by
//! grpc-gateway: what has its default is left out, a stream is one object a line, under `result` or `error`.
#![forbid(unsafe_code)]

use super::error::{EtcdError, shortened};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::json;

pub(super) const RANGE_PATH: &str = "/v3/kv/range";
pub(super) const TXN_PATH: &str = "/v3/kv/txn";
pub(super) const WATCH_PATH: &str = "/v3/watch";

/// Asks for the value of a key, as a majority of members has it.
pub(super) fn range(key: &str) -> String {
    json!({ "key": STANDARD.encode(key) }).to_string()
}

/// Puts a value in the place of the one that revision `mod_revision` wrote, 0 for none.
pub(super) fn replace(key: &str, mod_revision: u64, value: &str) -> String {
    let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
    json!({
        "compare": [{ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": mod_revision.to_string() }],
        "success": [{ "request_put": { "key": key, "value": value } }],
    })
    .to_string()
}

/// Asks for every change of a key from a revision on.
pub(super) fn watch(key: &str, from: u64) -> String {
    json!({ "create_request": { "key": STANDARD.encode(key), "start_revision": from.to_string() } }).to_string()
}

/// Answers [`range`].
#[derive(Debug, Deserialize)]
pub(super) struct RangeAnswer {
    pub(super) header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Header {
    /// Of the whole store, when it was read.
    #[serde(deserialize_with = "number")]
    pub(super) revision: u64,
}

#[derive(Debug, Deserialize)]
struct KeyValue {
    #[serde(deserialize_with = "number")]
    mod_revision: u64,
    #[serde(default)]
    value: String,
}

impl RangeAnswer {
    /// The value, and the revision that wrote it; `None` where there is no such key.
    pub(super) fn value(self) -> Result<Option<(u64, Vec<u8>)>, EtcdError> {
        let mut kvs = self.kvs.into_iter();
        let Some(found) = kvs.next() else { return Ok(None) };
        if kvs.next().is_some() {
            return Err(EtcdError::NotEtcd("several values of one key".to_owned()));
        }
        let value = STANDARD.decode(found.value).map_err(|error| EtcdError::NotEtcd(format!("value: {error}")))?;
        Ok(Some((found.mod_revision, value)))
    }
}

/// Answers [`replace`].
#[derive(Debug, Deserialize)]
pub(super) struct ReplaceAnswer {
    /// There, so that `{}` of whomever is no answer.
    #[serde(rename = "header")]
    _header: Header,
    #[serde(default)]
    pub(super) succeeded: bool,
}

/// One line of what answers [`watch`].
#[derive(Debug, Deserialize)]
pub(super) struct WatchLine {
    result: Option<WatchAnswer>,
    error: Option<WatchError>,
}

#[derive(Debug, Deserialize)]
struct WatchAnswer {
    #[serde(default)]
    events: Vec<IgnoredAny>,
    /// Also where the revision was compacted away.
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    cancel_reason: String,
}

#[derive(Debug, Deserialize)]
struct WatchError {
    #[serde(default)]
    message: String,
}

impl WatchLine {
    /// Whether the key has changed.
    pub(super) fn changed(self) -> Result<bool, EtcdError> {
        match (self.result, self.error) {
            (Some(answer), None) if answer.canceled => {
                Err(EtcdError::NotEtcd(format!("watch canceled: {}", shortened(&answer.cancel_reason))))
            }
            (Some(answer), None) => Ok(!answer.events.is_empty()),
            (_, Some(error)) => Err(EtcdError::NotEtcd(format!("watch refused: {}", shortened(&error.message)))),
            (None, None) => Err(EtcdError::NotEtcd("neither result nor error".to_owned())),
        }
    }
}

/// Reads an answer.
pub(super) fn parse<A: DeserializeOwned>(json: &[u8]) -> Result<A, EtcdError> {
    serde_json::from_slice(json).map_err(|error| EtcdError::NotEtcd(shortened(&error.to_string())))
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format_args!("'{}' is no revision", shortened(&text))))
}
