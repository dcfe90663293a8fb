//! The `millrace` command: flags become settings here, and nothing else is decided here.

// Doc comments of arguments are shown in the terminal, where angle brackets would only be noise.
#![allow(rustdoc::bare_urls)]

mod args;
mod bench;
mod chat;
mod config;
mod doctor;
mod embedded;
mod input;
mod load;
mod logging;
mod memory;
mod output;
mod pairs;
mod parse;
mod perplexity;
mod pipeline;
mod pooling;
mod registry;
mod run;
mod serve;
mod show;

use std::process::ExitCode;

use args::{BenchCommand, Command};

fn main() -> ExitCode {
    let cli = config::parse();
    logging::init(cli.log_level, cli.log_format);
    let result = match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Run(args) => run::run(args),
        Command::Bench(BenchCommand::Throughput(args)) => bench::throughput::run(args),
        Command::Bench(BenchCommand::Latency(args)) => bench::latency::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Parse(args) => parse::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes in one line. Many errors quote their cause already; that is not said twice.
pub(crate) fn one_sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let error =
            anyhow::anyhow!("disk full").context("cannot write x: disk full").context("saving failed");
        assert_eq!(one_sentence(&error), "saving failed: cannot write x: disk full");
    }
}
