//! What a store should be: a plain map. It learns versions where it is told one, and holds them to the rules.
#![forbid(unsafe_code)]

use freight::client::ClientError;
use freight::op::{Action, Op, Outcome, VERSION_ABSENT, Version};
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Model {
    records: BTreeMap<Vec<u8>, Record>,
}

/// A key that was written once, whether or not there is a record now.
#[derive(Clone)]
struct Record {
    value: Option<Vec<u8>>,
    version: Known,
}

/// What is known of the version that was drawn for a key last.
#[derive(Debug, Clone, Copy)]
enum Known {
    Exactly(Version),
    Above(Version),
}

impl Model {
    /// The version of a record that is there and known, 0 for none.
    pub(crate) fn version(&self, key: &[u8]) -> Option<Version> {
        match self.records.get(key) {
            Some(Record { value: Some(_), version: Known::Exactly(version) }) => Some(*version),
            Some(Record { value: Some(_), .. }) => None,
            _ => Some(VERSION_ABSENT),
        }
    }

    fn values(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.records.iter().filter_map(|(key, record)| Some((key, record.value.as_ref()?)))
    }

    /// Keys with a record, and as many without.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        self.records.keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.values().count()
    }

    pub(crate) fn payload_bytes(&self) -> u64 {
        self.values().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    /// Applies an operation that was answered with `outcome`; panics where a map says otherwise.
    pub(crate) fn check(&mut self, op: &Op<'_>, outcome: Outcome<'_>) {
        let shown = format!("{} of {}", kind(op.action), op.key[..op.key.len().min(40)].escape_ascii());
        let before = self.records.get(op.key).and_then(|record| record.value.clone());
        match (op.action, outcome) {
            (Action::Get, Outcome::Value { value, version }) => {
                assert!(before.as_deref() == Some(value), "{shown}: another value");
                assert_eq!(version.is_some(), op.version_wanted, "{shown}");
                self.learn(op.key, version, &shown);
            }
            (Action::Get | Action::Delete, Outcome::NotFound) => assert!(before.is_none(), "{shown}: lost"),
            (Action::Put { value }, Outcome::Done { version }) => self.write(op, value, version, &shown),
            (Action::Delete, Outcome::Done { version: None }) => {
                assert!(before.is_some(), "{shown}: deleted twice");
                self.records.get_mut(op.key).expect("it has a value").value = None;
            }
            (Action::CompareAndSwap { expected, value }, Outcome::Done { version }) => {
                assert_eq!(before.is_none(), expected == VERSION_ABSENT, "{shown}");
                self.learn(op.key, Some(expected).filter(|_| before.is_some()), &shown);
                self.write(op, value, version, &shown);
            }
            (Action::CompareAndSwap { expected, .. }, Outcome::VersionMismatch { current }) => {
                assert_ne!(current, expected, "{shown}");
                assert_eq!(before.is_none(), current == VERSION_ABSENT, "{shown}");
                self.learn(op.key, Some(current).filter(|_| before.is_some()), &shown);
            }
            (Action::Add { delta }, outcome) => match (sum(before.as_deref(), delta), outcome) {
                (Ok(sum), Outcome::Counter { value, version }) => {
                    assert_eq!(value, sum, "{shown}");
                    self.write(op, sum.to_string().as_bytes(), version, &shown);
                }
                (Err(expected), outcome) => assert_eq!(outcome, expected, "{shown}"),
                (Ok(sum), outcome) => panic!("{shown}: {outcome:?}, not {sum}"),
            },
            (_, outcome) => panic!("{shown}: {outcome:?}"),
        }
    }

    /// As [`Model::check`], for an add through the client's own method.
    pub(crate) fn check_single_add(&mut self, op: &Op<'_>, told: Result<i64, ClientError>) {
        let outcome = match told {
            Ok(value) => Outcome::Counter { value, version: None },
            Err(ClientError::NotANumber) => Outcome::NotANumber,
            Err(ClientError::CounterOverflow) => Outcome::CounterOverflow,
            Err(error) => panic!("{error}"),
        };
        self.check(op, outcome);
    }

    /// A record's version was told: it must be one that it can have.
    fn learn(&mut self, key: &[u8], told: Option<Version>, shown: &str) {
        let (Some(version), Some(record)) = (told, self.records.get_mut(key)) else { return };
        match record.version {
            Known::Exactly(known) => assert_eq!(version, known, "{shown}: another version"),
            Known::Above(least) => assert!(version > least, "{shown}: version {version} after {least}"),
        }
        record.version = Known::Exactly(version);
    }

    fn write(&mut self, op: &Op<'_>, value: &[u8], told: Option<Version>, shown: &str) {
        assert_eq!(told.is_some(), op.version_wanted, "{shown}");
        let last = match self.records.get(op.key).map(|record| record.version) {
            Some(Known::Exactly(version) | Known::Above(version)) => version,
            None => VERSION_ABSENT,
        };
        let version = match told {
            Some(version) => {
                assert!(version > last, "{shown}: version {version} after {last}");
                Known::Exactly(version)
            }
            None => Known::Above(last),
        };
        self.records.insert(op.key.to_vec(), Record { value: Some(value.to_vec()), version });
    }
}

/// What an add leaves, or why it leaves nothing: only a number's shortest spelling is one.
fn sum(before: Option<&[u8]>, delta: i64) -> Result<i64, Outcome<'static>> {
    let text = before.unwrap_or(b"0");
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    let number = number.filter(|number| number.to_string().as_bytes() == text).ok_or(Outcome::NotANumber)?;
    number.checked_add(delta).ok_or(Outcome::CounterOverflow)
}

fn kind(action: Action<'_>) -> &'static str {
    match action {
        Action::Get => "get",
        Action::Put { .. } => "put",
        Action::Delete => "delete",
        Action::CompareAndSwap { .. } => "compare-and-swap",
        Action::Add { .. } => "add",
        Action::Edit(_) => "edit",
    }
}
