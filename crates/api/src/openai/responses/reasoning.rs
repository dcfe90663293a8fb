//! How much a request wants the model to think, and how reasoning travels in `encrypted_content`.

use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    fields::{Fields, invalid},
};

/// The head of an `encrypted_content` that this server has made. Nothing is encrypted: whoever holds the conversation
/// may see what was thought. Clients that store nothing here send it back, and some of them drop all else.
const SEAL: &str = "millrace:";

const NO_CONCISE: &str = "Nothing sums up reasoning here; 'auto' and 'detailed' give it as it is.";

/// `reasoning` of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// Template variables.
    pub(super) kwargs: Map<String, Value>,
    /// Show it as a summary too.
    pub(super) summary: bool,
    /// As it is told again in the answer.
    pub(super) echo: Value,
}

/// Reads `reasoning`.
///
/// # Errors
/// A 400 for a value that can't be honoured.
pub(super) fn read_reasoning(value: Option<&Value>) -> Result<Wish, ApiError> {
    let Some(value) = value else {
        return Ok(Wish { echo: json!({"effort": null, "summary": null}), ..Wish::default() });
    };
    let mut fields = Fields::new("reasoning".into(), value)?;
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let effort = fields.one_of("effort", &efforts)?;
    let words = ["auto", "concise", "detailed"];
    let summary = fields.one_of("summary", &words)?.or(fields.one_of("generate_summary", &words)?);
    if summary == Some("concise") {
        return Err(invalid("reasoning.summary", NO_CONCISE));
    }
    // Which turns' reasoning is shown to the model is for its template to say.
    fields.one_of("context", &["auto"])?;
    fields.one_of("mode", &["standard"])?;
    fields.done()?;
    Ok(Wish {
        kwargs: effort.map(kwargs).unwrap_or_default(),
        summary: summary.is_some(),
        echo: json!({"effort": effort, "summary": summary}),
    })
}

/// Templates call their switch by one name or the other, and know three efforts.
fn kwargs(effort: &str) -> Map<String, Value> {
    let on = effort != "none";
    let switches = ["enable_thinking", "thinking"].map(|name| (name.to_owned(), Value::Bool(on)));
    let effort = match effort {
        "minimal" => "low",
        "xhigh" | "max" => "high",
        effort => effort,
    };
    switches.into_iter().chain([("reasoning_effort".to_owned(), effort.into())]).collect()
}

/// Reasoning as `encrypted_content`.
pub(super) fn seal(text: &str) -> String {
    format!("{SEAL}{text}")
}

/// The reasoning in an `encrypted_content`; `None` if it is another server's.
pub(super) fn unseal(sealed: &str) -> Option<String> {
    sealed.strip_prefix(SEAL).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_become_template_variables() {
        let read = |value: Value| read_reasoning(Some(&value)).map(|wish| wish.kwargs);
        for (effort, on, told) in [
            ("none", false, "none"),
            ("minimal", true, "low"),
            ("medium", true, "medium"),
            ("max", true, "high"),
        ] {
            let kwargs = read(json!({"effort": effort})).unwrap();
            assert_eq!((&kwargs["enable_thinking"], &kwargs["reasoning_effort"]), (&json!(on), &json!(told)));
        }
        assert!(read(json!({})).unwrap().is_empty());
        assert!(read(json!({"summary": "auto"})).unwrap().is_empty());
        for wrong in [
            json!({"effort": "huge"}),
            json!({"summary": "concise"}),
            json!({"mode": "pro"}),
            json!({"context": "all_turns"}),
            json!({"other": 1}),
            json!("high"),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_our_own_seals_open() {
        assert_eq!(unseal(&seal("why")).as_deref(), Some("why"));
        assert_eq!(unseal("gAAAA"), None);
    }
}
