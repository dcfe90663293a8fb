//! Runs fixtures through the decoder in many forms and compares with what transformers computed.
//!
//! Everything is read through the public results of a step: with as many log-probabilities as there are tokens, a
//! row's whole distribution comes back.

// Every test file uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use millrace_backend::{
    Backend, Batch, KvDtype, SampleKind, SampleSpec, SeqSpan, Span, StepResult, WeightFormat,
};
use millrace_model::{Decoder, LoadOptions, ModelSpec, WeightSource, spec};
use millrace_types::BlockId;
use millrace_weights::{Checkpoint, HfConfig};

pub(crate) const BLOCK: usize = 16;
const BLOCKS: usize = 32;

/// A tiny model and what transformers computes for it.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) spec: ModelSpec,
    pub(crate) checkpoint: Checkpoint,
    /// Prompts.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Per prompt and position, log-probabilities of all tokens.
    pub(crate) golden: Distributions,
}

/// Per sequence, per position, natural-log probabilities `[vocab]`.
pub(crate) type Distributions = Vec<Vec<Vec<f32>>>;

/// How the sequences are cut into steps.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    /// Sequences one after the other, instead of together.
    pub(crate) alone: bool,
    /// Tokens that a sequence gets in a step, by (step, sequence).
    pub(crate) chunk: fn(usize, usize) -> usize,
    /// Hand out KV blocks in a scrambled order.
    pub(crate) scrambled: bool,
}

pub(crate) const FORMS: &[Form] = &[
    Form { name: "one sequence at once", alone: true, chunk: |_, _| usize::MAX, scrambled: false },
    Form { name: "all sequences batched", alone: false, chunk: |_, _| usize::MAX, scrambled: false },
    Form {
        name: "odd chunks, prefill and decode mixed",
        alone: false,
        chunk: |step, sequence| [7, 1, 19, 3, 1][(step + 2 * sequence) % 5],
        scrambled: false,
    },
    Form {
        name: "scrambled blocks",
        alone: false,
        chunk: |step, sequence| [17, 2, 11][(step + sequence) % 3],
        scrambled: true,
    },
    Form { name: "token by token", alone: false, chunk: |_, _| 1, scrambled: true },
];

/// All fixtures, with both generations of their configuration.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(!folders.is_empty());
    folders
        .iter()
        .flat_map(|folder| [load(folder, "config.json"), load(folder, "config.legacy.json")])
        .collect()
}

fn load(folder: &Path, config: &str) -> Fixture {
    let json = std::fs::read(folder.join(config)).unwrap();
    let spec = spec::from_config(&HfConfig::parse(config, &json).unwrap()).unwrap();
    let golden = Checkpoint::open_file(&folder.join("golden.safetensors"), None).unwrap();
    let (mut prompts, mut distributions) = (Vec::new(), Vec::new());
    while golden.contains(&format!("ids_{}", prompts.len())) {
        let ids = golden.tensor(&format!("ids_{}", prompts.len())).unwrap();
        let logits = golden.tensor(&format!("logits_{}", prompts.len())).unwrap().to_f32().unwrap();
        let (ids, _) = ids.bytes.as_chunks::<8>();
        prompts.push(ids.iter().map(|id| i64::from_le_bytes(*id) as u32).collect());
        distributions.push(logits.chunks_exact(spec.vocab).map(log_softmax).collect());
    }
    Fixture {
        name: format!("{}/{config}", folder.file_name().unwrap().display()),
        spec,
        checkpoint: Checkpoint::open_file(&folder.join("model.safetensors"), None).unwrap(),
        prompts,
        golden: distributions,
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    logits.iter().map(|x| (f64::from(x - max) - sum.ln()) as f32).collect()
}

/// A fixture loaded into a backend.
pub(crate) struct Session<'a, B> {
    pub(crate) backend: B,
    decoder: Decoder,
    fixture: &'a Fixture,
    batch: Batch,
    result: StepResult,
    /// Whether tokens count as parts of prompts, which a backend may compute in another way than generated ones.
    prompts: bool,
}

/// One sequence on its way through the model.
struct Running<'a> {
    prompt: &'a [u32],
    computed: usize,
    blocks: Vec<BlockId>,
    rows: Vec<Vec<f32>>,
}

impl<'a, B: Backend> Session<'a, B> {
    /// With the fixture's own weights.
    pub(crate) fn new(backend: B, fixture: &'a Fixture, format: WeightFormat) -> Self {
        Self::with_weights(backend, fixture, &fixture.checkpoint, format)
    }

    /// Few rows of logits, so that the decoder has to slice.
    pub(crate) fn with_weights(
        mut backend: B,
        fixture: &'a Fixture,
        weights: &dyn WeightSource,
        format: WeightFormat,
    ) -> Self {
        let options = LoadOptions { format, max_tokens: 128, max_logit_rows: 7 };
        let (decoder, report) =
            Decoder::load(&fixture.spec, weights, &mut backend, options, &mut |_| ()).unwrap();
        assert_eq!(report.warnings(), Vec::<String>::new(), "{}", fixture.name);
        backend.alloc_kv(&fixture.spec.kv_spec(BLOCKS, BLOCK, KvDtype::F32)).unwrap();
        Self {
            backend,
            decoder,
            fixture,
            batch: Batch::default(),
            result: StepResult::default(),
            prompts: false,
        }
    }

    /// With every token as part of a prompt.
    pub(crate) fn with_prompts(mut self) -> Self {
        self.prompts = true;
        self
    }

    /// With another KV cache than float32.
    pub(crate) fn with_kv(mut self, dtype: KvDtype) -> Self {
        self.backend.alloc_kv(&self.fixture.spec.kv_spec(BLOCKS, BLOCK, dtype)).unwrap();
        self
    }

    /// The distributions at every position of every prompt.
    pub(crate) fn run(&mut self, form: &Form) -> Distributions {
        let prompts = &self.fixture.prompts;
        let groups: Vec<&[Vec<u32>]> = if form.alone { prompts.chunks(1).collect() } else { vec![prompts] };
        groups.into_iter().flat_map(|group| self.run_together(group, form)).collect()
    }

    fn run_together(&mut self, prompts: &'a [Vec<u32>], form: &Form) -> Distributions {
        // Block 0 is the null block. Stepping by 13 through the other 31 visits each once.
        let order = |i: usize| if form.scrambled { i * 13 % (BLOCKS - 1) } else { i };
        let mut free = (0..BLOCKS - 1).map(|i| BlockId(1 + order(i) as u32));
        let mut running: Vec<Running<'_>> = prompts
            .iter()
            .map(|prompt| {
                let blocks = free.by_ref().take(prompt.len().div_ceil(BLOCK)).collect();
                Running { prompt, computed: 0, blocks, rows: Vec::new() }
            })
            .collect();
        for step in 0.. {
            self.batch.clear();
            let mut rows = Vec::new();
            for (index, sequence) in running.iter_mut().enumerate() {
                let count = (form.chunk)(step, index).min(sequence.prompt.len() - sequence.computed);
                append(&mut self.batch, sequence, count);
                rows.extend(std::iter::repeat_n(index, count));
            }
            if rows.is_empty() {
                break;
            }
            self.batch.prompt_rows = if self.prompts { rows.len() } else { 0 };
            let ticket = self.decoder.forward(&mut self.backend, &self.batch);
            self.backend.wait(ticket, &mut self.result).unwrap();
            for (index, sampled) in rows.iter().zip(&self.result.rows) {
                let mut row = vec![f32::NAN; self.fixture.spec.vocab];
                for (token, log_prob) in sampled.top.of(&self.result.top) {
                    row[*token as usize] = *log_prob;
                }
                running[*index].rows.push(row);
            }
        }
        running.into_iter().map(|sequence| sequence.rows).collect()
    }
}

/// Adds the next `count` tokens of a sequence to a batch and asks for the distribution after each.
fn append(batch: &mut Batch, sequence: &mut Running<'_>, count: usize) {
    if count == 0 {
        return;
    }
    let (first, end) = (sequence.computed, sequence.computed + count);
    let query = Span { start: batch.tokens.len() as u32, len: count as u32 };
    let blocks = Span { start: batch.block_tables.len() as u32, len: sequence.blocks.len() as u32 };
    for position in first..end {
        batch.samples.push(score(batch.tokens.len()));
        batch.tokens.push(sequence.prompt[position]);
        batch.positions.push(position as u32);
        batch.slots.push(sequence.blocks[position / BLOCK].0 * BLOCK as u32 + (position % BLOCK) as u32);
    }
    batch.block_tables.extend(&sequence.blocks);
    batch.seqs.push(SeqSpan { query, kv_len: end as u32, blocks });
    sequence.computed = end;
}

/// Asks for the whole distribution of a row.
pub(crate) fn score(row: usize) -> SampleSpec {
    SampleSpec { kind: SampleKind::Score(0), logprobs: Some(u32::MAX), ..SampleSpec::greedy(row as u32) }
}

/// How far two sets of distributions are apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Distance {
    /// Largest |Δ log p|.
    pub(crate) max: f32,
    /// Mean |Δ log p|.
    pub(crate) mean: f32,
    /// Share of rows whose most likely token is the same, or so close a second that `max` explains it.
    pub(crate) argmax: f32,
}

pub(crate) fn distance(expected: &Distributions, found: &Distributions) -> Distance {
    let rows: Vec<(&Vec<f32>, &Vec<f32>)> = expected.iter().flatten().zip(found.iter().flatten()).collect();
    assert_eq!(rows.len(), expected.iter().flatten().count());
    assert_eq!(rows.len(), found.iter().flatten().count());
    let deltas: Vec<f32> =
        rows.iter().flat_map(|(e, f)| e.iter().zip(f.iter()).map(|(e, f)| (e - f).abs())).collect();
    // Not f32::max: a NaN must not disappear.
    let max = deltas.iter().copied().fold(0.0, |m: f32, d| if d <= m { m } else { d });
    let mean = deltas.iter().sum::<f32>() / deltas.len() as f32;
    let best = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let same = rows.iter().filter(|(e, f)| e[best(e)] - e[best(f)] <= 2.0 * max).count();
    Distance { max, mean, argmax: same as f32 / rows.len() as f32 }
}
