//! Where each flag of `serve` gets its value: command line, environment, file, default, in that order.
//!
//! ```text
//!   file:  memory = "4GiB"   --+
//!   FREIGHT_MEMORY=4GiB      --+--> --memory=4GiB, where the command line has none --> clap --> ServeArgs
//! ```
//!
//! A flag is declared once, to clap: what the file and the environment may say is read off that declaration, and what
//! they say is judged by the flag's own parser.
#![forbid(unsafe_code)]

mod error;
mod file;
mod reload;
#[cfg(test)]
mod tests;

pub(super) use error::ConfigError;
pub(super) use reload::{Reloader, Running};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// What the name of each variable begins with.
const PREFIX: &str = "FREIGHT_";

/// The flag that names the file; it cannot stand in it.
const FILE_FLAG: &str = "config";

/// Flags that say what the command does, not how the node runs: neither file nor environment has them.
const NOT_SETTINGS: [&str; 2] = ["check-config", "help"];

/// The command line and the environment of a process, from which its settings are made again whenever the file changes.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    command: Command,
    line: Vec<OsString>,
    environment: BTreeMap<String, OsString>,
}

/// What each flag is, and who said so.
#[derive(Debug)]
pub(super) struct Settings {
    /// As if all of it had stood on the command line.
    pub(super) matches: ArgMatches,
    /// The file, where one was named.
    pub(super) file: Option<PathBuf>,
    all: Vec<Setting>,
}

/// One flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its name, without dashes.
    pub(super) key: String,
    /// Empty where it is not set.
    pub(super) values: Vec<String>,
    origin: Origin,
    kind: Kind,
    is_list: bool,
}

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Flag,
    Variable(String),
    File { path: PathBuf, line: usize },
    Default,
}

/// What the file's value of a flag looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    /// A whole number, or one with a unit as text.
    Number,
    Text,
}

/// A flag's values outside of the command line.
struct Said {
    values: Vec<OsString>,
    origin: Origin,
}

impl Sources {
    /// Of `command`, which is `serve`, with the arguments behind its name.
    pub(super) fn new(
        command: Command,
        line: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        // An empty variable is one that somebody could not unset.
        let ours = |(name, value): (OsString, OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
            (!value.is_empty()).then_some((name, value))
        };
        let environment = environment.into_iter().filter_map(ours).collect();
        Self { command, line: line.into_iter().collect(), environment }
    }

    /// Reads the file, and makes the settings of all there is.
    pub(super) fn read(&self) -> Result<Settings, ConfigError> {
        let given = self.parse(&[])?;
        let path = given.get_one::<PathBuf>(FILE_FLAG).cloned();
        let path = path.or_else(|| self.environment.get(&variable(FILE_FLAG)).map(PathBuf::from));
        let mut said = match &path {
            Some(path) => file::read(path, self)?,
            None => BTreeMap::new(),
        };
        self.take_environment(&mut said)?;
        let is_given = |key: &str| is_on_the_line(&given, self.argument(key));
        said.retain(|key, _| !is_given(key));
        let words = said.iter().flat_map(|(key, said)| said.values.iter().map(|value| word(key, value)));
        let matches = self.parse(&words.collect::<Vec<_>>())?;
        let all = self.settings().map(|arg| setting(arg, &matches, &mut said)).collect();
        Ok(Settings { matches, file: path, all })
    }

    /// Variables that look like one of ours, and what each resembles. Others are not ours to judge: Kubernetes sets
    /// `FREIGHT_PORT` and more beside a service of that name.
    pub(super) fn misspelt(&self) -> impl Iterator<Item = (&str, String)> {
        let is_known =
            |name: &str| name == variable(FILE_FLAG) || self.settings().any(|arg| variable(long(arg)) == name);
        let unknown = self.environment.keys().filter(move |name| !is_known(name));
        unknown.filter_map(|name| {
            // By what follows the prefix: with it every name resembles every other.
            let key = name.strip_prefix(PREFIX)?.to_lowercase().replace('_', "-");
            let (known, likeness) = self.nearest(&key)?;
            (likeness > LIKE_MIN).then_some((&**name, variable(known)))
        })
    }

    fn take_environment(&self, said: &mut BTreeMap<String, Said>) -> Result<(), ConfigError> {
        for arg in self.settings() {
            let (key, name) = (long(arg), variable(long(arg)));
            let Some(value) = self.environment.get(&name) else { continue };
            self.judge(key, value).map_err(|why| ConfigError::Variable {
                name: name.clone(),
                got: value.to_string_lossy().into_owned(),
                why,
            })?;
            said.insert(key.to_owned(), Said { values: vec![value.clone()], origin: Origin::Variable(name) });
        }
        Ok(())
    }

    /// Every flag that file and environment may set.
    fn settings(&self) -> impl Iterator<Item = &Arg> {
        let is_setting =
            |arg: &&Arg| arg.get_long().is_some_and(|long| long != FILE_FLAG && !NOT_SETTINGS.contains(&long));
        self.command.get_arguments().filter(is_setting)
    }

    fn find(&self, key: &str) -> Option<&Arg> {
        self.settings().find(|arg| long(arg) == key)
    }

    fn argument(&self, key: &str) -> &Arg {
        self.find(key).expect("only keys that are flags are said")
    }

    /// The key that most resembles one that is none, and how much.
    fn nearest(&self, key: &str) -> Option<(&str, f64)> {
        let known = self.settings().map(|arg| (long(arg), strsim::jaro_winkler(key, long(arg))));
        known.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// Why a flag does not take a value.
    fn judge(&self, key: &str, value: &OsStr) -> Result<(), String> {
        let words = [OsString::from("serve"), word(key, value)];
        self.command.clone().try_get_matches_from(words).map(drop).map_err(|error| error::why(&error))
    }

    /// Parses `words` and what stands on the line.
    fn parse(&self, words: &[OsString]) -> Result<ArgMatches, ConfigError> {
        let serve = OsString::from("serve");
        let words = [serve].into_iter().chain(words.iter().cloned()).chain(self.line.iter().cloned());
        self.command.clone().try_get_matches_from(words).map_err(ConfigError::Line)
    }
}

impl Settings {
    /// The settings whose values are others than before, each with its old and new ones.
    pub(super) fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a Setting, &'a Setting)> {
        before.all.iter().zip(&self.all).filter(|(before, now)| before.values != now.values)
    }

    /// Takes one setting over from newer ones.
    pub(super) fn take(&mut self, setting: &Setting) {
        let own = self.all.iter_mut().find(|own| own.key == setting.key);
        own.expect("both have every flag").clone_from(setting);
    }
}

/// A file that says the same, and behind each value who said it.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &self.all {
            if setting.values.is_empty() {
                writeln!(f, "# {} is not set", setting.key)?;
            } else {
                let entry = format!("{} = {}", setting.key, setting.value());
                writeln!(f, "{entry:<40} # {}", setting.origin)?;
            }
        }
        Ok(())
    }
}

impl Setting {
    /// The value as the file has it; what is not set is `none`.
    pub(super) fn value(&self) -> String {
        let one = |value: &String| match self.kind {
            Kind::Bool => value.clone(),
            Kind::Number if value.bytes().all(|byte| byte.is_ascii_digit()) => value.clone(),
            Kind::Number | Kind::Text => toml::Value::from(value.as_str()).to_string(),
        };
        match &self.values[..] {
            [] => "none".to_owned(),
            [only] if !self.is_list => one(only),
            several => format!("[{}]", several.iter().map(one).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let parsed = arg.get_value_parser().type_id();
        let numbers = [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>()];
        if parsed == TypeId::of::<bool>() {
            Self::Bool
        } else if numbers.into_iter().any(|number| parsed == number) {
            Self::Number
        } else {
            Self::Text
        }
    }
}

/// A flag that is there or not takes `=false` too: else what the file switched on no flag could switch off.
pub(super) fn with_value(arg: Arg) -> Arg {
    let is_switch =
        matches!(arg.get_action(), ArgAction::SetTrue) && !NOT_SETTINGS.iter().any(|name| arg.get_long() == Some(name));
    if !is_switch {
        return arg;
    }
    let arg = arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).value_name("BOOL");
    arg.default_value("false").default_missing_value("true").hide_default_value(true).hide_possible_values(true)
}

fn setting(arg: &Arg, matches: &ArgMatches, said: &mut BTreeMap<String, Said>) -> Setting {
    let key = long(arg);
    let origin = match said.remove(key) {
        Some(said) => said.origin,
        None if is_on_the_line(matches, arg) => Origin::Flag,
        None => Origin::Default,
    };
    let values = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
    let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
    Setting { key: key.to_owned(), values, origin, kind: Kind::of(arg), is_list: is_list(arg) }
}

fn is_on_the_line(matches: &ArgMatches, arg: &Arg) -> bool {
    matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

fn long(arg: &Arg) -> &str {
    arg.get_long().expect("a setting has a name")
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('-', "_"))
}

fn word(key: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(format!("--{key}="));
    word.push(value);
    word
}

/// Above it a name is a slip of the pen.
const LIKE_MIN: f64 = 0.9;

/// How a path and a line in it are told.
struct Place<'a>(&'a Path, usize);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.display(), self.1)
    }
}
