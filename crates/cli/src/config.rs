//! `--config FILE`: the file's keys become flags that the command line doesn't have, and clap reads both. A setting
//! has thus one name, one parser and one set of messages, wherever it comes from.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use serde_json::{Map, Value};

use crate::args::Cli;

/// Longest settings file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads the command line and the settings file it names. Ends the process with a message and code 2 if there is a
/// mistake in either, as clap does.
pub(crate) fn parse() -> Cli {
    try_parse(std::env::args_os().collect()).unwrap_or_else(|error| error.exit())
}

/// [`parse`] for any arguments.
pub(crate) fn try_parse(mut argv: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(&argv)?;
    let Some((name, file)) = settings_file(&matches) else { return Cli::from_arg_matches(&matches) };
    let fail = |problem: String| {
        Cli::command().error(ErrorKind::InvalidValue, format!("{}: {problem}", file.display()))
    };
    let settings = read(&file).map_err(fail)?;
    let flags = missing_flags(&command, &name, &matches, settings).map_err(fail)?;
    // Right after the subcommand, where no option before can swallow them.
    let at = argv.iter().position(|arg| *arg == *name).map_or(argv.len(), |at| at + 1);
    argv.splice(at..at, flags.into_iter().map(OsString::from));
    let again = command.try_get_matches_from_mut(argv);
    Cli::from_arg_matches(&again.map_err(|error| fail(first_line(&error)))?)
}

/// The subcommand and the file it was given, if any.
fn settings_file(matches: &ArgMatches) -> Option<(String, std::path::PathBuf)> {
    let (name, matches) = matches.subcommand()?;
    let file: Option<&std::path::PathBuf> = matches.try_get_one("config").ok()?;
    Some((name.to_owned(), file?.clone()))
}

/// A YAML mapping.
pub(crate) fn read(file: &Path) -> Result<Map<String, Value>, String> {
    let size = std::fs::metadata(file).map_err(|e| format!("the settings file cannot be read ({e})"))?.len();
    if size > MAX_FILE {
        return Err(format!("the settings file is longer than {MAX_FILE} bytes"));
    }
    let text =
        std::fs::read_to_string(file).map_err(|e| format!("the settings file cannot be read ({e})"))?;
    let value: Value =
        match text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
            true => Value::Null,
            false => serde_saphyr::from_str(&text).map_err(|e| format!("this is not valid YAML ({e})"))?,
        };
    match value {
        Value::Object(settings) => Ok(settings),
        Value::Null => Ok(Map::new()),
        _ => Err("the settings file must hold `key: value` lines".into()),
    }
}

/// The flags for all settings that neither the command line nor the environment has.
fn missing_flags(
    command: &Command,
    name: &str,
    matches: &ArgMatches,
    settings: Map<String, Value>,
) -> Result<Vec<String>, String> {
    let subcommand = command.find_subcommand(name).ok_or("there is no such command")?;
    let matches = matches.subcommand_matches(name).ok_or("there is no such command")?;
    let mut flags = Vec::new();
    for (key, value) in settings {
        let Some(arg) = find(subcommand, &key) else {
            // One file may serve several commands: what `serve` knows, another command may skip.
            if command.find_subcommand("serve").is_some_and(|serve| find(serve, &key).is_some()) {
                continue;
            }
            return Err(format!("there is no setting `{key}`{}", similar(subcommand, &key)));
        };
        if !was_given(matches, subcommand, arg) {
            flags.extend(to_flags(subcommand, arg, &key, value)?);
        }
    }
    Ok(flags)
}

/// The argument that a key names. Commands of this program rather than settings have no key.
pub(crate) fn find<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    let named = |arg: &&Arg| {
        let names = arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default());
        names.chain(arg.is_positional().then_some(arg.get_id().as_str())).any(|name| name == key)
    };
    command
        .get_arguments()
        .find(named)
        .filter(|arg| !matches!(arg.get_id().as_str(), "config" | "help" | "prompt"))
}

/// Whether the user has set it, or its opposite, outside of the file.
fn was_given(matches: &ArgMatches, command: &Command, arg: &Arg) -> bool {
    let given = |arg: &Arg| {
        let source = matches.value_source(arg.get_id().as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    given(arg) || opposite(command, arg).is_some_and(given)
}

/// `--no-x` for `--x`, and the other way round.
fn opposite<'a>(command: &'a Command, arg: &Arg) -> Option<&'a Arg> {
    let long = arg.get_long()?;
    let other = long.strip_prefix("no-").map_or_else(|| format!("no-{long}"), str::to_owned);
    command.get_arguments().find(|arg| arg.get_long() == Some(&other))
}

pub(crate) fn to_flags(command: &Command, arg: &Arg, key: &str, value: Value) -> Result<Vec<String>, String> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let flag = match value {
            Value::Bool(true) => Some(arg),
            Value::Bool(false) => opposite(command, arg),
            _ => return Err(format!("`{key}` must be true or false")),
        };
        return Ok(flag.and_then(Arg::get_long).map(|long| format!("--{long}")).into_iter().collect());
    }
    let values = match value {
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => values,
        Value::Null => return Ok(Vec::new()),
        value => vec![value],
    };
    let texts = values.iter().map(|value| match value {
        // The one flag whose text is an object.
        Value::Object(_) | Value::Array(_) if arg.get_id() == "hf_overrides" => Ok(value.to_string()),
        value => scalar(key, value),
    });
    match arg.get_long() {
        Some(long) => texts.map(|text| Ok(format!("--{long}={}", text?))).collect(),
        None => texts.collect(),
    }
}

fn scalar(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => Err(format!("`{key}` must be a text or a number")),
    }
}

/// A hint at the key that was meant.
fn similar(command: &Command, key: &str) -> String {
    let settable = |known: &&str| *known != key && find(command, known).is_some();
    closest(key, command.get_arguments().filter_map(Arg::get_long).filter(settable)).map_or_else(
        || "; `millrace serve --help` lists the flags that are keys here".into(),
        |known| format!("; did you mean `{known}`?"),
    )
}

/// The known key that was most likely meant: one that holds `key`, or is held by it.
pub(crate) fn closest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let dashed = key.replace('_', "-");
    let close = known.filter(|known| !key.is_empty() && (known.contains(&dashed) || dashed.contains(known)));
    close.min_by_key(|known| known.len().abs_diff(dashed.len()))
}

/// What clap has to say, without the usage that belongs to the command line.
pub(crate) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::args::{Command, ServeArgs};

    fn parse(yaml: &str, command: &str, flags: &[&str]) -> Result<Cli, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(yaml.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        let argv = [&["millrace", command, "--config", path], flags].concat();
        try_parse(argv.into_iter().map(OsString::from).collect()).map_err(|e| e.to_string())
    }

    fn serve(yaml: &str, flags: &[&str]) -> ServeArgs {
        match parse(yaml, "serve", flags).unwrap().command {
            Command::Serve(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_sets_what_the_command_line_leaves_open() {
        let yaml = "model: some/model\nport: 9000\nmax-num-seqs: 8\nkv-cache-memory: 1G\nlog-level: info\n\
                    served-model-name: [a, b]\nenable-prefix-caching: false\nrequest-timeout: 2.5\n";
        let args = serve(yaml, &["--port", "9001"]);
        assert_eq!(args.server.port, 9001);
        assert_eq!(args.model.as_deref(), Some("some/model"));
        assert_eq!(args.flags.engine.max_num_seqs, 8);
        assert_eq!(args.flags.engine.kv_cache_memory, Some(1 << 30));
        assert_eq!(args.server.served_model_name, ["a", "b"]);
        assert!(args.flags.engine.no_enable_prefix_caching);
        assert_eq!(args.server.request_timeout.as_millis(), 2500);
        let args = serve(yaml, &["--enable-prefix-caching", "--served-model-name", "c", "other"]);
        assert!(!args.flags.engine.no_enable_prefix_caching);
        assert_eq!(args.server.served_model_name, ["c"]);
        assert_eq!(args.model.as_deref(), Some("other"));
    }

    #[test]
    fn aliases_are_keys_and_empty_files_are_fine() {
        assert_eq!(serve("kv-cache-memory-bytes: 512M", &[]).flags.engine.kv_cache_memory, Some(512 << 20));
        assert_eq!(serve("# nothing\n\n", &[]).server.port, 8000);
        assert_eq!(serve("", &[]).server.port, 8000);
        assert_eq!(serve("port:", &[]).server.port, 8000);
    }

    #[test]
    fn a_setting_that_is_an_object_may_be_written_as_one() {
        for yaml in ["hf-overrides: {is_matryoshka: true}", "hf-overrides: '{\"is_matryoshka\": true}'"] {
            let settings = serve(yaml, &[]).flags.model_args.hf_overrides.unwrap();
            assert_eq!(Value::Object(settings), serde_json::json!({"is_matryoshka": true}));
        }
        let error = parse("hf-overrides: [1]", "serve", &[]).unwrap_err();
        assert!(error.contains("must be a JSON object"), "{error}");
    }

    #[test]
    fn other_commands_skip_what_only_the_server_knows() {
        let cli = parse("port: 9000\nmax-num-seqs: 8\n", "chat", &[]).unwrap();
        let Command::Chat(args) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(args.common.flags.engine.max_num_seqs, 8);
    }

    #[test]
    fn mistakes_name_the_file_and_the_key() {
        for (yaml, message) in [
            ("max_num_seqs: 8", "there is no setting `max_num_seqs`; did you mean `max-num-seqs`?"),
            ("colour: red", "there is no setting `colour`; `millrace serve --help` lists"),
            ("config: x.yaml", "there is no setting `config`; did you mean `mcp-config`?"),
            ("help: true", "there is no setting `help`; `millrace serve --help` lists"),
            ("'': 3", "there is no setting ``; `millrace serve --help` lists"),
            ("kv-cache-typ: f32", "there is no setting `kv-cache-typ`; `millrace serve --help` lists"),
            ("cache-dtype: f32", "there is no setting `cache-dtype`; did you mean `kv-cache-dtype`?"),
            ("port: 99999", "invalid value '99999' for '--port"),
            ("quantize: q5", "invalid value 'q5' for '--quantize"),
            ("port: [1, 2]", "`port` must be a text or a number"),
            ("port: {a: 1}", "`port` must be a text or a number"),
            ("enable-prefix-caching: maybe", "`enable-prefix-caching` must be true or false"),
            ("- a\n- b", "must hold `key: value` lines"),
            ("a: [", "this is not valid YAML"),
        ] {
            let error = parse(yaml, "serve", &[]).unwrap_err();
            assert!(error.contains(message), "{yaml}: {error}");
            assert!(error.contains("/tmp") || error.contains(".tmp"), "{yaml}: {error}");
        }
        let error =
            try_parse(["millrace", "serve", "--config", "/no/such.yaml"].map(Into::into).into()).unwrap_err();
        assert!(error.to_string().contains("/no/such.yaml: the settings file cannot be read"), "{error}");
    }
}
