//! `--models FILE`: names, settings and residence of several models. Settings of a model are the flags of `serve`
//! without their dashes, read by clap as flags are.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Command, FromArgMatches};
use millrace_api::SamplingDefaults;
use millrace_server::Residence;
use serde_json::{Map, Value};

use crate::args::{self, ModelFlags};
use crate::config::{self, closest};

/// Most models of a file, and most names of a model.
const MAX_MODELS: usize = 1000;

/// Keys of a model that aren't flags.
const OWN_KEYS: [&str; 7] = ["name", "aliases", "path", "load", "pin", "idle-unload", "sampling"];

/// Keys of the file.
const FILE_KEYS: [&str; 4] = ["default", "memory-budget", "defaults", "models"];

/// Keys of `sampling`, and what `generation_config.json` calls them.
const SAMPLING_KEYS: [(&str, &str); 7] = [
    ("temperature", "temperature"),
    ("top-p", "top_p"),
    ("top-k", "top_k"),
    ("min-p", "min_p"),
    ("typical-p", "typical_p"),
    ("repetition-penalty", "repetition_penalty"),
    ("max-tokens", "max_new_tokens"),
];

/// What a file says.
#[derive(Debug)]
pub(super) struct ModelsFile {
    /// `memory-budget` in bytes.
    pub(super) budget: Option<u64>,
    /// The default one first.
    pub(super) models: Vec<FileModel>,
}

/// One model of the file.
#[derive(Debug)]
pub(super) struct FileModel {
    /// The main one first.
    pub(super) names: Vec<String>,
    /// Folder, Hub id or name of a built-in model.
    pub(super) path: String,
    pub(super) residence: Residence,
    pub(super) sampling: SamplingDefaults,
    pub(super) flags: ModelFlags,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<ModelsFile> {
    let value = config::read(path).map_err(anyhow::Error::msg);
    value.and_then(parse).with_context(|| path.display().to_string())
}

fn parse(file: Map<String, Value>) -> Result<ModelsFile> {
    let mut file = dashed(file, "the file")?;
    known(&file, |key| FILE_KEYS.contains(&key), || FILE_KEYS.into_iter(), "the file")?;
    let defaults = match file.remove("defaults") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(defaults)) => dashed(defaults, "`defaults`")?,
        Some(_) => bail!("`defaults` must hold `key: value` lines"),
    };
    if let Some(key) = ["name", "aliases", "path"].into_iter().find(|key| defaults.contains_key(*key)) {
        bail!("`defaults` may not set `{key}`: it differs between models");
    }
    check_keys(&defaults, "`defaults`")?;
    let Some(Value::Array(list)) = file.remove("models") else {
        bail!("`models` is missing: it must be a list of models, each with a `name`");
    };
    ensure!(
        (1..=MAX_MODELS).contains(&list.len()),
        "`models` must hold 1 to {MAX_MODELS} models, and holds {}",
        list.len()
    );
    let models = list.into_iter().enumerate().map(|(at, model)| read_model(at, model, &defaults));
    let mut models = models.collect::<Result<Vec<_>>>()?;
    check_names(&models)?;
    if let Some(name) = text(&mut file, "default")? {
        let at = models.iter().position(|model| model.names.contains(&name));
        let at = at.with_context(|| format!("`default` is `{name}`, which is no model of the file"))?;
        models[..=at].rotate_right(1);
    }
    let budget = text(&mut file, "memory-budget")?;
    let bytes = |text: String| args::bytes(&text).map_err(|e| anyhow::anyhow!("`memory-budget` {e}"));
    Ok(ModelsFile { budget: budget.map(bytes).transpose()?, models })
}

fn read_model(at: usize, model: Value, defaults: &Map<String, Value>) -> Result<FileModel> {
    let Value::Object(model) = model else {
        bail!("`models[{at}]` must hold `key: value` lines, of which one is `name`");
    };
    let mut own = dashed(model, &format!("`models[{at}]`"))?;
    let name = text(&mut own, "name")?.filter(|name| !name.is_empty());
    let name = name.with_context(|| format!("`models[{at}]` has no `name`"))?;
    let what = format!("the model `{name}`");
    check_keys(&own, &what)?;
    let aliases = own.remove("aliases");
    let path = text(&mut own, "path")?.unwrap_or_else(|| name.clone());
    let mut settings = defaults.clone();
    let sampling = [settings.remove("sampling"), own.remove("sampling")];
    settings.extend(own);
    let residence = residence(&mut settings).with_context(|| format!("in {what}"))?;
    let [common, sampling] = sampling.map(|value| read_sampling(value, &what));
    Ok(FileModel {
        names: [name].into_iter().chain(names(aliases, &what)?).collect(),
        path,
        residence,
        sampling: super::source::over(&sampling?, &common?),
        flags: flags(settings).with_context(|| format!("in {what}"))?,
    })
}

fn residence(settings: &mut Map<String, Value>) -> Result<Residence> {
    let at_start = match text(settings, "load")?.as_deref() {
        None | Some("first-use") => false,
        Some("start") => true,
        Some(other) => bail!("`load` is `{other}`; it must be `start` or `first-use`"),
    };
    let pin = match settings.remove("pin") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(pin)) => pin,
        Some(_) => bail!("`pin` must be true or false"),
    };
    let idle_unload = match text(settings, "idle-unload")?.as_deref() {
        None | Some("never") => None,
        Some(time) => Some(args::time(time).map_err(|e| anyhow::anyhow!("`idle-unload` {e}, or never"))?),
    };
    Ok(Residence { at_start, pin, idle_unload: idle_unload.filter(|time| *time > Duration::ZERO) })
}

/// The sampling defaults; a value that can't be used is an error here.
fn read_sampling(value: Option<Value>, what: &str) -> Result<SamplingDefaults> {
    let settings = match value {
        None | Some(Value::Null) => return Ok(SamplingDefaults::default()),
        Some(Value::Object(settings)) => dashed(settings, "`sampling`")?,
        Some(_) => bail!("`sampling` of {what} must hold `key: value` lines"),
    };
    let names = || SAMPLING_KEYS.iter().map(|(key, _)| *key);
    known(&settings, |key| names().any(|known| known == key), names, &format!("`sampling` of {what}"))?;
    let told = SAMPLING_KEYS.iter().filter_map(|(key, told)| Some((told, settings.get(*key)?)));
    let config = told.map(|(told, value)| ((*told).to_owned(), value.clone())).collect();
    let (defaults, ignored) = SamplingDefaults::from_generation_config(&Value::Object(config));
    if let Some(ignored) = ignored.first() {
        let key =
            SAMPLING_KEYS.iter().find(|(_, told)| *told == ignored.key).map_or(ignored.key, |(key, _)| key);
        bail!("`{key}` of {what} is {} and must be {}", ignored.value, ignored.rule);
    }
    Ok(defaults)
}

fn names(aliases: Option<Value>, what: &str) -> Result<Vec<String>> {
    let list = match aliases {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_MODELS => list,
        Some(one) => vec![one],
    };
    let name = |alias: Value| match alias {
        Value::String(name) if !name.is_empty() => Ok(name),
        _ => bail!("`aliases` of {what} must be a list of at most {MAX_MODELS} names"),
    };
    list.into_iter().map(name).collect()
}

fn check_names(models: &[FileModel]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match models.iter().flat_map(|model| &model.names).find(|name| !seen.insert(*name)) {
        Some(name) => bail!("two models have the name `{name}`; names and aliases must differ"),
        None => Ok(()),
    }
}

/// The flags that a model's settings may be.
fn command() -> Command {
    ModelFlags::augment_args(Command::new("model").no_binary_name(true))
}

/// Flags as clap reads them.
fn flags(settings: Map<String, Value>) -> Result<ModelFlags> {
    let command = command();
    let mut flags = Vec::new();
    for (key, value) in settings {
        if let Some(arg) = config::find(&command, &key) {
            flags.extend(config::to_flags(&command, arg, &key, value).map_err(anyhow::Error::msg)?);
        }
    }
    let matches = command.try_get_matches_from(flags);
    let read = matches.and_then(|matches| ModelFlags::from_arg_matches(&matches));
    read.map_err(|error| anyhow::anyhow!(config::first_line(&error)))
}

fn check_keys(settings: &Map<String, Value>, what: &str) -> Result<()> {
    let command = command();
    let is_known = |key: &str| OWN_KEYS.contains(&key) || config::find(&command, key).is_some();
    known(settings, is_known, || OWN_KEYS.into_iter().chain(long_flags(&command)), what)
}

fn long_flags(command: &Command) -> impl Iterator<Item = &str> {
    command.get_arguments().filter_map(clap::Arg::get_long).filter(|long| *long != "help")
}

/// Refuses the first key that isn't known, with a hint at the one that was meant.
fn known<'a, I: Iterator<Item = &'a str>>(
    settings: &Map<String, Value>,
    is_known: impl Fn(&str) -> bool,
    all: impl Fn() -> I,
    what: &str,
) -> Result<()> {
    let Some(key) = settings.keys().find(|key| !is_known(key)) else { return Ok(()) };
    match closest(key, all()) {
        Some(close) => bail!("{what} has an unknown key `{key}`; did you mean `{close}`?"),
        None => bail!("{what} has an unknown key `{key}`; docs/models.md lists the keys"),
    }
}

/// The same settings with dashes in their keys: underscores are as good.
fn dashed(settings: Map<String, Value>, what: &str) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    for (key, value) in settings {
        let key = key.replace('_', "-");
        ensure!(!all.contains_key(&key), "{what} has the key `{key}` twice");
        all.insert(key, value);
    }
    Ok(all)
}

fn text(settings: &mut Map<String, Value>, key: &str) -> Result<Option<String>> {
    match settings.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => bail!("`{key}` must be a text or a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(yaml: &str) -> Result<ModelsFile, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        read(file.path()).map_err(|error| crate::one_sentence(&error))
    }

    #[test]
    fn a_file_names_models_and_their_settings() {
        let file = read_text(
            "default: b\nmemory_budget: 2G\ndefaults: {kv-cache-memory: 64M, sampling: {temperature: 0.5}}\nmodels:\n\
             - {name: a, path: millrace-demo, aliases: [x, z], load: start, pin: true, quantize: q8}\n\
             - {name: b, path: ~/b, idle_unload: 10m, kv_cache_memory: 1G, sampling: {top_k: 5, temperature: 1}}\n",
        )
        .unwrap();
        assert_eq!(file.budget, Some(2 << 30));
        let [b, a] = &file.models[..] else { panic!("{file:?}") };
        assert_eq!((&b.names[..], b.path.as_str()), (&["b".to_owned()][..], "~/b"));
        assert_eq!(b.residence.idle_unload, Some(Duration::from_secs(600)));
        assert_eq!((b.sampling.top_k, b.sampling.temperature), (Some(5), Some(1.0)));
        assert_eq!(b.flags.engine.kv_cache_memory, Some(1 << 30));
        assert_eq!((a.names.join(" "), a.path.as_str()), ("a x z".to_owned(), "millrace-demo"));
        assert!(a.residence.at_start && a.residence.pin && a.residence.idle_unload.is_none());
        assert_eq!((a.flags.engine.kv_cache_memory, a.sampling.temperature), (Some(64 << 20), Some(0.5)));
        assert_eq!(a.flags.model_args.quantize, args::QuantizeFormat::Q8);
    }

    #[test]
    fn a_name_alone_is_a_model() {
        let file = read_text("models: [{name: millrace-demo}]").unwrap();
        assert_eq!(file.models[0].path, "millrace-demo");
        assert_eq!(file.models[0].residence, Residence::default());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (yaml, message) in [
            ("", "`models` is missing"),
            ("models: []", "1 to 1000"),
            ("models: [a]", "`models[0]` must hold"),
            ("models: [{path: x}]", "`models[0]` has no `name`"),
            ("model: [{name: a}]", "unknown key `model`; did you mean `models`?"),
            (
                "models: [{name: a, quantise: q8}]",
                "the model `a` has an unknown key `quantise`; docs/models.md",
            ),
            ("models: [{name: a, idle: 3}]", "unknown key `idle`; did you mean `idle-unload`?"),
            ("models: [{name: a, port: 3}]", "the model `a` has an unknown key `port`"),
            ("models: [{name: a, help: true}]", "the model `a` has an unknown key `help`"),
            ("models: [{name: a, load: lazily}]", "`load` is `lazily`"),
            ("models: [{name: a, pin: 1}]", "`pin` must be true or false"),
            ("models: [{name: a, idle-unload: soon}]", "`idle-unload` must be a time"),
            ("models: [{name: a, quantize: q5}]", "invalid value 'q5' for '--quantize"),
            ("models: [{name: a, max-num-seqs: 0}]", "--max-num-seqs"),
            ("models: [{name: a, sampling: {top_p: 7}}]", "`top-p` of the model `a` is 7 and must be"),
            ("models: [{name: a, sampling: {topk: 7}}]", "unknown key `topk`"),
            ("models: [{name: a}, {name: b, aliases: [a]}]", "two models have the name `a`"),
            ("models: [{name: a, aliases: [3]}]", "`aliases` of the model `a`"),
            ("models: [{name: a}]\ndefault: c", "`default` is `c`"),
            ("models: [{name: a}]\nmemory-budget: much", "`memory-budget`"),
            ("models: [{name: a}]\ndefaults: {name: b}", "`defaults` may not set `name`"),
            ("models: [{name: a}]\ndefaults: {idle_unlod: 3}", "`defaults` has an unknown key `idle-unlod`"),
            ("models: [{name: a, max_num_seqs: 3, max-num-seqs: 3}]", "twice"),
            ("models: [", "this is not valid YAML"),
        ] {
            let error = read_text(yaml).unwrap_err();
            assert!(error.contains(message), "{yaml}: {error}");
            assert!(error.contains("tmp"), "{yaml}: {error}");
        }
    }
}
