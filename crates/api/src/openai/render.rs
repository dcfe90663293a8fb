//! `POST /v1/chat/completions/render` and `POST /v1/completions/render` (vLLM's): what the engine would get.

use millrace_types::{SamplingParams, TokenId};
use serde_json::{Value, json};

use crate::GenerationOptions;

/// One prompt, in the shape of vLLM's requests of tokens.
pub fn rendered(
    id: &str,
    model: &str,
    stream: bool,
    options: &GenerationOptions,
    tokens: &[TokenId],
    sampling: &SamplingParams,
) -> Value {
    json!({
        "request_id": id,
        "model": model,
        "token_ids": tokens,
        "sampling_params": sampling_params(options, sampling),
        "stream": stream,
        "cache_salt": options.cache_salt,
        "priority": options.priority,
        "features": null,
        "kv_transfer_params": null,
    })
}

/// The parameters after all defaults, under vLLM's names.
fn sampling_params(options: &GenerationOptions, sampling: &SamplingParams) -> Value {
    // What widening a float32 adds to it is no part of the parameter.
    let number = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
    let bias = sampling.logit_bias.iter().map(|(id, bias)| (id.to_string(), json!(number(*bias))));
    let bias: serde_json::Map<String, Value> = bias.collect();
    json!({
        "n": options.n,
        "temperature": number(sampling.temperature),
        "top_p": number(sampling.top_p),
        "top_k": sampling.top_k,
        "min_p": number(sampling.min_p),
        "typical_p": number(sampling.typical_p),
        "presence_penalty": number(sampling.presence_penalty),
        "frequency_penalty": number(sampling.frequency_penalty),
        "repetition_penalty": number(sampling.repetition_penalty),
        "seed": sampling.seed,
        "stop": options.stop,
        "stop_token_ids": sampling.stop_token_ids,
        "eos_token_ids": sampling.eos_token_ids,
        "bad_words": options.bad_words,
        "allowed_token_ids": sampling.allowed_token_ids,
        "logit_bias": (!bias.is_empty()).then_some(bias),
        "ignore_eos": options.ignore_eos,
        "min_tokens": sampling.min_tokens,
        "max_tokens": sampling.max_tokens,
        "logprobs": sampling.logprobs,
        "prompt_logprobs": sampling.prompt_logprobs,
        "skip_special_tokens": options.skip_special_tokens,
        "include_stop_str_in_output": options.include_stop_str_in_output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_that_count() {
        let options =
            GenerationOptions { stop: vec!["x".into()], priority: 3, ..GenerationOptions::default() };
        let sampling = SamplingParams { temperature: 0.1, max_tokens: 5, ..SamplingParams::default() };
        let value = rendered("id", "m", true, &options, &[1, 2], &sampling);
        assert_eq!((&value["token_ids"], &value["priority"]), (&json!([1, 2]), &json!(3)));
        let params = &value["sampling_params"];
        assert_eq!((&params["temperature"], &params["max_tokens"]), (&json!(0.1), &json!(5)));
        assert_eq!((&params["stop"], &params["logit_bias"]), (&json!(["x"]), &Value::Null));
    }
}
