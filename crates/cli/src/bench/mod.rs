//! `millrace bench`: the engine without text and without HTTP, beside what the machine could do at best.

pub(crate) mod latency;
mod ops;
mod roofline;
mod stats;
pub(crate) mod throughput;
mod workload;

use anyhow::{Context, Result};
use millrace_backend::recording::{OpTimes, Recorder};
use millrace_backend_cpu::{Level, Pool, bandwidth, default_threads, peak};
use serde_json::{Value, json};

use crate::args::{BenchArgs, EngineArgs, LoadFormat, QuantizeFormat};
use crate::load::{self, Model, Running};
use crate::output;
use ops::Ops;
use roofline::{Ceilings, Cost, Roof};
use workload::{Run, Shape, Workload};

/// What was found out, for people and for programs.
trait Report {
    /// From the measured runs of one piece of work.
    fn new(bench: &Bench, shape: Shape, runs: &[Run]) -> Self;
    /// A table.
    fn lines(&self) -> Vec<String>;
    /// The same numbers by name, added to those of `head`.
    fn to_json(&self, head: Value) -> Value;
}

/// What the engine must have room for.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Tokens of the longest sequence; `None` is whatever the model and the KV cache allow.
    tokens: Option<usize>,
    /// Sequences at the same time.
    seqs: usize,
    /// Requests submitted at once.
    requests: usize,
}

/// A model that is ready to be measured.
struct Bench {
    model: Model,
    running: Running,
    workload: Workload,
    cost: Cost,
    ceilings: Option<Ceilings>,
    /// Counts what operations take, if that was asked for.
    times: Option<OpTimes>,
    num_warmups: usize,
    num_iters: usize,
}

/// Loads the model once, measures one piece of work after the other and prints each result as soon as it is there.
fn measure_all<R: Report>(
    args: &BenchArgs,
    room: Room,
    num_iters: usize,
    work: impl IntoIterator<Item = Result<Shape>>,
) -> Result<()> {
    let mut bench = Bench::prepare(args, room, num_iters)?;
    if !args.json {
        output::print(&bench.describe(args))?;
    }
    for shape in work {
        let shape = shape?;
        let report: R = bench.measure(shape)?;
        let ops = bench.times.as_ref().map(Ops::take);
        let text = match args.json {
            true => {
                let mut head = bench.describe_json(args, shape);
                head["operations"] = ops.as_ref().map_or(Value::Null, Ops::to_json);
                report.to_json(head).to_string()
            }
            false => {
                let head = vec![String::new(), bench.describe_work(shape)];
                let ops = ops.as_ref().map_or_else(Vec::new, Ops::lines);
                [head, report.lines(), ops].concat().join("\n")
            }
        };
        output::print(&(text + "\n"))?;
    }
    bench.finish();
    Ok(())
}

impl Bench {
    /// Measures the machine and loads the model.
    fn prepare(args: &BenchArgs, room: Room, num_iters: usize) -> Result<Self> {
        let model = load::find(args.model.as_deref(), &args.model_args)?;
        let engine = EngineArgs {
            max_model_len: args.engine.max_model_len.or(room.tokens),
            max_num_seqs: room.seqs,
            max_num_queued_reqs: room.requests.max(args.engine.max_num_queued_reqs),
            ..args.engine.clone()
        };
        let ceilings = if args.no_ceilings { None } else { Some(measure_ceilings(&model, args)?) };
        let times = args.ops.then(OpTimes::default);
        let running = load::start_on(&model, &args.model_args, &engine, None, |cpu| match &times {
            Some(times) => Box::new(Recorder::timing(cpu, times.clone())),
            None => Box::new(cpu),
        })?;
        let cost = Cost::new(&model.spec, &running.report, &engine);
        let workload = Workload::new(running.engine.handle.clone(), args.engine.seed.unwrap_or(0))?;
        Ok(Self { model, running, workload, cost, ceilings, times, num_warmups: args.num_warmups, num_iters })
    }

    /// Does a piece of work again and again.
    fn measure<R: Report>(&mut self, shape: Shape) -> Result<R> {
        for _ in 0..self.num_warmups {
            self.workload.run(shape)?;
        }
        self.times.as_ref().map(OpTimes::take);
        let runs = (0..self.num_iters).map(|_| self.workload.run(shape)).collect::<Result<Vec<_>>>()?;
        Ok(R::new(self, shape, &runs))
    }

    /// Reading `prompts` prompts of `len` tokens.
    fn prefill_roof(&self, prompts: usize, len: usize) -> Roof {
        Roof::new(self.cost.prefill(prompts, len), self.ceilings)
    }

    /// One step of `batch` answers with `context` tokens before each.
    fn decode_roof(&self, batch: usize, context: usize) -> Roof {
        Roof::new(self.cost.decode(batch, context), self.ceilings)
    }

    /// The head of the output.
    fn describe(&self, args: &BenchArgs) -> String {
        let dummy = if args.model_args.load_format == LoadFormat::Dummy { ", random weights" } else { "" };
        let million = (self.model.spec.param_count() as f64 / 1e6).round();
        let megabytes = self.running.report.step_weight_bytes / 1_000_000;
        let model = &self.model.name;
        let ceilings = self.ceilings.map(|ceilings| format!("ceilings    {}\n", ceilings.describe()));
        format!(
            "model       {model} ({million} M parameters, {megabytes} MB read per step{dummy})\n\
             device      {}\n{}",
            self.running.engine.handle.info().device,
            ceilings.unwrap_or_default(),
        )
    }

    /// The head of one measurement.
    fn describe_work(&self, shape: Shape) -> String {
        let Shape { input_len, output_len, num_prompts, batch_size } = shape;
        let (warmups, iters) = (self.num_warmups, self.num_iters);
        format!(
            "work        {num_prompts} × ({input_len} tokens in, {output_len} out), {batch_size} at a time; \
             {warmups} to warm up, {iters} measured"
        )
    }

    fn describe_json(&self, args: &BenchArgs, shape: Shape) -> Value {
        let info = self.running.engine.handle.info();
        json!({
            "model": self.model.name,
            "random_weights": args.model_args.load_format == LoadFormat::Dummy,
            "parameters": self.model.spec.param_count(),
            "weight_bytes_per_step": self.running.report.step_weight_bytes,
            "device": info.device,
            "input_len": shape.input_len,
            "output_len": shape.output_len,
            "num_prompts": shape.num_prompts,
            "batch_size": shape.batch_size,
            "num_warmups": self.num_warmups,
            "num_iters": self.num_iters,
            "ceilings": self.ceilings.map(Ceilings::to_json),
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
    let level = Level::detect()?;
    let unit = match weight_bits(model, args)? {
        // As tiles, prompts are multiplied by 8-bit weights in bf16.
        8 if level == Level::Amx => "bf16",
        4 | 8 => "int8",
        16 => "bf16",
        // Half precision is widened before it is multiplied.
        _ => "f32",
    };
    let peaks = peak::measure(level, &pool)?;
    let peak =
        peaks.iter().find(|peak| peak.name == unit).context("the peak of the weights' type is not known")?;
    Ok(Ceilings {
        bytes_per_second: bandwidth::read_bandwidth(level, &pool)?,
        ops_per_second: peak.ops_per_second,
        unit,
    })
}

/// Bits of a weight: 4 or 8 for integers, 16 for bf16, 32 for whatever becomes float32.
fn weight_bits(model: &Model, args: &BenchArgs) -> Result<u64> {
    match args.model_args.quantize {
        QuantizeFormat::Q4 => return Ok(4),
        QuantizeFormat::Q8 => return Ok(8),
        QuantizeFormat::None => {}
    }
    if args.model_args.load_format == LoadFormat::Dummy {
        return Ok(16);
    }
    let config = model.files.config()?;
    let dtype = config.value("torch_dtype").or_else(|| config.value("dtype")).and_then(Value::as_str);
    let bits =
        config.value("quantization").map(|quantization| quantization.get("bits").and_then(Value::as_u64));
    Ok(match (bits, dtype) {
        (Some(bits), _) => bits.unwrap_or(8),
        (None, Some("bfloat16")) => 16,
        (None, _) => 32,
    })
}
