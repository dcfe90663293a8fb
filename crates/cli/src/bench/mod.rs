//! `millrace bench`: the engine without text and without HTTP, beside what the machine could do at best.

pub(crate) mod latency;
mod roofline;
mod stats;
pub(crate) mod throughput;
mod workload;

use anyhow::{Context, Result};
use millrace_backend_cpu::{Level, Pool, bandwidth, default_threads, peak};
use serde_json::{Value, json};

use crate::args::{BenchArgs, EngineArgs, LoadFormat, QuantizeFormat};
use crate::load::{self, Model, Running};
use crate::output;
use roofline::{Ceilings, Cost};
use workload::{Run, Shape, Workload};

/// What was found out, for people and for programs.
trait Report {
    /// From the measured runs.
    fn new(bench: &Bench, runs: &[Run]) -> Self;
    /// A table.
    fn lines(&self) -> Vec<String>;
    /// The same numbers by name, added to those of `head`.
    fn to_json(&self, head: Value) -> Value;
}

/// Measures and prints.
fn measure<R: Report>(args: &BenchArgs, shape: Shape) -> Result<()> {
    let mut bench = Bench::prepare(args, shape)?;
    let runs = (0..shape.num_iters).map(|_| bench.workload.run()).collect::<Result<Vec<_>>>()?;
    let report = R::new(&bench, &runs);
    let text = match args.json {
        true => report.to_json(bench.describe_json(args)).to_string(),
        false => [bench.describe(args), report.lines()].concat().join("\n"),
    };
    bench.finish();
    output::print(&(text + "\n"))
}

/// A model that is ready to be measured.
struct Bench {
    model: Model,
    running: Running,
    workload: Workload,
    cost: Cost,
    ceilings: Ceilings,
}

impl Bench {
    /// Measures the machine, loads the model and runs the work once, so that caches and memory are warm.
    fn prepare(args: &BenchArgs, shape: Shape) -> Result<Self> {
        let model = load::find(args.model.as_deref(), &args.model_args)?;
        let engine = EngineArgs {
            max_model_len: args.engine.max_model_len.or(Some(shape.input_len + shape.output_len)),
            max_num_seqs: shape.batch_size,
            max_num_queued_reqs: shape.num_prompts.max(args.engine.max_num_queued_reqs),
            ..args.engine.clone()
        };
        let ceilings = measure_ceilings(&model, args)?;
        let running = load::start(&model, &args.model_args, &engine)?;
        let cost = Cost::new(&model.spec, &running.report, &engine);
        let workload = Workload::new(running.engine.handle.clone(), shape, args.engine.seed.unwrap_or(0))?;
        let mut bench = Self { model, running, workload, cost, ceilings };
        bench.workload.run()?;
        Ok(bench)
    }

    /// The head of the table.
    fn describe(&self, args: &BenchArgs) -> Vec<String> {
        let dummy = if args.model_args.load_format == LoadFormat::Dummy { ", random weights" } else { "" };
        let million = (self.model.spec.param_count() as f64 / 1e6).round();
        let megabytes = self.running.report.step_weight_bytes / 1_000_000;
        let Shape { input_len, output_len, num_prompts, batch_size, num_iters } = self.workload.shape;
        let model = &self.model.name;
        vec![
            format!("model       {model} ({million} M parameters, {megabytes} MB read per step{dummy})"),
            format!("device      {}", self.running.engine.handle.info().device),
            format!(
                "work        {num_prompts} × ({input_len} tokens in, {output_len} out), {batch_size} at a time; \
                 one run to warm up, {num_iters} measured"
            ),
            format!("ceilings    {}", self.ceilings.describe()),
            String::new(),
        ]
    }

    fn describe_json(&self, args: &BenchArgs) -> Value {
        let shape = self.workload.shape;
        json!({
            "model": self.model.name,
            "random_weights": args.model_args.load_format == LoadFormat::Dummy,
            "parameters": self.model.spec.param_count(),
            "weight_bytes_per_step": self.running.report.step_weight_bytes,
            "device": self.running.engine.handle.info().device,
            "input_len": shape.input_len,
            "output_len": shape.output_len,
            "num_prompts": shape.num_prompts,
            "batch_size": shape.batch_size,
            "num_iters": shape.num_iters,
            "ceilings": self.ceilings.to_json(),
        })
    }

    fn finish(self) {
        let engine = self.running.engine;
        engine.handle.shutdown();
        engine.join();
    }
}

/// The memory's speed and the peak of the units that multiply this model's weights, with the threads that it gets.
fn measure_ceilings(model: &Model, args: &BenchArgs) -> Result<Ceilings> {
    let pool = Pool::new(args.engine.threads.unwrap_or_else(default_threads));
    let unit = weight_unit(model, args)?;
    let peaks = peak::measure(Level::detect()?, &pool)?;
    let peak =
        peaks.iter().find(|peak| peak.name == unit).context("the peak of the weights' type is not known")?;
    Ok(Ceilings {
        bytes_per_second: bandwidth::read_bandwidth(&pool)?,
        ops_per_second: peak.ops_per_second,
        unit,
    })
}

/// The type in which weights are multiplied.
fn weight_unit(model: &Model, args: &BenchArgs) -> Result<&'static str> {
    let dummy = args.model_args.load_format == LoadFormat::Dummy;
    if args.model_args.quantize != QuantizeFormat::None {
        return Ok("int8");
    }
    if dummy {
        return Ok("bf16");
    }
    let config = model.files.config()?;
    let dtype = config.value("torch_dtype").or_else(|| config.value("dtype")).and_then(Value::as_str);
    Ok(match (config.value("quantization"), dtype) {
        (Some(_), _) => "int8",
        (None, Some("bfloat16")) => "bf16",
        // Half precision is widened before it is multiplied.
        (None, _) => "f32",
    })
}
