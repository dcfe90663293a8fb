//! `cargo xtask quantize-demo`.

use std::path::Path;

use anyhow::Result;
use millrace_weights::quantize::quantize_checkpoint;

/// Bits and group of the embedded models: half of bf16's size, and answers that stay the same.
const FORMAT: (u32, usize) = (8, 64);

/// Writes a quantized copy of the model in `source` to `target`.
pub(crate) fn run(source: &Path, target: &Path) -> Result<()> {
    let (bits, group) = FORMAT;
    let summary = quantize_checkpoint(source, target, bits, group)?;
    println!(
        "{}: {} matrices as {bits}-bit integers in groups of {group}, {} tensors as they were",
        target.display(),
        summary.quantized,
        summary.copied
    );
    Ok(())
}
