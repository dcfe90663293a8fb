//! Fields that mean something to clients and that Millrace can't honour yet: refused, never silently ignored.

use std::collections::HashSet;

use serde_json::Value;

use crate::{ApiError, error::shorten};

/// A field and the values of it that change nothing.
struct Field {
    name: &'static str,
    harmless: fn(&Value) -> bool,
    /// What to do instead.
    advice: &'static str,
}

const fn never(name: &'static str, advice: &'static str) -> Field {
    Field { name, harmless: |_| false, advice }
}

const REMOVE: &str = "Leave it out.";
const USE_TOOLS: &str = "Use `tools` instead.";

/// `null` is harmless for all of them.
const FIELDS: &[Field] = &[
    never("functions", USE_TOOLS),
    never("function_call", USE_TOOLS),
    never("prompt_embeds", "Send `prompt` as text or token ids."),
    never("audio", "This server answers in text only."),
    Field { name: "modalities", harmless: is_text_only, advice: "This server answers in text only." },
    never("prediction", REMOVE),
    never("web_search_options", REMOVE),
    never("moderation", "There is no moderation on this server. Leave it out."),
    never("logits_processors", REMOVE),
    never("kv_transfer_params", REMOVE),
    never("truncate_prompt_tokens", "Shorten the prompt before sending it."),
    never("repetition_detection", REMOVE),
    never("mm_processor_kwargs", "This model reads text only."),
    never("chat_template", "The server uses the model's own template, or the one that it was started with."),
    Field { name: "use_beam_search", harmless: is_false, advice: REMOVE },
    Field {
        name: "store",
        harmless: is_false,
        advice: "Only answers of /v1/chat/completions itself are stored.",
    },
    Field { name: "service_tier", harmless: is_plain_tier, advice: "Only `auto` and `default` are known." },
    Field {
        name: "prompt_cache_retention",
        harmless: |v| v == "in_memory" || v == "in-memory",
        advice: REMOVE,
    },
    Field {
        name: "prompt_cache_options",
        harmless: |v| v.get("mode").is_none_or(|mode| mode == "implicit"),
        advice: "Prefixes are cached by themselves.",
    },
    Field { name: "verbosity", harmless: |v| v == "medium", advice: REMOVE },
];

/// Refuses the first field whose value would have to be ignored; `except` names one that the endpoint honours.
pub(super) fn refuse_unsupported(body: &Value, except: Option<&str>) -> Result<(), ApiError> {
    for field in FIELDS.iter().filter(|field| Some(field.name) != except) {
        let Some(value) = body.get(field.name).filter(|v| !v.is_null() && !(field.harmless)(v)) else {
            continue;
        };
        let Field { name, advice, .. } = field;
        let value = shorten(&value.to_string(), 80);
        let message = format!("`{name}` with the value {value} is not supported by this server. {advice}");
        return Err(ApiError::invalid(*name, message));
    }
    Ok(())
}

/// Fields of OpenAI's API that are notes for its operator and ask for nothing.
const NOTES: [&str; 4] = ["user", "metadata", "prompt_cache_key", "safety_identifier"];

/// Most fields that are told.
const TOLD: usize = 10;

/// The fields that an endpoint reads.
pub(super) type Known = HashSet<&'static str>;

/// Fields that mean nothing to an endpoint: those of another server's API, and misspelt ones.
pub(super) fn ignored(body: &Value, known: &Known) -> Vec<String> {
    let told = |name: &&String| {
        let name = name.as_str();
        !known.contains(name) && !NOTES.contains(&name) && FIELDS.iter().all(|field| field.name != name)
    };
    let names = body.as_object().into_iter().flatten().map(|(name, _)| name);
    names.filter(told).take(TOLD).map(|name| shorten(name, 40)).collect()
}

fn is_false(value: &Value) -> bool {
    value == false
}

fn is_text_only(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(|item| item == "text"))
}

fn is_plain_tier(value: &Value) -> bool {
    value == "auto" || value == "default"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn harmless_values_pass() {
        let body = json!({
            "modalities": ["text"], "store": false,
            "service_tier": "auto", "audio": null, "use_beam_search": false, "user": "me",
            "prompt_cache_options": {"mode": "implicit"}, "metadata": {"a": "b"},
            "never_heard_of": 3,
        });
        refuse_unsupported(&body, None).unwrap();
        refuse_unsupported(&json!({"store": true}), Some("store")).unwrap();
    }

    #[test]
    fn what_means_nothing_is_told() {
        let body = json!({"model": "m", "temprature": 1, "user": "u", "store": null, "x".repeat(99): 1});
        let ignored = ignored(&body, &Known::from(["model", "temperature"]));
        assert_eq!(ignored[0], "temprature");
        assert!(ignored.len() == 2 && ignored[1].starts_with("xxx") && ignored[1].chars().count() <= 41);
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_name() {
        for (name, value) in [
            ("functions", json!([])),
            ("modalities", json!(["text", "audio"])),
            ("store", json!(true)),
            ("prompt_cache_retention", json!("24h")),
            ("prompt_cache_options", json!({"mode": "explicit"})),
            ("moderation", json!({"model": "x"})),
            ("service_tier", json!("flex")),
            ("chat_template", json!("{{ x }}")),
        ] {
            let error = refuse_unsupported(&json!({ name: value }), None).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name), "{error}");
        }
    }
}
