//! What metrics tell of a model over all the times that it was loaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_engine::{EngineHandle, EngineInfo, EngineStats};

use crate::{ModelParts, ServedModel, metrics::ModelMetrics};

/// The metrics of one model. Counters only grow: those of ended engines are kept.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    metrics: Arc<ModelMetrics>,
    /// Of its newest engine.
    info: Arc<EngineInfo>,
    /// Counters of the engines that have ended.
    past: EngineStats,
}

/// One model at the moment of a scrape.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) info: Arc<EngineInfo>,
    pub(crate) stats: EngineStats,
    pub(crate) metrics: Arc<ModelMetrics>,
}

impl History {
    /// Of a model that is there.
    pub(super) fn of(model: &ServedModel) -> Self {
        let info = Arc::new(model.engine.info().clone());
        Self(Mutex::new(Some(Kept { metrics: model.metrics.clone(), info, past: EngineStats::default() })))
    }

    /// A model behind a new engine, with the metrics that it had before.
    pub(super) fn serve(&self, parts: ModelParts, engine: EngineHandle) -> Arc<ServedModel> {
        let mut kept = self.lock();
        let (before, past) = match kept.take() {
            Some(Kept { metrics, info, past }) => {
                // Histograms of tokens reach up to the longest sequence.
                let fits = info.max_model_len == engine.info().max_model_len;
                (fits.then_some(metrics), past)
            }
            None => (None, EngineStats::default()),
        };
        let mut model = ServedModel::new(parts, engine);
        if let Some(metrics) = before {
            model.metrics = metrics;
        }
        let info = Arc::new(model.engine.info().clone());
        *kept = Some(Kept { metrics: model.metrics.clone(), info, past });
        Arc::new(model)
    }

    /// Its engine has ended.
    pub(super) fn close(&self, engine: &EngineHandle) {
        if let Some(kept) = &mut *self.lock() {
            kept.past = sum(&kept.past, &engine.stats());
        }
    }

    /// What there is to tell; `None` if it never was loaded.
    pub(super) fn sample(&self, name: &str, model: Option<&ServedModel>) -> Option<Sample> {
        let kept = self.lock();
        let Kept { metrics, info, past } = kept.as_ref()?;
        let stats = match model {
            Some(model) => sum(past, &model.engine.stats()),
            None => *past,
        };
        Some(Sample { name: name.to_owned(), info: info.clone(), stats, metrics: metrics.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        // It is only ever replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters added up; gauges are `now`'s, and those of an ended engine are 0.
fn sum(past: &EngineStats, now: &EngineStats) -> EngineStats {
    let gauge = |value: usize| if now.alive { value } else { 0 };
    EngineStats {
        running: gauge(now.running),
        waiting: gauge(now.waiting),
        blocks_in_use: gauge(now.blocks_in_use),
        blocks_cached: gauge(now.blocks_cached),
        blocks_total: gauge(now.blocks_total),
        prefix_queries: past.prefix_queries + now.prefix_queries,
        prefix_hits: past.prefix_hits + now.prefix_hits,
        preemptions: past.preemptions + now.preemptions,
        prompt_tokens: past.prompt_tokens + now.prompt_tokens,
        generation_tokens: past.generation_tokens + now.generation_tokens,
        steps: past.steps + now.steps,
        forced_tokens: past.forced_tokens + now.forced_tokens,
        mask_time: std::array::from_fn(|at| past.mask_time[at] + now.mask_time[at]),
        mask_nanos: past.mask_nanos + now.mask_nanos,
        finished: std::array::from_fn(|at| past.finished[at] + now.finished[at]),
        iteration_tokens: std::array::from_fn(|at| past.iteration_tokens[at] + now.iteration_tokens[at]),
        iteration_tokens_sum: past.iteration_tokens_sum + now.iteration_tokens_sum,
        alive: now.alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_over_engines_and_gauges_end_with_them() {
        let engine = |alive| EngineStats {
            running: 3,
            steps: 5,
            finished: [1, 0, 0, 2, 0],
            alive,
            ..EngineStats::default()
        };
        let past = sum(&EngineStats::default(), &engine(false));
        assert_eq!((past.running, past.steps), (0, 5));
        let both = sum(&past, &engine(true));
        assert_eq!((both.running, both.steps, both.finished), (3, 10, [2, 0, 0, 4, 0]));
    }
}
