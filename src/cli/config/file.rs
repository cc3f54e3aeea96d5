//! The configuration file: one TOML table, whose keys are the flags' names.
#![forbid(unsafe_code)]

use super::error::ConfigError;
use super::{Kind, Origin, Said, Sources, is_list};
use clap::Arg;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What the file says of each flag.
pub(super) fn read(path: &Path, sources: &Sources) -> Result<BTreeMap<String, Said>, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let line_at = |at: usize| 1 + text[..at.min(text.len())].matches('\n').count();
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_at(error.span().map_or(0, |span| span.start)),
        message: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    let mut said = BTreeMap::new();
    for (name, value) in table.get_ref() {
        let (key, line) = (name.get_ref().to_string(), line_at(name.span().start));
        let Some(arg) = sources.find(&key) else {
            let nearest = sources.nearest(&key).map(|(known, _)| known.to_owned()).unwrap_or_default();
            let key = key.escape_debug().to_string();
            return Err(ConfigError::UnknownKey { path: path.to_owned(), line, key, nearest });
        };
        let mut values = Vec::new();
        for value in each(arg, value) {
            let (got, line) = (shown(&text[value.span()]), line_at(value.span().start));
            let Some(text) = text_of(value.get_ref(), Kind::of(arg)) else {
                let (path, expected) = (path.to_owned(), expected(arg));
                return Err(ConfigError::Type { path, line, key, got, expected });
            };
            let text = OsString::from(text);
            if let Err(why) = sources.judge(&key, &text) {
                return Err(ConfigError::Value { path: path.to_owned(), line, key, got, why });
            }
            values.push(text);
        }
        said.insert(key, Said { values, origin: Origin::File { path: path.to_owned(), line } });
    }
    Ok(said)
}

/// The values of a list, or the one that there is.
fn each<'a, 'i>(arg: &Arg, value: &'a Spanned<DeValue<'i>>) -> Vec<&'a Spanned<DeValue<'i>>> {
    match value.get_ref() {
        DeValue::Array(several) if is_list(arg) && !several.is_empty() => several.iter().collect(),
        _ => vec![value],
    }
}

/// A value as the command line has it; `None` where it is of another type.
fn text_of(value: &DeValue<'_>, kind: Kind) -> Option<String> {
    match (value, kind) {
        (DeValue::Boolean(value), Kind::Bool) => Some(value.to_string()),
        (DeValue::Integer(value), Kind::Number) => {
            i128::from_str_radix(value.as_str(), value.radix()).ok().map(|number| number.to_string())
        }
        (DeValue::String(text), Kind::Number | Kind::Text) => Some(text.to_string()),
        _ => None,
    }
}

fn expected(arg: &Arg) -> &'static str {
    match (Kind::of(arg), is_list(arg)) {
        (Kind::Bool, _) => "true or false",
        (Kind::Number, _) => "a whole number, or one with a unit in quotes",
        (Kind::Text, true) => "a text in quotes, or a list of them",
        (Kind::Text, false) => "a text in quotes",
    }
}

/// As much of a value as fits in a line.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.len() == text.len() && line.chars().count() <= CHARS_MAX {
        return line.to_owned();
    }
    format!("{}...", line.chars().take(CHARS_MAX).collect::<String>())
}
