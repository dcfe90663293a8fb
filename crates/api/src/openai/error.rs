//! OpenAI's error body.

use serde_json::{Value, json};

use crate::{ApiError, ErrorKind};

/// `{"error": {message, type, param, code}}`; `type` and `code` as vLLM writes them.
pub fn error_body(error: &ApiError) -> Value {
    json!({"error": {
        "message": error.message,
        "type": type_name(error.kind),
        "param": error.param,
        "code": error.kind.status(),
    }})
}

fn type_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadRequest => "BadRequestError",
        ErrorKind::Unauthorized => "AuthenticationError",
        ErrorKind::Forbidden => "PermissionDeniedError",
        ErrorKind::NotFound => "NotFoundError",
        ErrorKind::MethodNotAllowed => "MethodNotAllowedError",
        ErrorKind::Timeout => "TimeoutError",
        ErrorKind::TooLarge => "RequestTooLargeError",
        ErrorKind::RateLimited => "RateLimitError",
        ErrorKind::Internal => "InternalServerError",
        ErrorKind::Unavailable => "ServiceUnavailableError",
    }
}
