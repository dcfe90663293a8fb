//! `docs/flags.md` is made from the command line's own description, so that it can't go out of date.

use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

const HEAD: &str = "\
# Flags

Every command and every flag, with its default. This page is made from the program itself: after a change run
`MILLRACE_BLESS=1 cargo test -p millrace-cli`, and never edit it by hand.

In a settings file (`--config FILE`) the keys are the flags of `serve` without their dashes, and `model` for the
model; see [config.example.yaml](config.example.yaml). What the command line says wins over the environment, that
over the file, and that over the defaults.
";

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_page_of_flags_is_up_to_date() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flags.md");
    let mut command = Cli::command();
    command.build();
    let made =
        HEAD.to_owned() + &command.get_subcommands().map(|c| section(c, "millrace")).collect::<String>();
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(&page, &made).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(written == made, "docs/flags.md is out of date: run MILLRACE_BLESS=1 cargo test -p millrace-cli");
}

#[test]
fn every_flag_is_explained() {
    fn check(command: &Command) {
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
        }
        assert!(command.get_about().is_some(), "{}", command.get_name());
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

/// A command and those below it.
fn section(command: &Command, parent: &str) -> String {
    let name = format!("{parent} {}", command.get_name());
    if command.get_name() == "help" {
        return String::new();
    }
    if command.has_subcommands() {
        return command.get_subcommands().map(|c| section(c, &name)).collect();
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("\n## `{name}`\n\n{about}.\n");
    let mut heading = None;
    for arg in command.get_arguments().filter(|arg| arg.get_id() != "help" && !arg.is_hide_set()) {
        let own = arg.get_help_heading();
        if heading != Some(own) {
            heading = Some(own);
            text +=
                &format!("\n{}\n\n| flag | default | meaning |\n|---|---|---|\n", own.unwrap_or("General"));
        }
        text += &row(arg);
    }
    text
}

fn row(arg: &Arg) -> String {
    let values = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let value = values.iter().map(|value| value.as_str()).collect::<Vec<_>>().join(" ");
    let flag = match arg.get_long() {
        Some(long) => format!("--{long} {value}").trim().to_owned(),
        None => value,
    };
    let defaults: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
    let shown = arg.get_action().takes_values() && !defaults.is_empty();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    // Defaults that only the program can work out stand in the help text.
    let (meaning, computed) = help.split_once(" [default: ").unwrap_or((&help, ""));
    let default = match shown {
        true => format!("`{}`", defaults.join(" ")),
        false => computed.trim_end_matches(']').to_owned(),
    };
    let mut meaning = meaning.to_owned();
    let choices: Vec<_> = arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect();
    if arg.get_action().takes_values() && !choices.is_empty() {
        meaning += &format!(": {}", choices.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        meaning += &format!("; also from the environment: `{}`", variable.to_string_lossy());
    }
    format!("| `{}` | {default} | {} |\n", flag.replace('|', "\\|"), meaning.replace('|', "\\|"))
}
