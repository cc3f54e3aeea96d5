//! Passwords, which are read and never given as words of a command: those stand in every list of processes.
#![forbid(unsafe_code)]

use super::{INTERRUPTED, runtime};
use crate::auth::PASSWORD_BYTES_MAX;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::{process, thread};
use tokio::signal::unix::{SignalKind, signal};

/// The exit code where SIGTERM ends the question, as a shell says it.
const TERMINATED: u8 = 143;

/// A password: 1 to [`PASSWORD_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password(Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Password {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first line of a file.
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        Self::of_line(BufReader::new(file))
    }

    /// A new one: asked for twice at a terminal, else the first line of standard input.
    pub(super) fn new_one() -> Result<Self, String> {
        if !io::stdin().is_terminal() {
            return Self::of_line(io::stdin().lock());
        }
        end_at_signals().map_err(|error| error.to_string())?;
        let password = Self::asked("Password: ")?;
        if password != Self::asked("Once more: ")? {
            return Err("the passwords differ".to_owned());
        }
        Ok(password)
    }

    /// The terminal shows again what is typed, whether a line or a signal comes.
    fn asked(words: &str) -> Result<Self, String> {
        let read = Silence::begin().and_then(|silence| {
            write!(io::stderr(), "{words}").and_then(|()| io::stderr().flush())?;
            Ok((Self::of_line(io::stdin().lock()), silence))
        });
        read.map_err(|error| error.to_string())?.0
    }

    fn of_line(reader: impl BufRead) -> Result<Self, String> {
        let mut line = Vec::new();
        // One more than fits, and the end of its line.
        let read = reader.take(PASSWORD_BYTES_MAX as u64 + 3).read_until(b'\n', &mut line);
        read.map_err(|error| error.to_string())?;
        if line.last() == Some(&b'\n') {
            line.pop();
            line.pop_if(|last| *last == b'\r');
        }
        match line.len() {
            0 => Err("no password: its first line is empty".to_owned()),
            1..=PASSWORD_BYTES_MAX => Ok(Self(line)),
            _ => Err(format!("a password of more than {PASSWORD_BYTES_MAX} bytes")),
        }
    }
}

/// From now on SIGINT and SIGTERM end the process as they would have, and leave the terminal as it is now.
fn end_at_signals() -> io::Result<()> {
    let (before, runtime) = (tcgetattr(io::stdin())?, runtime()?);
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    // A thread of its own: another one may be reading, or hashing a password.
    thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => INTERRUPTED,
                _ = terminate.recv() => TERMINATED,
            }
        });
        // A terminal that has gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
        eprintln!();
        process::exit(code.into())
    });
    Ok(())
}

/// A terminal that does not show what is typed, as long as it lives.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that has gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_as_it_is() {
        let read = |text: &[u8]| Password::of_line(text).map(|password| password.0);
        assert_eq!(read(b"pencil"), Ok(b"pencil".to_vec()));
        assert_eq!(read(b" two words \r\nmore"), Ok(b" two words ".to_vec()));
        assert_eq!(read(&[b'x'; 1_024]).map(|password| password.len()), Ok(1_024));
        assert_eq!(read(b"\nmore"), Err("no password: its first line is empty".to_owned()));
        assert_eq!(read(b""), Err("no password: its first line is empty".to_owned()));
        assert_eq!(read(&[b'x'; 1_025]), Err("a password of more than 1024 bytes".to_owned()));
    }
}
