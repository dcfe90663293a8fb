//! The thread that loads and unloads, one model at a time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::{
    Known, LoadError, LoadedModel, ModelPlan, ModelSource, Shared,
    table::{Step, Up},
};
use crate::{ServedModel, ServerError};

/// Starts the thread. It ends when the registry is closed.
pub(super) fn spawn(shared: Arc<Shared>) -> Result<(), ServerError> {
    let builder = std::thread::Builder::new().name("millrace-models".into());
    builder.spawn(move || run(&shared)).map_err(|source| ServerError::Thread { source })?;
    Ok(())
}

fn run(shared: &Arc<Shared>) {
    loop {
        match shared.with(|table| table.next(Instant::now())) {
            Step::Plan(index) => {
                let plan = plan(&shared.models[index]);
                shared.with(|table| table.planned(index, plan, Instant::now()));
            }
            Step::Load(index, plan) => {
                let up = load(&shared.models[index], &plan);
                let unwanted = shared.with(|table| table.loaded(index, up, Instant::now()));
                if let Some(up) = unwanted {
                    (up.stop)();
                }
            }
            Step::Unload(index, up) => {
                unload(&shared.models[index], up);
                shared.with(|table| table.unloaded(index));
                shared.unloads.send_replace(());
            }
            Step::Sleep(until) => sleep(shared, until),
            Step::End => {
                shared.unloads.send_replace(());
                return;
            }
        }
    }
}

fn sleep(shared: &Shared, until: Option<Instant>) {
    let mut table = shared.lock();
    while !table.has_changed() {
        match until {
            None => table = shared.changed.wait(table).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let now = Instant::now();
                if now >= until {
                    return;
                }
                let waited = shared.changed.wait_timeout(table, until - now);
                table = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

fn plan(known: &Known) -> Result<ModelPlan, LoadError> {
    guarded(known, |source| source.plan())
}

fn load(known: &Known, plan: &ModelPlan) -> Result<Up<Arc<ServedModel>>, LoadError> {
    let name = known.name();
    let start = Instant::now();
    tracing::info!("loading the model {name}");
    let loaded = guarded(known, |source| source.load(plan));
    if loaded.is_ok() {
        tracing::info!("the model {name} is there after {:.1} s", start.elapsed().as_secs_f64());
    }
    loaded.map(|loaded| {
        let LoadedModel { mut parts, engine, stop } = loaded;
        parts.names.clone_from(&known.names);
        Up { model: known.history.serve(parts, engine), stop }
    })
}

fn unload(known: &Known, up: Up<Arc<ServedModel>>) {
    let Up { model, stop } = up;
    let engine = model.engine.clone();
    // Its tokenizer and template go first, so that `stop` finds all of the memory free.
    drop(model);
    let sound = stop();
    known.history.close(&engine);
    let name = known.name();
    if sound {
        tracing::info!("the model {name} is unloaded");
    } else {
        tracing::error!("the engine of the model {name} had failed; the log above says where");
    }
}

/// Calls the source; a panic there is a failure of its model, not of the thread that all models need.
fn guarded<T>(
    known: &Known,
    work: impl FnOnce(&dyn ModelSource) -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let Some(source) = &known.source else { return Err(LoadError("it has no source".into())) };
    let result = catch_unwind(AssertUnwindSafe(|| work(&**source)));
    result.unwrap_or_else(|_| Err(LoadError("an internal error; the log says more".into())))
}
