//! How the engine runs. Names and meanings are vLLM's where it has the same thing.

use clap::{ArgAction, Args, ValueEnum};

use super::units;

/// Engine settings, the same for every command that starts one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Longest prompt plus answer in tokens, such as 8192 or 8k [default: what the model and the KV cache allow]
    #[arg(long, value_name = "TOKENS", value_parser = units::count)]
    pub(crate) max_model_len: Option<usize>,
    /// Most sequences in one step
    #[arg(long, value_name = "N", default_value = "256", value_parser = units::count)]
    pub(crate) max_num_seqs: usize,
    /// Most tokens in one step; longer prompts are read in chunks. More than a CPU needs to be busy only makes
    /// running answers wait for new prompts
    #[arg(long, value_name = "TOKENS", default_value = "512", value_parser = units::count)]
    pub(crate) max_num_batched_tokens: usize,
    /// Tokens per KV block
    #[arg(long, value_name = "TOKENS", default_value = "16", value_parser = units::count)]
    pub(crate) block_size: usize,
    /// Memory for the KV cache, such as 512M or 4G, taken at the start [default: up to 40 % of what is free and 4G,
    /// taken as it is needed]
    #[arg(long, value_name = "BYTES", alias = "kv-cache-memory-bytes", value_parser = units::bytes)]
    pub(crate) kv_cache_memory: Option<u64>,
    /// Number format of the KV cache; `auto` is bf16
    #[arg(long, value_enum, default_value_t = KvCacheDtype::Auto, value_name = "TYPE")]
    pub(crate) kv_cache_dtype: KvCacheDtype,
    /// Where to compute; `auto` takes the best there is, today always the CPU
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub(crate) device: Device,
    /// CPU threads [default: the CPUs this process may use]
    #[arg(long, value_name = "N", value_parser = units::threads)]
    pub(crate) threads: Option<usize>,
    /// Seed for requests that bring none; equal seeds give equal answers [default: from the clock]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Reuse the KV blocks of common prompt beginnings (on unless switched off)
    #[arg(long, action = ArgAction::SetTrue, overrides_with = "no_enable_prefix_caching")]
    pub(crate) enable_prefix_caching: bool,
    /// Compute every prompt from its first token
    #[arg(long, action = ArgAction::SetTrue, overrides_with = "enable_prefix_caching")]
    pub(crate) no_enable_prefix_caching: bool,
    /// Who runs first: first come, or the lowest `priority` of the requests
    #[arg(long, value_enum, default_value_t = SchedulingPolicy::Fcfs, value_name = "POLICY")]
    pub(crate) scheduling_policy: SchedulingPolicy,
    /// Requests that may wait; more are told to come back later (503)
    #[arg(long, value_name = "N", default_value = "4096", value_parser = units::count)]
    pub(crate) max_num_queued_reqs: usize,
}

/// `--kv-cache-dtype`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvCacheDtype {
    /// What suits the device
    Auto,
    /// 32-bit floats
    F32,
    /// bfloat16
    Bf16,
    /// Signed bytes, with a scale for each head of each token
    Int8,
}

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// The best there is
    Auto,
    /// The CPU
    Cpu,
}

/// `--scheduling-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchedulingPolicy {
    /// First come, first served
    Fcfs,
    /// By the requests' `priority`
    Priority,
}
