//! Models as Ollama's clients see them: `/api/tags`, `/api/ps`, `/api/show`.

use serde::Serialize;
use serde_json::{Map, Value, json};

pub(super) use crate::anthropic::models::rfc3339;

/// What Ollama adds to a name without a tag.
const TAG: &str = ":latest";

/// What there is to say of a model.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// The name that requests use.
    pub name: String,
    /// Where its weights come from.
    pub root: String,
    /// Unix time in seconds since which it is offered.
    pub since: u64,
    /// Bytes of its weights.
    pub size: u64,
    /// The family, such as `qwen3`.
    pub family: String,
    /// Number of weights.
    pub parameters: u64,
    /// How the weights are kept, such as `Q8`.
    pub quantization: String,
    /// Prompt and output together, in tokens.
    pub context: Option<usize>,
    /// Width of the hidden state, layers, vocabulary.
    pub shape: [usize; 3],
    /// As Ollama names them: `completion`, `tools`, `thinking`.
    pub capabilities: Vec<&'static str>,
    /// The chat template, if it is at hand.
    pub template: String,
}

/// A model of `/api/tags` or `/api/ps`.
#[derive(Debug, Serialize)]
pub struct Tag {
    name: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_at: Option<String>,
    size: u64,
    digest: String,
    details: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_vram: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
}

impl Described {
    /// Among all models. `digest` stands for the model's content.
    pub fn tag(&self, digest: String) -> Tag {
        let name = tagged(&self.name);
        Tag {
            model: name.clone(),
            name,
            modified_at: Some(rfc3339(self.since)),
            size: self.size,
            digest,
            details: self.details(),
            expires_at: None,
            size_vram: None,
            context_length: None,
        }
    }

    /// Among those that are in memory, of which it takes `size` bytes until `expires` (seconds since 1970).
    pub fn running(&self, digest: String, size: u64, expires: u64) -> Tag {
        Tag {
            modified_at: None,
            size,
            expires_at: Some(rfc3339(expires)),
            size_vram: Some(0),
            context_length: self.context,
            ..self.tag(digest)
        }
    }

    /// All there is to say.
    pub fn show(&self) -> Value {
        let [hidden, layers, vocab] = self.shape;
        let mut info = Map::new();
        info.insert("general.architecture".into(), self.family.as_str().into());
        info.insert("general.basename".into(), self.name.as_str().into());
        info.insert("general.parameter_count".into(), self.parameters.into());
        let family = &self.family;
        let counts = [
            ("context_length", self.context.unwrap_or_default()),
            ("embedding_length", hidden),
            ("block_count", layers),
            ("vocab_size", vocab),
        ];
        // A count of nothing is one that isn't known.
        let known = counts.into_iter().filter(|(_, count)| *count > 0);
        info.extend(known.map(|(name, count)| (format!("{family}.{name}"), count.into())));
        json!({
            "modelfile": format!("FROM {}\n", self.root),
            "parameters": "",
            "template": self.template,
            "details": self.details(),
            "model_info": info,
            "capabilities": self.capabilities,
            "modified_at": rfc3339(self.since),
        })
    }

    fn details(&self) -> Value {
        json!({
            "parent_model": "",
            "format": "safetensors",
            "family": self.family,
            "families": [self.family],
            "parameter_size": count(self.parameters),
            "quantization_level": self.quantization,
        })
    }
}

/// A name as Ollama shows it: with a tag.
fn tagged(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}{TAG}") }
}

/// The name of a model among those that are `known`: as a client wrote it, without Ollama's tag, or with it.
pub fn resolve(name: &str, known: impl Fn(&str) -> bool) -> String {
    let bare = name.strip_suffix(TAG).unwrap_or(name);
    let tagged = tagged(name);
    let found = [name, bare, &tagged].into_iter().find(|name| known(name));
    found.unwrap_or(name).to_owned()
}

/// A number of weights for people: `36.1M`, `8.0B`.
fn count(parameters: u64) -> String {
    let millions = parameters as f64 / 1e6;
    if millions >= 1000.0 { format!("{:.1}B", millions / 1000.0) } else { format!("{millions:.1}M") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_the_tag() {
        let known = |name: &str| ["a", "b:latest", "org/c", "d:7b"].contains(&name);
        for (asked, found) in [
            ("a", "a"),
            ("a:latest", "a"),
            ("b", "b:latest"),
            ("b:latest", "b:latest"),
            ("org/c:latest", "org/c"),
            ("d:7b", "d:7b"),
            ("d", "d"),
            ("a:7b", "a:7b"),
        ] {
            assert_eq!(resolve(asked, known), found);
        }
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!((count(36_100_000), count(8_030_000_000)), ("36.1M".into(), "8.0B".into()));
    }
}
