//! The command line. It is thin: options, progress bars and tables. The work is done by the library.

// Files are opened by `tipi::low_level::input` alone, which tells pipes and devices from files.
#![cfg_attr(not(test), warn(clippy::disallowed_methods))]
// All text goes through `terminal`, which escapes what could act on a terminal and never fails on stderr.
#![warn(clippy::disallowed_macros)]

mod answers;
mod bars;
mod bench;
mod classify;
mod common;
mod convert;
mod data;
mod demo;
mod devices;
mod embed;
mod embeddings;
mod eval;
mod explain;
mod fit;
mod info;
mod labels;
mod neighbours;
mod options;
mod outputs;
mod overlap;
mod paths;
mod predict;
#[cfg(feature = "hub")]
mod pull;
mod search;
mod stop;
mod tensors;
mod terminal;
mod trust;
mod tune;
mod ui;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use terminal::note;

/// Few-shot CLIP on any GPU: no CUDA, no Python.
#[derive(Parser)]
#[command(name = "tipi", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the GPUs, and the features of each that tipi would use.
    Devices(devices::Args),
    #[command(hide = true)]
    TryKernels(devices::TryArgs),
    /// Measure which kernels are fastest on this device, and remember them.
    Tune(tune::Args),
    /// Time every kernel, and compare it with the peak of this device.
    Bench(bench::Args),
    /// Fetch a model from the Hugging Face hub into the cache that Python shares, and print its folder.
    #[cfg(feature = "hub")]
    Pull(pull::Args),
    /// Write a model's weights anew as safetensors, whatever they come as, with a LoRA merged if one is given.
    Convert(convert::Args),
    /// Describe a model, and show how much GPU memory it needs with each method.
    Info(info::Args),
    /// Adapt the bundled model to the bundled pictures with every method, and compare the results.
    Demo(demo::Args),
    /// Check datasets.
    #[command(subcommand)]
    Data(data::Args),
    /// Classify pictures by labels alone, without examples (zero-shot).
    Classify(classify::Args),
    /// Find the pictures most like a picture, a text, or each other, and near duplicates.
    Neighbours(neighbours::Args),
    /// Write features of pictures or texts to a file.
    #[command(subcommand)]
    Embed(embed::Args),
    /// Adapt a model to a folder of pictures, one sub-folder per class.
    #[command(subcommand)]
    Fit(fit::Args),
    /// Classify pictures with an adapter that `fit` wrote.
    Predict(predict::Args),
    /// Measure how similar pictures of different classes are, before and after a correction.
    Overlap(overlap::Args),
    /// Run the papers' protocol on datasets or a folder, and write a report.
    Eval(Box<eval::Args>),
    /// Write the report of an evaluation again, and print its tables.
    Report(eval::ReportArgs),
    /// Search for the best α, β and γ of a cache, on features in files.
    Search(search::Args),
}

fn main() -> ExitCode {
    quiet_device_selection();
    tracing_subscriber::fmt()
        .with_writer(|| terminal::Log)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("TIPI_LOG").unwrap_or_else(|_| "tipi=warn".into()))
        .init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors. Everything else is: one line, and code 2.
            if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                return help(&error);
            }
            let text = error.render().to_string();
            let message = text.split("\n\nUsage:").next().unwrap_or(&text);
            let message = message.split("\n\nFor more information").next().unwrap_or(message);
            note!("{} (see --help)", message.split_whitespace().collect::<Vec<_>>().join(" "));
            return ExitCode::from(2);
        }
    };
    let result = match &cli.command {
        Command::Devices(args) => devices::run(args),
        Command::TryKernels(args) => devices::try_kernels(args),
        Command::Tune(args) => tune::run(args),
        Command::Bench(args) => bench::run(args),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Info(args) => info::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Data(args) => data::run(args),
        Command::Classify(args) => classify::run(args),
        Command::Neighbours(args) => neighbours::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Fit(args) => fit::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Overlap(args) => overlap::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Report(args) => eval::report(args),
        Command::Search(args) => search::run(args),
    };
    common::say_clipped();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(tipi::Error::Stopped)) => {
            note!("stopped");
            ExitCode::from(stop::CODE as u8)
        }
        Err(error) => {
            // The library's errors name their cause themselves; drivers' and tokenizers' messages may have several lines.
            let text = match error.downcast_ref::<tipi::Error>() {
                Some(error @ tipi::Error::Foreign { .. }) => format!("{error}, or overwrite it with --force"),
                Some(error @ tipi::Error::NoRoot { .. }) => format!("{error}: --root DIR"),
                Some(error) => error.to_string(),
                None => format!("{error:#}"),
            };
            note!("error: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::from(2)
        }
    }
}

/// Shows help or the version.
fn help(shown: &clap::Error) -> ExitCode {
    match shown.print() {
        // If the reader has gone away, it has read enough. Help goes to stderr if the command was incomplete.
        Err(error) if !shown.use_stderr() && error.kind() != std::io::ErrorKind::BrokenPipe => {
            note!("error: stdout: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::from(if shown.use_stderr() { 2 } else { 0 }),
    }
}

/// Mesa's device-selection layer asks a Wayland or X server which GPU is the default, and complains on stderr where
/// there is none. tipi picks the device itself.
fn quiet_device_selection() {
    if cfg!(target_os = "linux") && std::env::var_os("NODEVICE_SELECT").is_none() {
        // SAFETY: nothing else runs yet; no other thread reads the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
