//! Anthropic's error body.

use serde_json::{Value, json};

use crate::{ApiError, ErrorKind};

/// The HTTP status with which this API answers. It has numbers of its own for two cases.
pub fn status(error: &ApiError) -> u16 {
    match error.kind {
        ErrorKind::Unavailable => 529,
        ErrorKind::Timeout => 504,
        kind => kind.status(),
    }
}

/// The field with which their tool runners ask for a conversation that the server keeps.
const THREAD: &str = "thread";

/// `{"type": "error", "error": {type, message}, "request_id"}`.
pub fn error_body(error: &ApiError, request_id: &str) -> Value {
    let mut told = json!({"type": type_name(status(error)), "message": error.message});
    if error.param.as_deref() == Some(THREAD) {
        // By this their tool runners know to send the whole conversation instead.
        told["details"] = json!({"error_code": "thread_unsupported_request", "unsupported": [THREAD]});
    }
    json!({"type": "error", "error": told, "request_id": request_id})
}

fn type_name(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_status_and_type() {
        for (kind, status_code, name) in [
            (ErrorKind::BadRequest, 400, "invalid_request_error"),
            (ErrorKind::Unauthorized, 401, "authentication_error"),
            (ErrorKind::Forbidden, 403, "permission_error"),
            (ErrorKind::NotFound, 404, "not_found_error"),
            (ErrorKind::MethodNotAllowed, 405, "invalid_request_error"),
            (ErrorKind::TooLarge, 413, "request_too_large"),
            (ErrorKind::RateLimited, 429, "rate_limit_error"),
            (ErrorKind::Internal, 500, "api_error"),
            (ErrorKind::Timeout, 504, "timeout_error"),
            (ErrorKind::Unavailable, 529, "overloaded_error"),
        ] {
            let error = ApiError::new(kind, "No.");
            assert_eq!(status(&error), status_code);
            let body = json!({"type": "error", "error": {"type": name, "message": "No."}, "request_id": "r"});
            assert_eq!(error_body(&error, "r"), body);
        }
    }

    #[test]
    fn tool_runners_are_told_to_go_on_without_threads() {
        let body = error_body(&ApiError::invalid("thread", "No."), "r");
        assert_eq!(body["error"]["details"]["unsupported"], json!(["thread"]));
    }
}
