//! Chat completions that are kept (`store`): what is kept of one, and what clients see of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    ApiError,
    error::shorten,
    fields::Fields,
    openai::{
        metadata::read_metadata,
        paging::{ListBody, ListQuery},
    },
};

/// Fields of a request that its stored answer tells again.
const TOLD: [&str; 11] = [
    "tool_choice",
    "seed",
    "top_p",
    "temperature",
    "presence_penalty",
    "frequency_penalty",
    "tools",
    "response_format",
    "max_completion_tokens",
    "reasoning_effort",
    "service_tier",
];

/// A request whose answer is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    messages: Vec<Value>,
    told: Map<String, Value>,
}

impl Question {
    /// Reads a body; `None` if its answer isn't to be kept.
    ///
    /// # Errors
    /// A 400 for `metadata` that can't be kept.
    pub fn read(body: &Value) -> Result<Option<Self>, ApiError> {
        if body.get("store").is_none_or(|store| store != true) {
            return Ok(None);
        }
        let mut told: Map<String, Value> =
            TOLD.iter().map(|name| ((*name).to_owned(), body[*name].clone())).collect();
        told.insert("input_user".into(), body["user"].clone());
        told.insert("metadata".into(), read_metadata(&mut Fields::new(String::new(), body)?)?);
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        Ok(Some(Self { messages, told }))
    }

    /// With its answer; `request_id` is the request's name in the server's log.
    pub fn answered(self, mut completion: Value, request_id: &str) -> StoredCompletion {
        if let Some(fields) = completion.as_object_mut() {
            fields.extend(self.told);
            fields.insert("request_id".into(), request_id.into());
        }
        StoredCompletion { messages: self.messages, completion }
    }
}

/// A completion as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredCompletion {
    messages: Vec<Value>,
    /// As clients see it.
    completion: Value,
}

impl StoredCompletion {
    /// Its id.
    pub fn id(&self) -> &str {
        self.completion["id"].as_str().unwrap_or_default()
    }

    /// As clients see it.
    pub fn into_object(self) -> Value {
        self.completion
    }

    /// Takes other metadata: those of a body of `POST /v1/chat/completions/{id}`.
    ///
    /// # Errors
    /// A 400 if the body has anything else.
    pub fn update(&mut self, body: &Value) -> Result<(), ApiError> {
        let mut fields = Fields::new(String::new(), body)?;
        self.completion["metadata"] = read_metadata(&mut fields)?;
        fields.done()
    }

    /// A page of the messages that it was asked with.
    ///
    /// # Errors
    /// A 400 for a message that isn't there.
    pub fn messages(&self, query: &ListQuery) -> Result<ListBody<Value>, ApiError> {
        let mut messages: Vec<Value> =
            self.messages.iter().enumerate().map(|(index, message)| self.message(index, message)).collect();
        if !query.ascending {
            messages.reverse();
        }
        let from = match &query.after {
            None => 0,
            Some(after) => match messages.iter().position(|message| message["id"] == after.as_str()) {
                Some(place) => place + 1,
                None => {
                    let message = format!("There is no message with the id '{}'.", shorten(after, 80));
                    return Err(ApiError::invalid("after", message));
                }
            },
        };
        let rest = messages.split_off(from);
        let has_more = rest.len() > query.limit;
        let page = rest.into_iter().take(query.limit).collect();
        Ok(ListBody::new(page, |message| message["id"].as_str().unwrap_or_default(), has_more))
    }

    /// A message with an id; content in parts stands apart.
    fn message(&self, index: usize, message: &Value) -> Value {
        let mut message = message.clone();
        let Some(fields) = message.as_object_mut() else { return message };
        let content = fields.remove("content").unwrap_or_default();
        let (text, parts) = if content.is_array() { (Value::Null, content) } else { (content, Value::Null) };
        fields.insert("id".into(), format!("{}-{index}", self.id()).into());
        fields.insert("content".into(), text);
        fields.insert("content_parts".into(), parts);
        fields.entry("name").or_insert(Value::Null);
        message
    }
}

/// Which stored completions a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionsQuery {
    /// The page.
    pub page: ListQuery,
    model: Option<String>,
    metadata: Vec<(String, String)>,
}

impl CompletionsQuery {
    /// Reads the parameters of `GET /v1/chat/completions`.
    ///
    /// # Errors
    /// A 400 for a parameter that is unknown or out of range.
    pub fn read(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let (mut model, mut metadata, mut rest) = (None, Vec::new(), Vec::new());
        for (name, value) in pairs {
            let key = name.strip_prefix("metadata[").and_then(|name| name.strip_suffix(']'));
            match (name.as_str(), key) {
                ("model", _) => model = Some(value),
                (_, Some(key)) => metadata.push((key.to_owned(), value)),
                _ => rest.push((name, value)),
            }
        }
        Ok(Self { page: ListQuery::of_completions(rest)?, model, metadata })
    }

    /// Whether this one is wanted.
    pub fn wants(&self, stored: &StoredCompletion) -> bool {
        let completion = &stored.completion;
        let model = self.model.as_ref().is_none_or(|model| completion["model"] == model.as_str());
        model && self.metadata.iter().all(|(key, value)| completion["metadata"][key] == value.as_str())
    }
}

/// A page of completions.
pub fn completions_page(completions: Vec<StoredCompletion>, has_more: bool) -> ListBody<Value> {
    let objects = completions.into_iter().map(StoredCompletion::into_object).collect();
    ListBody::new(objects, |object| object["id"].as_str().unwrap_or_default(), has_more)
}

/// The answer to `DELETE /v1/chat/completions/{id}`.
pub fn completion_deleted(id: &str) -> Value {
    json!({"id": id, "object": "chat.completion.deleted", "deleted": true})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> StoredCompletion {
        let body = json!({
            "store": true, "metadata": {"a": "b"}, "temperature": 0.5, "user": "me",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}]}],
        });
        let question = Question::read(&body).unwrap().unwrap();
        question.answered(json!({"id": "chatcmpl-1", "model": "m", "choices": []}), "req")
    }

    #[test]
    fn only_what_is_to_be_kept_is_read() {
        assert_eq!(Question::read(&json!({"messages": []})), Ok(None));
        assert_eq!(Question::read(&json!({"messages": [], "store": false})), Ok(None));
        let error = Question::read(&json!({"store": true, "metadata": {"a": 1}})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("metadata"));
    }

    #[test]
    fn the_answer_tells_the_request_again() {
        let object = stored().into_object();
        assert_eq!(object["metadata"], json!({"a": "b"}));
        assert_eq!((&object["temperature"], &object["input_user"]), (&json!(0.5), &json!("me")));
        assert_eq!((&object["tools"], &object["request_id"]), (&Value::Null, &json!("req")));
    }

    #[test]
    fn metadata_are_replaced_and_nothing_else() {
        let mut stored = stored();
        stored.update(&json!({"metadata": {"x": "y"}})).unwrap();
        assert_eq!(stored.completion["metadata"], json!({"x": "y"}));
        assert!(stored.update(&json!({"model": "z"})).is_err());
        stored.update(&json!({"metadata": null})).unwrap();
        assert_eq!(stored.completion["metadata"], json!({}));
    }

    #[test]
    fn messages_come_in_pages() {
        let page = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let page = stored().messages(&ListQuery::of_completions(pairs)?)?;
            Ok::<_, ApiError>(serde_json::to_value(page).unwrap())
        };
        let all = page(&[]).unwrap();
        assert_eq!(
            all["data"][1],
            json!({"role": "user", "id": "chatcmpl-1-1", "content": null, "name": null,
                   "content_parts": [{"type": "text", "text": "t"}]})
        );
        let first = page(&[("limit", "1")]).unwrap();
        assert_eq!((&first["has_more"], &first["last_id"]), (&json!(true), &json!("chatcmpl-1-0")));
        let second = page(&[("after", "chatcmpl-1-0")]).unwrap();
        assert_eq!((&second["has_more"], &second["first_id"]), (&json!(false), &json!("chatcmpl-1-1")));
        assert_eq!(page(&[("order", "desc"), ("limit", "1")]).unwrap()["first_id"], "chatcmpl-1-1");
        assert!(page(&[("after", "x")]).is_err());
    }

    #[test]
    fn lists_are_filtered() {
        let wants = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            CompletionsQuery::read(pairs).map(|query| query.wants(&stored()))
        };
        assert_eq!(wants(&[("model", "m"), ("metadata[a]", "b")]), Ok(true));
        assert_eq!(wants(&[("model", "other")]), Ok(false));
        assert_eq!(wants(&[("metadata[a]", "c")]), Ok(false));
        assert!(wants(&[("colour", "red")]).is_err());
    }
}
