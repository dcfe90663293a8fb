//! Files of strangers: PDFs, batches, and what comes with a model.

use millrace_api::openai::batches::BatchLine;
use millrace_model::spec;
use millrace_pdf::Limits as PdfLimits;
use millrace_weights::{HfConfig, safetensors::Header};

use crate::server;

/// Bounds that a small file can reach.
const PDF: PdfLimits = PdfLimits { max_pages: 20, max_chars: 4000, max_unpacked: 1 << 20 };

pub(crate) fn pdf(input: &[u8]) -> bool {
    match millrace_pdf::text(input, &PDF) {
        Ok(text) => {
            assert!(text.chars().count() <= PDF.max_chars, "{} characters", text.chars().count());
            // Nothing that could be taken for control of a terminal or a template.
            assert!(!text.trim().is_empty(), "a text without a text");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    true
}

/// A file of a batch's requests, line by line.
pub(crate) fn batch_lines(input: &[u8]) -> bool {
    const ENDPOINT: &str = "/v1/chat/completions";
    let limits = server::limits();
    for (number, line) in (1..).zip(input.split(|byte| *byte == b'\n')) {
        match BatchLine::read(number, line, ENDPOINT, &limits) {
            Ok(Some(read)) => {
                let length = read.custom_id.chars().count();
                assert!((1..=512).contains(&length), "a name of {length} characters");
                assert!(read.body.is_object());
            }
            Ok(None) => assert!(line.trim_ascii().is_empty()),
            Err(error) => {
                assert_eq!(error.line, Some(number));
                assert!(!error.message.is_empty() && error.message.len() < 4000, "{}", error.message);
            }
        }
    }
    true
}

/// A weights file: its tensors lie within it, one behind the other, as long as their shapes say.
pub(crate) fn safetensors(input: &[u8]) -> bool {
    match Header::parse("a.safetensors", input) {
        Ok(header) => {
            let mut end = None;
            for entry in &header.entries {
                let elements: u64 = entry.shape.iter().map(|dim| *dim as u64).product();
                assert_eq!(entry.dtype.bytes(elements), Some(entry.range.len() as u64), "{entry:?}");
                assert!(end.is_none_or(|end| end == entry.range.start), "{entry:?} after {end:?}");
                end = Some(entry.range.end);
            }
            assert!(end.is_none_or(|end| end == input.len()), "{end:?} of {}", input.len());
        }
        Err(error) => assert!(error.to_string().len() < 4000, "{error}"),
    }
    true
}

/// A `config.json`: whatever it says, a model's size can be told, or it is refused.
pub(crate) fn config(input: &[u8]) -> bool {
    let Ok(config) = HfConfig::parse("config.json", input) else { return true };
    match spec::from_config(&config) {
        Ok(spec) => assert!(spec.param_count() > 0),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    true
}
