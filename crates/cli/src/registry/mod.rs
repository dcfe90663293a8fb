//! What `serve` serves: the model of the command line, or those of a file.

mod file;
mod footprint;
mod source;

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use millrace_api::SamplingDefaults;
use millrace_server::{ModelEntry, ModelPlan, Registry, Residence};

use crate::args::{ServeArgs, show_bytes};
use crate::{embedded, memory};
use file::{FileModel, ModelsFile};
use source::Source;

/// Share of the free memory that the models of a file may take, if the file doesn't say.
const SHARE: (u64, u64) = (9, 10);

/// The model of the command line. It is being loaded when this returns.
pub(crate) fn single(args: &ServeArgs) -> Result<Registry> {
    let name = args.model.clone().unwrap_or_else(|| embedded::DEMO_NAME.to_owned());
    let names = Some(args.server.served_model_name.clone()).filter(|names| !names.is_empty());
    let source = Source {
        model: args.model.clone(),
        args: args.flags.model_args.clone(),
        parsers: args.flags.parsers.clone(),
        engine: args.flags.engine.clone(),
        sampling: SamplingDefaults::default(),
        free: None,
        logs_failures: false,
        found: Mutex::default(),
    };
    let entry = ModelEntry {
        names: names.unwrap_or_else(|| vec![name.clone()]),
        root: name,
        source: Box::new(source),
        plan: None,
        residence: Residence { at_start: true, ..Residence::default() },
    };
    Ok(Registry::managed(vec![entry], None)?)
}

/// The models of a file. Those that are to be there at start are being loaded when this returns.
pub(crate) fn from_file(path: &Path) -> Result<Registry> {
    let ModelsFile { budget, models } = file::read(path)?;
    let budget = budget.unwrap_or_else(|| memory::available() / SHARE.1 * SHARE.0);
    let share = budget / models.len() as u64;
    let entries = models.into_iter().map(|model| entry(model, share)).collect::<Result<Vec<_>>>();
    let entries = entries.with_context(|| path.display().to_string())?;
    check_budget(&entries, budget).with_context(|| path.display().to_string())?;
    Ok(Registry::managed(entries, Some(budget))?)
}

/// A model of the file. What is on this machine is looked at, so that mistakes are told at start; what would have to
/// be downloaded first is not.
fn entry(model: FileModel, share: u64) -> Result<ModelEntry> {
    let FileModel { names, path, residence, sampling, flags } = model;
    let path = from_home(path);
    let source = Source {
        model: Some(path.clone()),
        args: flags.model_args,
        parsers: flags.parsers,
        engine: flags.engine,
        sampling,
        free: Some(share),
        logs_failures: true,
        found: Mutex::default(),
    };
    let plan = match is_on_hub(&path) {
        true => None,
        false => Some(source.look().with_context(|| format!("the model `{}`", names[0]))?.1),
    };
    Ok(ModelEntry { names, root: path, source: Box::new(source), plan, residence })
}

/// `ORG/NAME`, unless there is a folder of that name.
fn is_on_hub(path: &str) -> bool {
    let is_id = path.matches('/').count() == 1 && !path.starts_with(['/', '.', '~']);
    is_id && !Path::new(path).exists()
}

/// `~/` as shells read it: no shell has seen the file.
fn from_home(path: String) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path,
    }
}

/// Refuses what can't work: a model that is larger than the budget, and more at start than fits.
fn check_budget(entries: &[ModelEntry], budget: u64) -> Result<()> {
    let bytes = |entry: &ModelEntry| entry.plan.as_ref().map_or(0, |plan: &ModelPlan| plan.memory.total());
    for entry in entries {
        let (name, need) = (&entry.names[0], bytes(entry));
        ensure!(
            need <= budget,
            "the model `{name}` needs {}, more than the memory budget of {}; lower its `kv-cache-memory` or raise \
             `memory-budget`",
            show_bytes(need),
            show_bytes(budget)
        );
    }
    let first: u64 = entries.iter().filter(|entry| entry.residence.at_start).map(bytes).sum();
    ensure!(
        first <= budget,
        "the models with `load: start` need {} together, more than the memory budget of {}; lower their \
         `kv-cache-memory` or raise `memory-budget`",
        show_bytes(first),
        show_bytes(budget)
    );
    Ok(())
}
