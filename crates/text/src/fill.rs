//! Filling in the middle: how code models are told what stands before and after a gap.

use millrace_types::TokenId;

use crate::{TextError, Tokenizer};

/// The tokens around the two texts, as a family of models was trained with them.
struct Format {
    /// Before what stands before the gap.
    prefix: &'static str,
    /// Before what stands after it.
    suffix: &'static str,
    /// At the end of the prompt; not all have one.
    middle: Option<&'static str>,
    /// Whether what stands after the gap comes first.
    suffix_first: bool,
    /// Tokens that end the text, besides the model's own end.
    ends: &'static [&'static str],
}

/// The first one whose tokens a tokenizer has counts.
const FORMATS: &[Format] = &[
    // Qwen2.5-Coder, CodeGemma, Granite 4.
    Format {
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        middle: Some("<|fim_middle|>"),
        suffix_first: false,
        ends: &["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>", "<|endoftext|>"],
    },
    // StarCoder, StarCoder2, Granite Code, Stable Code.
    Format {
        prefix: "<fim_prefix>",
        suffix: "<fim_suffix>",
        middle: Some("<fim_middle>"),
        suffix_first: false,
        ends: &["<fim_pad>", "<file_sep>", "<repo_name>", "<|endoftext|>"],
    },
    // SantaCoder.
    Format {
        prefix: "<fim-prefix>",
        suffix: "<fim-suffix>",
        middle: Some("<fim-middle>"),
        suffix_first: false,
        ends: &["<fim-pad>", "<|endoftext|>"],
    },
    // DeepSeek-Coder, DeepSeek-V2 and V3.
    Format {
        prefix: "<｜fim▁begin｜>",
        suffix: "<｜fim▁hole｜>",
        middle: Some("<｜fim▁end｜>"),
        suffix_first: false,
        ends: &[],
    },
    // Code Llama.
    Format {
        prefix: "▁<PRE>",
        suffix: "▁<SUF>",
        middle: Some("▁<MID>"),
        suffix_first: false,
        ends: &["▁<EOT>"],
    },
    // Codestral.
    Format { prefix: "[PREFIX]", suffix: "[SUFFIX]", middle: None, suffix_first: true, ends: &[] },
    // Seed-Coder.
    Format {
        prefix: "<[fim-prefix]>",
        suffix: "<[fim-suffix]>",
        middle: Some("<[fim-middle]>"),
        suffix_first: true,
        ends: &[],
    },
    // CodeGeeX4, GLM-4.5.
    Format {
        prefix: "<|code_prefix|>",
        suffix: "<|code_suffix|>",
        middle: Some("<|code_middle|>"),
        suffix_first: false,
        ends: &[],
    },
];

/// A prompt that asks for what is in the gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The prompt.
    pub tokens: Vec<TokenId>,
    /// Tokens that end the text, besides the model's own end.
    pub ends: Vec<TokenId>,
}

impl Tokenizer {
    /// The prompt for what stands between two texts; `None` if the tokenizer has no tokens for that. `add_special` as in
    /// [`encode`](Self::encode).
    ///
    /// # Errors
    /// As in [`encode`](Self::encode).
    pub fn encode_gap(&self, before: &str, after: &str, add_special: bool) -> Result<Option<Gap>, TextError> {
        let Some((format, [prefix, suffix], middle)) = FORMATS.iter().find_map(|format| self.known(format))
        else {
            return Ok(None);
        };
        let mut tokens = if add_special { self.head()? } else { Vec::new() };
        let mut parts = [(prefix, before), (suffix, after)];
        if format.suffix_first {
            parts.reverse();
        }
        for (mark, text) in parts {
            tokens.push(mark);
            tokens.extend(self.encode(text, false)?);
        }
        tokens.extend(middle);
        let ends = format.ends.iter().filter_map(|end| self.token_to_id(end)).collect();
        Ok(Some(Gap { tokens, ends }))
    }

    /// What the model wants at the head of a text; what it wants at the end of one has no place before a gap.
    fn head(&self) -> Result<Vec<TokenId>, TextError> {
        const PROBE: &str = "a";
        let (mut framed, plain) = (self.encode(PROBE, true)?, self.encode(PROBE, false)?);
        let at = (0..framed.len()).find(|at| framed[*at..].starts_with(&plain)).unwrap_or(0);
        framed.truncate(at);
        Ok(framed)
    }

    /// A format with its tokens, if all of them are there.
    fn known(&self, format: &'static Format) -> Option<(&'static Format, [TokenId; 2], Option<TokenId>)> {
        let marks = [self.token_to_id(format.prefix)?, self.token_to_id(format.suffix)?];
        let middle = match format.middle {
            Some(middle) => Some(self.token_to_id(middle)?),
            None => None,
        };
        Some((format, marks, middle))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::TextFiles;

    /// A tokenizer of single letters and these tokens, from 100 on.
    fn tokenizer(special: &[&str]) -> Tokenizer {
        let vocab: Map<String, Value> =
            ('a'..='z').zip(0..).map(|(c, id)| (c.to_string(), json!(id))).collect();
        let added = special.iter().zip(100..).map(|(content, id)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        });
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": vocab, "merges": []},
        });
        let config = json!({"bos_token": "<s>", "add_bos_token": true}).to_string();
        let config = special.contains(&"<s>").then_some(config.as_bytes());
        let files = TextFiles::from_bytes(json.to_string().into_bytes(), config, None).unwrap();
        Tokenizer::from_files(&files).unwrap()
    }

    #[test]
    fn each_family_has_its_order() {
        let gap = |special: &[&str]| tokenizer(special).encode_gap("ab", "c", true).unwrap();
        let qwen = gap(&["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"]).unwrap();
        let expected: Vec<TokenId> = vec![100, 0, 1, 101, 2, 102].into_iter().map(from).collect();
        assert_eq!((qwen.tokens, qwen.ends), (expected, vec![from(103)]));
        let codestral = gap(&["[PREFIX]", "[SUFFIX]"]).unwrap();
        assert_eq!(codestral.tokens, [101, 2, 100, 0, 1].map(from));
        let llama = gap(&["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>", "<s>"]).unwrap();
        assert_eq!(llama.tokens, [104, 100, 0, 1, 101, 2, 102].map(from));
        assert_eq!(llama.ends, [from(103)]);
        assert_eq!(gap(&["<|fim_prefix|>", "<|fim_suffix|>"]), None, "the middle is missing");
        assert_eq!(gap(&[]), None);
    }

    /// Ids as the tokenizer gives them out: added tokens follow on the vocabulary.
    fn from(id: u32) -> TokenId {
        if id < 100 { id } else { id - 100 + 26 }
    }
}
