//! Models as data, and the one decoder that executes them.
//!
//! [`spec::from_config`] turns a `config.json` into a [`ModelSpec`]: layers, norms, positions, weight names.
//! [`Decoder::load`] carries the weights of a [`WeightSource`] (a [`Checkpoint`](millrace_weights::Checkpoint), or
//! [`DummyWeights`] made from nothing) into a backend. [`Decoder::forward`] enqueues one step over a ragged batch.
//!
//! ```no_run
//! use millrace_backend::reference::ReferenceBackend;
//! use millrace_backend::{Backend, Batch, KvDtype, StepResult, WeightFormat};
//! use millrace_model::{Decoder, LoadOptions, spec};
//! use millrace_weights::ModelFiles;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let files = ModelFiles::Folder("models/demo".into());
//! let spec = spec::from_config(&files.config()?)?;
//! let mut backend = ReferenceBackend::new();
//! let options = LoadOptions { format: WeightFormat::Native, max_tokens: 512, max_logit_rows: 64 };
//! let (decoder, report) =
//!     Decoder::load(&spec, &files.checkpoint()?, &mut backend, options, &mut |_progress| ())?;
//! for warning in report.warnings() {
//!     eprintln!("{warning}");
//! }
//! backend.alloc_kv(&spec.kv_spec(1024, 16, KvDtype::Bf16))?;
//! let batch = Batch::default(); // the scheduler's plan for one step
//! let ticket = decoder.forward(&mut backend, &batch);
//! let mut result = StepResult::default();
//! backend.wait(ticket, &mut result)?;
//! # Ok(())
//! # }
//! ```
//!
//! A new family is one file in `spec/`, one line in its registry and one golden test.
//!
//! Models that read whole texts (embeddings, scores) have an [`Encoder`] in the decoder's place; see
//! [`spec::encoder`].

mod contrast;
mod decoder;
mod dummy;
mod encoder;
mod error;
mod layer;
mod load;
mod source;
pub mod spec;
mod stacked;

pub use decoder::Decoder;
pub use dummy::DummyWeights;
pub use encoder::{Encoder, WithParts};
pub use error::ModelError;
pub use load::{LoadOptions, LoadReport, Progress};
pub use source::WeightSource;
pub use spec::ModelSpec;
