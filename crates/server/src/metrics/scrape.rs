//! Names and help of all families.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use millrace_engine::{EngineStats, ITERATION_TOKEN_BUCKETS, MASK_SECONDS_BUCKETS};
use millrace_mcp::ServerStatus;

use super::{
    HttpMetrics, ModelMetrics, Outcome, StoreMetrics,
    histogram::Snapshot,
    mcp,
    text::{Labels, TextWriter},
};
use crate::{
    ModelReport, ModelState, Registry,
    keys::{Key, KeyCounts},
    registry::Sample,
};

/// Our own prefix, and the one that existing dashboards look for.
const PREFIXES: [&str; 2] = ["millrace", "vllm"];

/// Everything, in Prometheus' text format.
pub(crate) fn scrape(
    models: &Registry,
    http: &HttpMetrics,
    responses: &StoreMetrics,
    files: &StoreMetrics,
    keys: &[Arc<Key>],
    tools: &[ServerStatus],
) -> String {
    let states = models.reports();
    let models = models.histories();
    let mut writer = TextWriter::default();
    for prefix in PREFIXES {
        write_gauges(&mut writer, prefix, &models);
        write_counters(&mut writer, prefix, &models);
        write_histograms(&mut writer, prefix, &models);
    }
    write_states(&mut writer, &states);
    write_keys(&mut writer, keys);
    http.write(&mut writer);
    responses.write(&mut writer, "response_store", "Responses");
    files.write(&mut writer, "file_store", "Files and batches");
    mcp::write(&mut writer, tools);
    writer.finish()
}

impl Sample {
    /// The labels of every sample, and more.
    fn labels<'b>(&'b self, more: Labels<'b>) -> Vec<(&'b str, &'b str)> {
        [("model_name", self.name.as_str()), ("engine", "0")]
            .into_iter()
            .chain(more.iter().copied())
            .collect()
    }
}

/// Name, help and where the value is.
type StateGauge = (&'static str, &'static str, fn(&ModelReport) -> u64);

/// Which models are in memory, and how much of it they take.
fn write_states(writer: &mut TextWriter, models: &[ModelReport]) {
    let gauges: [StateGauge; 4] = [
        ("millrace:model_ready", "Whether the model is loaded and takes requests.", |model| {
            u64::from(model.state == ModelState::Ready)
        }),
        ("millrace:model_memory_bytes", "Memory that the model counts for; 0 if it isn't loaded.", |model| {
            model.bytes_in_memory()
        }),
        ("millrace:model_requests_in_flight", "Requests that use the model.", |m| m.in_flight as u64),
        ("millrace:model_requests_waiting", "Requests that wait for the model to be loaded.", |model| {
            model.waiting as u64
        }),
    ];
    for (name, help, read) in gauges {
        writer.family(name, "gauge", help);
        for model in models {
            writer.sample(name, &[("model_name", model.name())], read(model));
        }
    }
}

/// Name, help and where the value is.
type Gauge = (&'static str, &'static str, fn(&EngineStats) -> f64);
type Counter = (&'static str, &'static str, fn(&Sample) -> u64);
type HistogramOf = (&'static str, &'static str, for<'a> fn(&'a ModelMetrics) -> Snapshot<'a>);

fn write_gauges(writer: &mut TextWriter, prefix: &str, models: &[Sample]) {
    let gauges: [Gauge; 3] = [
        ("num_requests_running", "Requests in the running batch.", |s| s.running as f64),
        ("num_requests_waiting", "Requests waiting for admission.", |s| s.waiting as f64),
        ("kv_cache_usage_perc", "Share of the KV blocks in use; 1 is all of them.", |s| {
            s.blocks_in_use as f64 / s.blocks_total.max(1) as f64
        }),
    ];
    for (name, help, read) in gauges {
        let name = format!("{prefix}:{name}");
        writer.family(&name, "gauge", help);
        for model in models {
            writer.sample(&name, &model.labels(&[]), read(&model.stats));
        }
    }
    let name = format!("{prefix}:cache_config_info");
    writer.family(&name, "gauge", "The KV cache's configuration; always 1.");
    for model in models {
        let block_size = model.info.block_size.to_string();
        let blocks = model.stats.blocks_total.to_string();
        let prefix_caching = model.info.prefix_caching.to_string();
        let config = [
            ("block_size", block_size.as_str()),
            ("num_gpu_blocks", &blocks),
            ("enable_prefix_caching", &prefix_caching),
        ];
        writer.sample(&name, &model.labels(&config), 1);
    }
}

fn write_counters(writer: &mut TextWriter, prefix: &str, models: &[Sample]) {
    let counters: [Counter; 9] = [
        ("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.", |m| {
            m.stats.prefix_queries
        }),
        ("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", |m| m.stats.prefix_hits),
        ("num_preemptions_total", "Preemptions.", |m| m.stats.preemptions),
        ("prompt_tokens_total", "Prompt tokens of admitted requests.", |m| m.stats.prompt_tokens),
        ("generation_tokens_total", "Tokens sampled.", |m| m.stats.generation_tokens),
        ("prompt_tokens_cached_total", "Prompt tokens of finished requests that were cached.", |m| {
            m.metrics.cached_tokens.load(Relaxed)
        }),
        ("grammar_cache_queries_total", "Requests that needed a compiled grammar.", |m| {
            m.metrics.grammar_queries.load(Relaxed)
        }),
        ("grammar_cache_hits_total", "Those that found it compiled.", |m| {
            m.metrics.grammar_hits.load(Relaxed)
        }),
        ("forced_tokens_total", "Generated tokens that a grammar left no choice about: not sampled.", |m| {
            m.stats.forced_tokens
        }),
    ];
    for (name, help, read) in counters {
        let name = format!("{prefix}:{name}");
        writer.family(&name, "counter", help);
        for model in models {
            writer.sample(&name, &model.labels(&[]), read(model));
        }
    }
    let name = format!("{prefix}:request_success_total");
    writer.family(&name, "counter", "Finished sequences by the reason of their end.");
    for model in models {
        for (outcome, count) in Outcome::ALL.into_iter().zip(&model.metrics.outcomes) {
            writer.sample(&name, &model.labels(&[("finished_reason", outcome.name())]), count.load(Relaxed));
        }
    }
}

/// What each key was used for; nothing if there are no keys.
fn write_keys(writer: &mut TextWriter, keys: &[Arc<Key>]) {
    type Count = (&'static str, &'static str, fn(&KeyCounts) -> &AtomicU64);
    let counts: [Count; 4] = [
        ("requests", "Requests of a key that were let in.", |c| &c.requests),
        ("requests_limited", "Requests refused because the key's budget was used up.", |c| &c.limited),
        ("prompt_tokens", "Prompt tokens of a key's admitted requests.", |c| &c.prompt_tokens),
        ("completion_tokens", "Tokens of answers to a key.", |c| &c.completion_tokens),
    ];
    for (name, help, read) in counts.into_iter().filter(|_| !keys.is_empty()) {
        let name = format!("millrace:key_{name}_total");
        writer.family(&name, "counter", help);
        for key in keys {
            writer.sample(&name, &[("key", key.name())], read(key.counts()).load(Relaxed));
        }
    }
}

fn write_histograms(writer: &mut TextWriter, prefix: &str, models: &[Sample]) {
    let histograms: [HistogramOf; 14] = [
        ("time_to_first_token_seconds", "From arrival to the first token.", |m| m.first_token.snapshot()),
        ("inter_token_latency_seconds", "From token to token.", |m| m.inter_token.snapshot()),
        ("request_time_per_output_token_seconds", "Mean time per token after the first.", |m| {
            m.per_output_token.snapshot()
        }),
        ("e2e_request_latency_seconds", "From arrival to the end.", |m| m.end_to_end.snapshot()),
        ("request_queue_time_seconds", "From arrival to the first step.", |m| m.queue.snapshot()),
        ("request_inference_time_seconds", "From the first step to the last token.", |m| {
            m.inference.snapshot()
        }),
        ("request_prefill_time_seconds", "From the first step to the first token.", |m| m.prefill.snapshot()),
        ("request_decode_time_seconds", "From the first token to the last.", |m| m.decode.snapshot()),
        ("request_prompt_tokens", "Tokens of the prompt.", |m| m.prompt_tokens.snapshot()),
        ("request_generation_tokens", "Tokens sampled.", |m| m.generation_tokens.snapshot()),
        ("request_params_max_tokens", "The max_tokens of requests, after defaults.", |m| {
            m.max_tokens.snapshot()
        }),
        ("request_params_n", "The n of requests.", |m| m.choices.snapshot()),
        ("grammar_compile_seconds", "Time to compile a grammar.", |m| m.grammar_compile.snapshot()),
        ("request_num_preemptions", "Preemptions per sequence.", |m| m.preemptions.snapshot()),
    ];
    for (name, help, read) in histograms {
        let name = format!("{prefix}:{name}");
        writer.family(&name, "histogram", help);
        for model in models {
            writer.histogram(&name, &model.labels(&[]), &read(&model.metrics));
        }
    }
    let name = format!("{prefix}:mask_time_seconds");
    writer.family(&name, "histogram", "Time to take a token into a grammar and compute the next mask.");
    for model in models {
        let snapshot = Snapshot {
            bounds: &MASK_SECONDS_BUCKETS,
            counts: model.stats.mask_time.to_vec(),
            sum: model.stats.mask_nanos as f64 / 1e9,
        };
        writer.histogram(&name, &model.labels(&[]), &snapshot);
    }
    let name = format!("{prefix}:iteration_tokens_total");
    writer.family(&name, "histogram", "Tokens scheduled per step.");
    let bounds = ITERATION_TOKEN_BUCKETS.map(|bound| bound as f64);
    for model in models {
        let snapshot = Snapshot {
            bounds: &bounds,
            counts: model.stats.iteration_tokens.to_vec(),
            sum: model.stats.iteration_tokens_sum as f64,
        };
        writer.histogram(&name, &model.labels(&[]), &snapshot);
    }
}
