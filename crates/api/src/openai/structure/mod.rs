//! `response_format`, `structured_outputs`, and the older `guided_*` fields.

mod tags;

use millrace_grammar::{Source, Whitespace};
use serde_json::{Value, json};

use crate::{ApiError, Structure, error::shorten};

/// The older names of the fields of `structured_outputs`.
const GUIDED: [(&str, &str); 5] = [
    ("guided_json", "json"),
    ("guided_regex", "regex"),
    ("guided_choice", "choice"),
    ("guided_grammar", "grammar"),
    ("structural_tag", "structural_tag"),
];

/// The fields that ask for a format, or for how it is written.
pub(super) const FIELDS: [&str; 8] = [
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
    "structural_tag",
];

/// Fields of `structured_outputs` that ask for a format.
const KINDS: [&str; 6] = ["json", "json_object", "regex", "choice", "grammar", "structural_tag"];

/// The format that a body asks for.
///
/// # Errors
/// A 400 for a format that is none, or for more than one.
pub(super) fn read(body: &Value) -> Result<Option<Structure>, ApiError> {
    let given = |name: &str| body.get(name).filter(|value| !value.is_null());
    let mut found = Vec::new();
    let whitespace = read_whitespace(body)?;
    if let Some(format) = given("response_format") {
        found.extend(response_format(format, &whitespace)?);
    }
    if let Some(outputs) = given("structured_outputs") {
        check_fields(outputs)?;
        for kind in KINDS {
            if let Some(value) = outputs.get(kind).filter(|value| !value.is_null() && **value != json!(false))
            {
                found.push(structure(&format!("structured_outputs.{kind}"), kind, value, &whitespace)?);
            }
        }
    }
    for (name, kind) in GUIDED {
        if let Some(value) = given(name) {
            found.push(structure(name, kind, value, &whitespace)?);
        }
    }
    if let [_, second, ..] = found.as_slice() {
        let message =
            "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').";
        return Err(ApiError::invalid(&second.param, message));
    }
    let found = found.pop();
    found.iter().try_for_each(Structure::validate)?;
    Ok(found)
}

fn response_format(format: &Value, whitespace: &Whitespace) -> Result<Option<Structure>, ApiError> {
    const PARAM: &str = "response_format";
    let refuse = |message: &str| Err(ApiError::invalid(PARAM, message));
    let schema = match format.get("type").and_then(Value::as_str) {
        Some("text") => return Ok(None),
        Some("json_object") => return structure(PARAM, "json_object", &json!(true), whitespace).map(Some),
        Some("structural_tag") => return structure(PARAM, "structural_tag", format, whitespace).map(Some),
        Some("json_schema") => format.get("json_schema").filter(|schema| !schema.is_null()),
        Some(kind) => {
            let kind = shorten(kind, 60);
            return refuse(&format!(
                "response_format has the type '{kind}'; known are 'text', 'json_object', 'json_schema' and \
                 'structural_tag'."
            ));
        }
        None => return refuse("response_format must be an object with a `type`."),
    };
    let Some(schema) = schema else {
        return refuse(
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
        );
    };
    match schema.get("schema").filter(|schema| !schema.is_null()) {
        Some(schema) => structure("response_format.json_schema.schema", "json", schema, whitespace).map(Some),
        None => refuse("response_format.json_schema needs a `schema`: the JSON schema of the answer."),
    }
}

/// Settings beside the kinds.
fn read_whitespace(body: &Value) -> Result<Whitespace, ApiError> {
    let outputs = &body["structured_outputs"];
    if outputs["disable_any_whitespace"] == json!(true) {
        return Ok(Whitespace::None);
    }
    for (value, name) in [
        (&outputs["whitespace_pattern"], "structured_outputs.whitespace_pattern"),
        (&body["guided_whitespace_pattern"], "guided_whitespace_pattern"),
    ] {
        match value {
            Value::Null => {}
            Value::String(pattern) => return Ok(Whitespace::Pattern(pattern.clone())),
            _ => return Err(wrong_type(name, "a regular expression")),
        }
    }
    Ok(Whitespace::Flexible)
}

fn check_fields(outputs: &Value) -> Result<(), ApiError> {
    const PARAM: &str = "structured_outputs";
    let Some(fields) = outputs.as_object() else { return Err(wrong_type(PARAM, "an object")) };
    let asks = |name: &str| fields.get(name).is_some_and(|value| !value.is_null() && *value != json!(false));
    if !KINDS.iter().any(|kind| asks(kind)) {
        let message = "structured_outputs needs one of 'json', 'json_object', 'regex', 'choice', 'grammar' and \
                       'structural_tag'.";
        return Err(ApiError::invalid(PARAM, message));
    }
    if asks("disable_additional_properties") {
        let param = format!("{PARAM}.disable_additional_properties");
        let message = "disable_additional_properties is not supported; write `\"additionalProperties\": false` into the \
                       schema.";
        return Err(ApiError::invalid(param, message));
    }
    let known = |name: &str| {
        KINDS.contains(&name)
            || [
                "whitespace_pattern",
                "disable_any_whitespace",
                "disable_fallback",
                "disable_additional_properties",
            ]
            .contains(&name)
    };
    match fields.keys().find(|name| !known(name)) {
        Some(name) => {
            let message = format!("structured_outputs has no field `{}`.", shorten(name, 60));
            Err(ApiError::invalid(PARAM, message))
        }
        None => Ok(()),
    }
}

/// One format; `param` is where it stands.
fn structure(param: &str, kind: &str, value: &Value, whitespace: &Whitespace) -> Result<Structure, ApiError> {
    let text = |expected| value.as_str().map(str::to_owned).ok_or_else(|| wrong_type(param, expected));
    let json = |schema| Source::Json { schema, whitespace: whitespace.clone() };
    let source = match kind {
        "json" => json(read_schema(param, value)?),
        "json_object" if *value == json!(true) => json(json!({"type": "object"})),
        "json_object" => return Err(wrong_type(param, "true or false")),
        "regex" => Source::Regex(text("a regular expression")?),
        "grammar" => Source::Grammar(text("a grammar in Lark's notation or in EBNF")?),
        "choice" => {
            let texts = value.as_array().map(|list| list.iter().map(|text| text.as_str().map(str::to_owned)));
            let texts: Option<Vec<String>> = texts.and_then(Iterator::collect);
            Source::Choice(texts.ok_or_else(|| wrong_type(param, "a list of strings"))?)
        }
        _ => Source::Expr(tags::read(param, value, whitespace)?),
    };
    Ok(Structure { source, param: param.to_owned() })
}

/// A schema, or the text of one.
fn read_schema(param: &str, value: &Value) -> Result<Value, ApiError> {
    match value {
        Value::Object(_) | Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => serde_json::from_str(text)
            .map_err(|error| ApiError::invalid(param, format!("`{param}` is not valid JSON: {error}."))),
        _ => Err(wrong_type(param, "a JSON schema")),
    }
}

fn wrong_type(param: &str, expected: &str) -> ApiError {
    ApiError::invalid(param, format!("`{param}` must be {expected}."))
}

#[cfg(test)]
mod tests {
    use millrace_grammar::Expr;

    use super::*;

    fn source(body: &Value) -> Source {
        read(body).unwrap().unwrap().source
    }

    #[test]
    fn all_names_lead_to_the_same() {
        let schema = json!({"type": "array"});
        let format =
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}});
        let expected = Source::Json { schema: schema.clone(), whitespace: Whitespace::Flexible };
        for body in [
            json!({"response_format": format}),
            json!({"structured_outputs": {"json": schema, "regex": null, "json_object": false}}),
            json!({"structured_outputs": {"json": schema.to_string()}}),
            json!({"guided_json": schema}),
        ] {
            assert_eq!(source(&body), expected, "{body}");
        }
        assert_eq!(source(&json!({"guided_regex": "a+"})), Source::Regex("a+".into()));
        let choice = json!({"structured_outputs": {"choice": ["a", "b"]}});
        assert_eq!(source(&choice), Source::Choice(vec!["a".into(), "b".into()]));
        assert_eq!(
            source(&json!({"guided_grammar": "start: \"a\""})),
            Source::Grammar("start: \"a\"".into())
        );
        for none in
            [json!({}), json!({"response_format": {"type": "text"}}), json!({"structured_outputs": null})]
        {
            assert_eq!(read(&none).unwrap(), None);
        }
    }

    #[test]
    fn white_space_can_be_set() {
        let object = |whitespace| Source::Json { schema: json!({"type": "object"}), whitespace };
        let outputs = |extra: Value| {
            let mut outputs = json!({"json_object": true});
            outputs.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            source(&json!({"structured_outputs": outputs}))
        };
        assert_eq!(outputs(json!({"disable_any_whitespace": true})), object(Whitespace::None));
        assert_eq!(outputs(json!({"whitespace_pattern": " ?"})), object(Whitespace::Pattern(" ?".into())));
        let body = json!({"response_format": {"type": "json_object"}, "guided_whitespace_pattern": " "});
        assert_eq!(source(&body), object(Whitespace::Pattern(" ".into())));
    }

    #[test]
    fn structural_tags_are_read_in_both_forms() {
        let old = json!({"structures": [{"begin": "<f=a>", "schema": {"type": "null"}, "end": "</f>"}], "triggers": ["<f="]});
        let new = json!({"format": {"type": "triggered_tags", "triggers": ["<f="], "tags": [
            {"begin": "<f=a>", "content": {"type": "json_schema", "json_schema": {"type": "null"}}, "end": "</f>"},
        ]}});
        let expected = source(&json!({"structural_tag": old}));
        assert!(
            matches!(&expected, Source::Expr(Expr::Free { tags, min: 0, max: None, .. }) if tags[0].trigger == "<f=")
        );
        let format = json!({"type": "structural_tag", "format": new["format"]});
        for body in [
            json!({"structural_tag": new.to_string()}),
            json!({"response_format": format}),
            json!({"structured_outputs": {"structural_tag": new}}),
        ] {
            assert_eq!(source(&body), expected, "{body}");
        }
    }

    #[test]
    fn mistakes_name_the_field() {
        let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}});
        let tag = |format: Value| json!({"structural_tag": {"format": format}});
        for (body, param, words) in [
            (
                json!({"response_format": {"type": "json_schema"}}),
                "response_format",
                "'json_schema' field must be",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
                "response_format",
                "needs a `schema`",
            ),
            (json!({"response_format": "json"}), "response_format", "object with a `type`"),
            (json!({"response_format": {"type": "xml"}}), "response_format", "'xml'"),
            (schema(json!(3)), "response_format.json_schema.schema", "a JSON schema"),
            (schema(json!({"x-guidance": {}})), "response_format.json_schema.schema", "x-guidance"),
            (json!({"guided_json": "{"}), "guided_json", "not valid JSON"),
            (json!({"guided_choice": []}), "guided_choice", "empty"),
            (json!({"guided_choice": [1]}), "guided_choice", "list of strings"),
            (json!({"guided_regex": ""}), "guided_regex", "empty"),
            (json!({"guided_grammar": 1}), "guided_grammar", "grammar"),
            (json!({"structured_outputs": []}), "structured_outputs", "an object"),
            (json!({"structured_outputs": {}}), "structured_outputs", "needs one of"),
            (json!({"structured_outputs": {"xml": 1, "regex": "a"}}), "structured_outputs", "no field `xml`"),
            (
                json!({"structured_outputs": {"json": {}, "regex": "a"}}),
                "structured_outputs.regex",
                "one kind",
            ),
            (
                json!({"guided_regex": "a", "response_format": {"type": "json_object"}}),
                "guided_regex",
                "one kind",
            ),
            (
                json!({"structured_outputs": {"json": {}, "disable_additional_properties": true}}),
                "structured_outputs.disable_additional_properties",
                "additionalProperties",
            ),
            (json!({"structural_tag": "x"}), "structural_tag", "not valid JSON"),
            (tag(json!({"type": "qwen_xml_parameter"})), "structural_tag", "qwen_xml_parameter"),
            (tag(json!({"type": "or", "elements": []})), "structural_tag", "elements"),
            (
                tag(json!({"type": "triggered_tags", "triggers": ["x"], "tags": [
                {"begin": "<a>", "content": {"type": "regex", "pattern": "a"}, "end": ""}]})),
                "structural_tag",
                "trigger",
            ),
        ] {
            let error = read(&body).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }
}
