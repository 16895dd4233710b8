//! Progress bars and tables.

use std::fmt::{self, Display, Formatter};

use comfy_table::{ContentArrangement, presets};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tipi::low_level::gpu::Profile;
use tipi::low_level::text;

use crate::terminal;

/// A bar with rate and time left. It hides itself if stderr is not a terminal.
pub fn bar(total: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    let style = ProgressStyle::with_template(
        "{msg:28} {bar:28} {human_pos}/{human_len}  {rate:>12}  {elapsed} gone, {eta} left",
    );
    if let Ok(style) = style {
        // indicatif's own rate has twelve decimals.
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.1}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate).progress_chars("━╸ "));
    }
    show(&bar, what);
    bar
}

/// Shows what a bar is about.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn show(bar: &ProgressBar, what: &str) {
    bar.set_message(text::escaped(what).into_owned());
}

/// A bar of bytes with rate and time left.
#[cfg(feature = "hub")]
pub fn bytes() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(
        "{msg:28} {bar:28} {bytes}/{total_bytes}  {binary_bytes_per_sec:>12}  {elapsed} gone, {eta} left",
    );
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar
}

/// Shows how far a fetch is: `done` of `total` bytes, `file` being under way.
#[cfg(feature = "hub")]
pub fn show_fetch(bar: &ProgressBar, file: &str, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
    show(bar, file);
}

/// A table whose cells are shown escaped, on one line each.
pub struct Table(comfy_table::Table);

impl Table {
    /// Adds a row.
    pub fn add_row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.add_row(escaped(cells));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn escaped<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> Vec<String> {
    cells.into_iter().map(|cell| text::escaped(cell.as_ref()).into_owned()).collect()
}

/// A table with a header.
pub fn table(header: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(escaped(header));
    Table(table)
}

/// A report's table for the terminal.
pub fn show_table(table: &tipi::low_level::report::Table) -> Table {
    let head: Vec<&str> = table.head.iter().map(String::as_str).collect();
    let mut shown = self::table(&head);
    for row in &table.rows {
        shown.add_row(row);
    }
    shown
}

/// The per-kernel times that `--profile` collects.
pub fn print_profile(profile: &Profile) {
    let rows = profile.rows();
    let all: f64 = rows.iter().map(|r| r.seconds).sum();
    let mut table = table(&["kernel", "calls", "ms", "share", "GFLOP/s", "GB/s"]);
    for row in &rows {
        let rate = |work: f64| if row.seconds > 0.0 { format!("{:.1}", work / row.seconds / 1e9) } else { "-".into() };
        table.add_row([
            row.label.clone(),
            row.calls.to_string(),
            format!("{:.1}", row.seconds * 1e3),
            format!("{:.1} %", 100.0 * row.seconds / all.max(1e-12)),
            rate(row.flops),
            rate(row.bytes),
        ]);
    }
    terminal::note_lines(&table.to_string());
}
