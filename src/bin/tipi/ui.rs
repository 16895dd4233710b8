//! What people see: progress bars and tables. All of it goes to stderr or, for results, to stdout.

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use tipi::gpu::Profile;

/// Prints a result to stdout. A reader that has gone away (`| head`) is no error; a full disk is.
pub fn print(text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A bar with rate and time left; hidden by itself where stderr is no terminal.
pub fn bar(total: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    let style = ProgressStyle::with_template(
        "{msg:28} {bar:28} {human_pos}/{human_len}  {per_sec:>12}  {elapsed} gone, {eta} left",
    );
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.set_message(what.to_string());
    bar
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
    bar.set_message(file.to_string());
}

/// A table with a header.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table
}

/// A report's table for the terminal.
pub fn show_table(table: &tipi::report::Table) -> Table {
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
    eprintln!("{table}");
}
