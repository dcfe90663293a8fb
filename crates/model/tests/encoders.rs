//! Models that read whole texts against the rows that transformers computes in float32, on both backends.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::{Path, PathBuf};

use millrace_backend::recording::Recorder;
use millrace_backend::reference::ReferenceBackend;
use millrace_backend::{Backend, Batch, StepResult, WeightFormat};
use millrace_backend_cpu::{CpuBackend, Level};
use millrace_model::spec::encoder::{self, PoolingSpec, Sentence};
use millrace_model::{Encoder, LoadOptions, WithParts};
use millrace_weights::{Checkpoint, HfConfig, ModelFiles};

/// Float32 rounding in another order; rows have values up to about 5.
const MAX: f32 = 1e-4;

/// A tiny model and what transformers computes for it.
struct Fixture {
    name: String,
    spec: PoolingSpec,
    folder: PathBuf,
    /// Tokens, and where the second text of a pair begins.
    texts: Vec<(Vec<u32>, usize)>,
    golden: Vec<Vec<f32>>,
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() >= 10);
    let both = |folder: &PathBuf| [load(folder, "config.json"), load(folder, "config.legacy.json")];
    folders.iter().flat_map(both).collect()
}

fn load(folder: &Path, config: &str) -> Fixture {
    let json = std::fs::read(folder.join(config)).unwrap();
    let sentence = Sentence::read(&ModelFiles::Folder(folder.to_owned())).unwrap();
    let described = encoder::describe(&HfConfig::parse(config, &json).unwrap(), sentence, None, false);
    let spec = described.unwrap().unwrap();
    let golden = Checkpoint::open_file(&folder.join("golden.safetensors"), None).unwrap();
    let ids = |name: String| -> Vec<u32> {
        let tensor = golden.tensor(&name).unwrap();
        tensor.bytes.as_chunks::<8>().0.iter().map(|id| i64::from_le_bytes(*id) as u32).collect()
    };
    let count = (0..).take_while(|i| golden.contains(&format!("ids_{i}"))).count();
    Fixture {
        name: format!("{}/{config}", folder.file_name().unwrap().display()),
        spec,
        folder: folder.to_owned(),
        texts: (0..count)
            .map(|i| (ids(format!("ids_{i}")), ids(format!("second_{i}"))[0] as usize))
            .collect(),
        golden: (0..count)
            .map(|i| golden.tensor(&format!("result_{i}")).unwrap().to_f32().unwrap())
            .collect(),
    }
}

/// A fixture in a backend.
struct Session<B> {
    backend: B,
    encoder: Encoder,
}

impl<B: Backend> Session<B> {
    /// Few rows for the head, so that it has to work in slices.
    fn new(mut backend: B, fixture: &Fixture, format: WeightFormat) -> Self {
        let options = LoadOptions { format, max_tokens: 300, max_logit_rows: 3 };
        let open = |folder: &Path| Checkpoint::open_file(&folder.join("model.safetensors"), None).unwrap();
        let parts = fixture.folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        let parts = parts.filter(|path| path.join("model.safetensors").exists());
        let parts = parts.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), open(&path)));
        let source = WithParts::new(open(&fixture.folder), parts.collect());
        let loaded = Encoder::load(&fixture.spec, &source, &mut backend, options, &mut |_| ());
        let (encoder, report) = loaded.unwrap();
        assert_eq!(report.warnings(), Vec::<String>::new(), "{}", fixture.name);
        let planned = fixture.spec.weight_bytes(format, millrace_backend::Encoding::F32) as f64;
        let ratio = planned / report.weight_bytes as f64;
        assert!((0.99..1.01).contains(&ratio), "{}: {planned} {}", fixture.name, report.weight_bytes);
        assert_eq!(encoder.dim(), fixture.spec.dim());
        Self { backend, encoder }
    }

    /// The rows of these texts, computed together.
    fn run(&mut self, texts: &[(Vec<u32>, usize)]) -> Vec<Vec<f32>> {
        let mut batch = Batch::default();
        for (tokens, second) in texts {
            self.encoder.body().push(&mut batch, tokens, Some(*second));
        }
        let ticket = self.encoder.forward(&mut self.backend, &batch);
        let mut result = StepResult::default();
        self.backend.wait(ticket, &mut result).unwrap();
        result.collected.chunks_exact(self.encoder.dim()).map(<[f32]>::to_vec).collect()
    }
}

fn distance(expected: &[Vec<f32>], found: &[Vec<f32>]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let rows = expected.iter().zip(found);
    let deltas = rows.flat_map(|(e, f)| {
        assert_eq!(e.len(), f.len());
        e.iter().zip(f).map(|(e, f)| (e - f).abs())
    });
    // Not f32::max: a NaN must not disappear.
    deltas.fold(0.0, |m: f32, d| if d <= m { m } else { d })
}

/// Alone, together, and together in another order: the same bits.
fn same_in_every_form<B: Backend>(session: &mut Session<B>, fixture: &Fixture, found: &[Vec<f32>]) {
    for (text, row) in fixture.texts.iter().zip(found) {
        assert!(session.run(std::slice::from_ref(text)) == [row.clone()], "{}", fixture.name);
    }
    let backwards: Vec<_> = fixture.texts.iter().rev().cloned().collect();
    let rows = session.run(&backwards);
    assert!(rows.iter().rev().eq(found), "{}: the order changes results", fixture.name);
}

#[test]
fn reference_gives_the_rows_of_transformers() {
    for fixture in fixtures() {
        let mut session = Session::new(ReferenceBackend::new(), &fixture, WeightFormat::Native);
        let found = session.run(&fixture.texts);
        let distance = distance(&fixture.golden, &found);
        println!("{}: {distance:e}", fixture.name);
        assert!(distance <= MAX, "{}: {distance}", fixture.name);
        same_in_every_form(&mut session, &fixture, &found);
        let mut late = Session::new(Recorder::new(ReferenceBackend::new()), &fixture, WeightFormat::Native);
        assert!(late.run(&fixture.texts) == found, "{}: late execution changes results", fixture.name);
    }
}

#[test]
fn every_level_gives_the_rows_of_transformers() {
    for level in Level::supported() {
        for fixture in fixtures() {
            let backend = CpuBackend::with_level(level, 2).unwrap();
            let mut session = Session::new(backend, &fixture, WeightFormat::Native);
            let found = session.run(&fixture.texts);
            let distance = distance(&fixture.golden, &found);
            println!("{level:?}, {}: {distance:e}", fixture.name);
            assert!(distance <= MAX, "{level:?}, {}: {distance}", fixture.name);
            same_in_every_form(&mut session, &fixture, &found);
        }
    }
}

/// Against the reference with the same quantized weights: what is left is the rounding of activations to 8 bits.
#[test]
fn integer_weights_stay_close() {
    let format = WeightFormat::Quantize { bits: 8, group: 32 };
    for fixture in fixtures().iter().step_by(2) {
        let expected = Session::new(ReferenceBackend::new(), fixture, format).run(&fixture.texts);
        let exact = distance(&fixture.golden, &expected);
        assert!(exact > MAX, "{}: the weights were not quantized", fixture.name);
        for level in Level::supported() {
            let mut session = Session::new(CpuBackend::with_level(level, 2).unwrap(), fixture, format);
            let found = session.run(&fixture.texts);
            let distance = distance(&expected, &found);
            println!("{level:?}, {} at 8 bits: {distance}, exact {exact}", fixture.name);
            assert!(distance <= 0.5, "{level:?}, {}: {distance}", fixture.name);
            same_in_every_form(&mut session, fixture, &found);
        }
    }
}
