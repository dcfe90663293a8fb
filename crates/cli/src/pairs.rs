//! How a query and a document become one text for models that give scores to texts.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use millrace_model::spec::encoder::{HeadStep, PoolingSpec};
use millrace_text::{ChatTemplate, TextFiles};

/// The prompt of Qwen3-Reranker, as its model card has it.
const QWEN3: &str = r#"<|im_start|>system
Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>
<|im_start|>user
{% set told = messages | selectattr("role", "equalto", "system") | map(attribute="content") | first %}
<Instruct>: {{ told or "Given a web search query, retrieve relevant passages that answer the query" }}
<Query>: {{ messages | selectattr("role", "equalto", "query") | map(attribute="content") | first }}
<Document>: {{ messages | selectattr("role", "equalto", "document") | map(attribute="content") | first }}<|im_end|>
<|im_start|>assistant
{{ "<think>\n\n</think>\n\n" }}"#;

/// The template of a model: the user's; the model's own, if it knows queries and documents; or that of the family, for
/// models that judge. `None`: pairs are read as pairs.
pub(crate) fn template(
    spec: &PoolingSpec,
    files: &TextFiles,
    argument: Option<&str>,
) -> Result<Option<Arc<ChatTemplate>>> {
    if let Some(argument) = argument {
        return Ok(Some(Arc::new(ChatTemplate::from_argument(argument, files)?)));
    }
    if let Some(own) = ChatTemplate::from_files(files)?.filter(|own| knows_pairs(own.source())) {
        return Ok(Some(Arc::new(own)));
    }
    if !spec.head.iter().any(|step| matches!(step, HeadStep::Contrast { .. })) {
        return Ok(None);
    }
    match spec.body.family {
        "qwen3" => {
            Ok(Some(Arc::new(ChatTemplate::from_source(QWEN3, files).context("the built-in template")?)))
        }
        family => bail!(
            "nothing says how this {family} model is asked about a document; give it a --chat-template that shows \
             messages of the roles `query` and `document`"
        ),
    }
}

/// Whether a template names both roles.
fn knows_pairs(source: &str) -> bool {
    ["query", "document"]
        .iter()
        .all(|role| source.contains(&format!("'{role}'")) || source.contains(&format!("\"{role}\"")))
}

#[cfg(test)]
mod tests {
    use millrace_text::TemplateInput;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_prompt_of_qwen3_reranker() {
        let files =
            TextFiles::from_bytes(crate::embedded::DEMO.read("tokenizer.json").unwrap().unwrap(), None, None);
        let template = ChatTemplate::from_source(QWEN3, &files.unwrap()).unwrap();
        assert!(knows_pairs(QWEN3));
        let prompt = |messages: &[serde_json::Value]| {
            let input = TemplateInput { messages, add_generation_prompt: true, ..TemplateInput::default() };
            template.render(&input).unwrap()
        };
        let pair = [json!({"role": "query", "content": "Q?"}), json!({"role": "document", "content": "D."})];
        let expected = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the \
             Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n\
             <Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: Q?\n\
             <Document>: D.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
        assert_eq!(prompt(&pair), expected);
        let told = [&[json!({"role": "system", "content": "Find cats"})], &pair[..]].concat();
        assert!(prompt(&told).contains("\n<Instruct>: Find cats\n<Query>"));
    }
}
