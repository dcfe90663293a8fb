//! `options`.

use serde_json::{Map, Value};

use crate::{ApiError, GenerationOptions, Int, Limits, StringOrList, error::shorten, read};

/// What belongs to how Ollama runs a model. Here the server's own settings say it, so they change nothing.
const WITHOUT_EFFECT: [&str; 14] = [
    "num_ctx",
    "num_keep",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "numa",
    "low_vram",
    "f16_kv",
    "vocab_only",
    "use_mmap",
    "use_mlock",
    "repeat_last_n",
    "penalize_newline",
];

/// Samplers that this server doesn't have, and the value that turns each off.
const OFF: [(&str, f64); 4] =
    [("mirostat", 0.0), ("mirostat_tau", f64::NAN), ("mirostat_eta", f64::NAN), ("tfs_z", 1.0)];

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Known {
    num_predict: Option<Int>,
    temperature: Option<f64>,
    top_k: Option<Int>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    seed: Option<Int>,
    stop: Option<StringOrList>,
    repeat_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
}

/// Names of [`Known`].
const KNOWN: [&str; 11] = [
    "num_predict",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "seed",
    "stop",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
];

/// Reads the options of a body, checked as far as that needs no model.
///
/// # Errors
/// A 400 that names the option.
pub(super) fn read_options(body: &Value, limits: &Limits) -> Result<GenerationOptions, ApiError> {
    let nothing = Map::new();
    let given = match body.get("options") {
        None | Some(Value::Null) => &nothing,
        Some(Value::Object(options)) => options,
        Some(_) => return Err(ApiError::invalid("options", "`options` must be an object.")),
    };
    for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        check(name, value)?;
    }
    let known: Known = read(&Value::Object(given.clone()))?;
    let mut options = GenerationOptions {
        temperature: known.temperature,
        top_k: known.top_k.map(|k| k.0),
        top_p: known.top_p,
        min_p: known.min_p,
        typical_p: known.typical_p,
        seed: known.seed.map(|seed| seed.0),
        stop: known.stop.unwrap_or_default().0,
        repetition_penalty: known.repeat_penalty,
        presence_penalty: known.presence_penalty,
        frequency_penalty: known.frequency_penalty,
        // 0 and below are "no limit" (-1) and "as far as the context goes" (-2): the same thing here.
        max_tokens: known.num_predict.map(|n| n.0).filter(|n| *n > 0),
        max_tokens_name: "num_predict",
        ..GenerationOptions::default()
    };
    options.logprobs = logprobs(body)?;
    options.validate(limits)?;
    Ok(options)
}

fn check(name: &str, value: &Value) -> Result<(), ApiError> {
    if KNOWN.contains(&name) || WITHOUT_EFFECT.contains(&name) {
        return Ok(());
    }
    let path = format!("options.{}", shorten(name, 60));
    match OFF.iter().find(|(own, _)| *own == name) {
        // The parameters of a sampler that is off say nothing.
        Some((_, off)) if off.is_nan() || value.as_f64() == Some(*off) => Ok(()),
        Some((_, off)) => Err(ApiError::invalid(
            &path,
            format!("`{path}` isn't available here; leave it out or set it to {off}."),
        )),
        None => Err(ApiError::invalid(&path, format!("`{path}` is no option that this server knows."))),
    }
}

fn logprobs(body: &Value) -> Result<Option<i64>, ApiError> {
    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct Fields {
        logprobs: Option<bool>,
        top_logprobs: Option<Int>,
    }
    let fields: Fields = read(body)?;
    Ok((fields.logprobs == Some(true)).then(|| fields.top_logprobs.map_or(0, |top| top.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(options: &Value) -> Result<GenerationOptions, ApiError> {
        read_options(&json!({"options": options}), &Limits::default())
    }

    #[test]
    fn options_get_their_neutral_names() {
        let got = options(&json!({
            "num_predict": 5, "temperature": 0, "top_k": 3, "seed": 7, "stop": "x", "repeat_penalty": 1.1, "num_ctx": 4096,
            "mirostat": 0, "mirostat_tau": 5.0, "min_p": null,
        }))
        .unwrap();
        assert_eq!(
            (got.max_tokens, got.temperature, got.top_k, got.seed),
            (Some(5), Some(0.0), Some(3), Some(7))
        );
        assert_eq!((got.stop, got.repetition_penalty), (vec!["x".to_owned()], Some(1.1)));
        for endless in [-1, -2, 0] {
            assert_eq!(options(&json!({"num_predict": endless})).unwrap().max_tokens, None);
        }
        assert!(read_options(&json!({"options": null}), &Limits::default()).is_ok());
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        for (given, name) in [
            (json!({"mirostat": 2}), "options.mirostat"),
            (json!({"tfs_z": 0.5}), "options.tfs_z"),
            (json!({"colour": 1}), "options.colour"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        ] {
            assert_eq!(options(&given).unwrap_err().param.as_deref(), Some(name), "{given}");
        }
        assert!(read_options(&json!({"options": 3}), &Limits::default()).is_err());
    }
}
