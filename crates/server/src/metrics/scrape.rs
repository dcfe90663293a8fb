//! Names and help of all families.

use std::sync::atomic::Ordering::Relaxed;

use millrace_engine::{EngineInfo, EngineStats, ITERATION_TOKEN_BUCKETS, MASK_SECONDS_BUCKETS};

use super::{
    HttpMetrics, ModelMetrics, Outcome,
    histogram::Snapshot,
    text::{Labels, TextWriter},
};
use crate::{Registry, ServedModel};

/// Our own prefix, and the one that existing dashboards look for.
const PREFIXES: [&str; 2] = ["millrace", "vllm"];

/// Everything, in Prometheus' text format.
pub(crate) fn scrape(models: &Registry, http: &HttpMetrics) -> String {
    let models: Vec<Sample<'_>> = models.iter().map(Sample::new).collect();
    let mut writer = TextWriter::default();
    for prefix in PREFIXES {
        write_gauges(&mut writer, prefix, &models);
        write_counters(&mut writer, prefix, &models);
        write_histograms(&mut writer, prefix, &models);
    }
    http.write(&mut writer);
    writer.finish()
}

/// One model at the moment of the scrape.
struct Sample<'a> {
    name: &'a str,
    info: &'a EngineInfo,
    stats: EngineStats,
    metrics: &'a ModelMetrics,
}

impl<'a> Sample<'a> {
    fn new(model: &'a ServedModel) -> Self {
        Self {
            name: model.name(),
            info: model.engine.info(),
            stats: model.engine.stats(),
            metrics: &model.metrics,
        }
    }

    /// The labels of every sample, and more.
    fn labels<'b>(&'b self, more: Labels<'b>) -> Vec<(&'b str, &'b str)> {
        [("model_name", self.name), ("engine", "0")].into_iter().chain(more.iter().copied()).collect()
    }
}

/// Name, help and where the value is.
type Gauge = (&'static str, &'static str, fn(&EngineStats) -> f64);
type Counter = (&'static str, &'static str, fn(&Sample<'_>) -> u64);
type HistogramOf = (&'static str, &'static str, for<'a> fn(&'a ModelMetrics) -> Snapshot<'a>);

fn write_gauges(writer: &mut TextWriter, prefix: &str, models: &[Sample<'_>]) {
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

fn write_counters(writer: &mut TextWriter, prefix: &str, models: &[Sample<'_>]) {
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

fn write_histograms(writer: &mut TextWriter, prefix: &str, models: &[Sample<'_>]) {
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
            writer.histogram(&name, &model.labels(&[]), &read(model.metrics));
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
