//! `POST /tokenize` and `POST /detokenize` (vLLM's).

use millrace_types::TokenId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{TemplateBody, chat_input};
use crate::{ApiError, Input, Int, Limits, Prompt, documents, error::shorten, introspect::field_names, read};

/// What to tokenize.
#[derive(Debug)]
pub struct TokenizeCall {
    /// The model's name; `None` is the server's first.
    pub model: Option<String>,
    /// One text prompt, or a conversation.
    pub input: Input,
    /// Answer with the tokens' texts too.
    pub return_token_strs: bool,
}

/// The answer to `/tokenize`.
#[derive(Debug, Serialize)]
pub struct TokenizeBody {
    /// How many tokens.
    pub count: usize,
    /// The model's context length.
    pub max_model_len: usize,
    /// Their ids.
    pub tokens: Vec<TokenId>,
    /// Their texts, if asked for.
    pub token_strs: Option<Vec<String>>,
}

/// What to turn back into text.
#[derive(Debug)]
pub struct DetokenizeCall {
    /// The model's name; `None` is the server's first.
    pub model: Option<String>,
    /// Token ids; not yet checked against the vocabulary.
    pub tokens: Vec<TokenId>,
}

/// The answer to `/detokenize`.
#[derive(Debug, Serialize)]
pub struct DetokenizeBody {
    /// The text.
    pub prompt: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizeFields {
    model: Option<String>,
    prompt: Option<String>,
    add_special_tokens: Option<bool>,
    return_token_strs: Option<bool>,
}

/// Names of the fields that a `/tokenize` body may have.
pub fn tokenize_fields() -> Vec<&'static str> {
    [field_names::<TokenizeFields>(), field_names::<TemplateBody>()].concat()
}

/// Names of the fields that a `/detokenize` body may have.
pub fn detokenize_fields() -> Vec<&'static str> {
    field_names::<DetokenizeFields>()
}

/// Reads a `/tokenize` body: `prompt`, or `messages` as in chat completions.
///
/// # Errors
/// A 400 that names the field.
pub fn parse_tokenize(body: &Value, limits: &Limits) -> Result<TokenizeCall, ApiError> {
    documents::check_count(body)?;
    let fields: TokenizeFields = read(body)?;
    let input = match (fields.prompt, body.get("messages")) {
        (Some(text), None) => {
            let most = limits.max_prompt_chars;
            if text.chars().nth(most).is_some() {
                return Err(ApiError::invalid(
                    "prompt",
                    format!("A prompt may hold at most {most} characters."),
                ));
            }
            let add_special_tokens = fields.add_special_tokens.unwrap_or(true);
            Input::Prompts { prompts: vec![Prompt::Text(text)], add_special_tokens }
        }
        (None, Some(_)) => Input::Chat(Box::new(chat_input(read::<TemplateBody>(body)?, limits)?)),
        _ => return Err(ApiError::invalid("prompt", "Give either `prompt` or `messages`.")),
    };
    Ok(TokenizeCall {
        model: fields.model,
        input,
        return_token_strs: fields.return_token_strs.unwrap_or(false),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DetokenizeFields {
    model: Option<String>,
    tokens: Option<Vec<Int>>,
}

/// Reads a `/detokenize` body.
///
/// # Errors
/// A 400 that names the field.
pub fn parse_detokenize(body: &Value) -> Result<DetokenizeCall, ApiError> {
    let fields: DetokenizeFields = read(body)?;
    let tokens = fields
        .tokens
        .ok_or_else(|| ApiError::invalid("tokens", "`tokens` is required: a list of token ids."))?;
    let id = |id: &Int| {
        TokenId::try_from(id.0).map_err(|_| {
            let shown = shorten(&id.0.to_string(), 40);
            ApiError::invalid("tokens", format!("{shown} is not a token id."))
        })
    };
    Ok(DetokenizeCall { model: fields.model, tokens: tokens.iter().map(id).collect::<Result<_, _>>()? })
}
