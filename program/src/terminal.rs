//! The one way to stdout and stderr. Foreign text (names of files, classes, models) is shown escaped, so that it cannot act
//! on a terminal. A failure to write to stderr never ends a run.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use tipi::low_level::text;

/// Says something on stderr, on one line.
macro_rules! note {
    ($($arg:tt)*) => { $crate::terminal::note_line(&format!($($arg)*)) };
}
pub(crate) use note;

/// The most characters of a line. Paths are long, and arguments can be anything.
const LINE: usize = 4000;

/// [`note!`] for text that exists already. If stderr is full or closed, the work still goes on.
pub fn note_line(text: &str) {
    say(&text::escaped(&text::cut(text, LINE)));
}

/// Says something on stderr, on several lines.
pub fn note_lines(text: &str) {
    say(&text::escaped_lines(text));
}

fn say(text: &str) {
    // In one piece, so that lines of several threads do not mix.
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Prints a result to stdout. A reader that has gone away (`| head`) is no error; a full disk is.
pub fn print(text: &str) -> tipi::Result<()> {
    out(text::escaped_lines(text).as_bytes())
}

/// Prints a result as JSON to stdout: `pretty` on several lines.
pub fn print_json(value: &impl Serialize, pretty: bool) -> anyhow::Result<()> {
    let json = if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? };
    Ok(out(text::escaped_json(&json).as_bytes())?)
}

/// Prints a path to stdout: as it is for other programs, escaped for people.
#[cfg(feature = "hub")]
pub fn print_path(path: &Path) -> tipi::Result<()> {
    use std::io::IsTerminal;
    if io::stdout().is_terminal() { print(&text::path(path)) } else { out(path.as_os_str().as_encoded_bytes()) }
}

/// Prints a line of a result that goes on, text that is safe already. Gives whether anybody reads on.
pub fn print_line(text: &str) -> tipi::Result<bool> {
    written(text.as_bytes())
}

/// Whether stdout is a terminal.
pub fn is_shown() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}

fn out(bytes: &[u8]) -> tipi::Result<()> {
    written(bytes).map(drop)
}

/// Writes a line, and gives whether its reader is there.
fn written(bytes: &[u8]) -> tipi::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(tipi::Error::io(Path::new("stdout"), error)),
    }
}

/// Where logs go: to stderr, escaped, and never failing.
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let _ = io::stderr().lock().write_all(text::escaped_lines(&text).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
