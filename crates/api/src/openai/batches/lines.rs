//! The lines of a batch: requests, and what comes of them.

use serde_json::{Value, json};

use crate::{
    ApiError, Limits,
    fields::{Fields, invalid},
    parse_body,
};

/// Longest `custom_id`, in characters.
const MAX_CUSTOM_ID: usize = 512;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchLine {
    /// The client's name for it.
    pub custom_id: String,
    /// The request's body.
    pub body: Value,
}

/// What is wrong with a line, or with the whole file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LineError {
    /// In one word.
    pub code: String,
    /// Which line, from 1 on.
    pub line: Option<u32>,
    /// In one sentence.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
}

impl BatchLine {
    /// Reads a line of a batch to `endpoint`; `None` for a line of white space.
    ///
    /// # Errors
    /// Says what is wrong and where. The body is only known to be an object then.
    pub fn read(
        number: u32,
        line: &[u8],
        endpoint: &str,
        limits: &Limits,
    ) -> Result<Option<Self>, LineError> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let refused = |code: &str, error: ApiError| LineError {
            code: code.to_owned(),
            line: Some(number),
            message: error.message,
            param: error.param,
        };
        let value = parse_body(line, limits).map_err(|error| refused("invalid_json_line", error))?;
        Self::of(&value, endpoint).map(Some).map_err(|(code, error)| refused(code, error))
    }

    fn of(value: &Value, endpoint: &str) -> Result<Self, (&'static str, ApiError)> {
        let malformed = |error| ("invalid_request", error);
        let mut fields = Fields::new(String::new(), value).map_err(malformed)?;
        let custom_id =
            fields.need_str("custom_id").map_err(|error| ("missing_required_parameter", error))?;
        if custom_id.is_empty() || custom_id.chars().nth(MAX_CUSTOM_ID).is_some() {
            let message = format!("A custom_id has 1 to {MAX_CUSTOM_ID} characters.");
            return Err(("invalid_custom_id", invalid("custom_id", &message)));
        }
        fields.one_of("method", &["POST"]).map_err(|error| ("invalid_method", error))?;
        let url = fields.need_str("url").map_err(|error| ("missing_required_parameter", error))?;
        if url != endpoint {
            let message = format!("The url must be the batch's endpoint, {endpoint}.");
            return Err(("mismatched_url", invalid("url", &message)));
        }
        fields.need("body").map_err(|error| ("missing_required_parameter", error))?;
        let body = fields.object("body").map_err(malformed)?.cloned().unwrap_or_default();
        fields.done().map_err(malformed)?;
        Ok(Self { custom_id: custom_id.to_owned(), body: Value::Object(body) })
    }
}

/// The line of an answer, or of a refusal with its HTTP status; ends with a line break. `body` is JSON in one line and stays
/// as it is: numbers that were written once are the same here as in the answer to a request of its own.
pub fn result_line(id: &str, custom_id: &str, status: u16, body: &str) -> Vec<u8> {
    let response = format!(r#"{{"status_code":{status},"request_id":{},"body":{body}}}"#, quoted(id));
    line(id, custom_id, &response, "null")
}

/// The line of a request that was never run; ends with a line break.
pub fn unrun_line(id: &str, custom_id: &str, code: &str, message: &str) -> Vec<u8> {
    line(id, custom_id, "null", &json!({"code": code, "message": message}).to_string())
}

/// `response` and `error` are JSON.
fn line(id: &str, custom_id: &str, response: &str, error: &str) -> Vec<u8> {
    let (id, custom_id) = (quoted(id), quoted(custom_id));
    let line =
        format!("{{\"id\":{id},\"custom_id\":{custom_id},\"response\":{response},\"error\":{error}}}\n");
    line.into_bytes()
}

/// A text as JSON.
fn quoted(text: &str) -> Value {
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &Value) -> Result<Option<BatchLine>, LineError> {
        BatchLine::read(3, line.to_string().as_bytes(), "/v1/completions", &Limits::default())
    }

    #[test]
    fn lines_are_read_strictly() {
        let good =
            json!({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}});
        let line = read(&good).unwrap().unwrap();
        assert_eq!((line.custom_id.as_str(), &line.body), ("a", &good["body"]));
        assert_eq!(BatchLine::read(1, b" \r\n", "/v1/completions", &Limits::default()), Ok(None));
        for (field, value, code) in [
            ("custom_id", json!(null), "missing_required_parameter"),
            ("custom_id", json!(""), "invalid_custom_id"),
            ("custom_id", json!("x".repeat(513)), "invalid_custom_id"),
            ("method", json!("GET"), "invalid_method"),
            ("url", json!("/v1/chat/completions"), "mismatched_url"),
            ("body", json!(null), "missing_required_parameter"),
            ("body", json!([]), "invalid_request"),
            ("other", json!(1), "invalid_request"),
        ] {
            let mut line = good.clone();
            line[field] = value;
            let error = read(&line).unwrap_err();
            assert_eq!((error.code.as_str(), error.line), (code, Some(3)), "{line}");
        }
        let broken = BatchLine::read(3, b"{", "/v1/completions", &Limits::default()).unwrap_err();
        assert_eq!(broken.code, "invalid_json_line");
    }

    #[test]
    fn results_are_one_line_each() {
        let line =
            result_line("batch_req_1", "a\nb", 200, r#"{"text":"x\ny","number":0.30000000000000004441}"#);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(
            std::str::from_utf8(&line).unwrap().contains("0.30000000000000004441"),
            "it is written as it came"
        );
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&value["response"]["status_code"], &value["id"]), (&json!(200), &json!("batch_req_1")));
        assert_eq!(value["response"]["body"]["text"], "x\ny");
        assert_eq!((&value["custom_id"], &value["error"]), (&json!("a\nb"), &Value::Null));
        let value: Value = serde_json::from_slice(&unrun_line("i", "c", "batch_expired", "Late.")).unwrap();
        assert_eq!((&value["response"], &value["error"]["code"]), (&Value::Null, &json!("batch_expired")));
    }
}
