//! Files that stand in a request: their text is what the model reads.
//!
//! A file comes as base64, or by the id that it has on this server; the server puts the content in the id's place
//! ([`put_files`]) before the body is read, so that each adapter knows one way only. URLs are not followed.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use millrace_pdf as pdf;
use serde_json::{Value, json};

use crate::{ApiError, Limits, error::shorten};

/// Most files of one request.
const MAX_FILES: usize = 100;

/// What to do with a URL.
pub(crate) const NO_URLS: &str = "This server fetches no files from URLs. Send the file itself as base64.";

/// A file of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// As its client called it.
    pub name: String,
    /// All of it.
    pub content: Vec<u8>,
}

/// The ids of files that a body names, each once. No more than a request may have: a body with more is refused when it is
/// read, and until then none of them costs anything.
pub fn file_ids(body: &Value) -> Vec<String> {
    let mut ids = Vec::new();
    for place in file_places(body) {
        let id = body.pointer(&place).and_then(|holder| holder.get("file_id")).and_then(Value::as_str);
        if let Some(id) = id.filter(|id| !ids.iter().any(|known| known == id)) {
            ids.push(id.to_owned());
            if ids.len() == MAX_FILES {
                break;
            }
        }
    }
    ids
}

/// Puts the contents of files in the place of their ids. Ids without a file stay.
pub fn put_files(body: &mut Value, files: &HashMap<String, StoredFile>) {
    for place in file_places(body) {
        let Some(Value::Object(holder)) = body.pointer_mut(&place) else { continue };
        let file = holder.get("file_id").and_then(Value::as_str).and_then(|id| files.get(id));
        let Some(StoredFile { name, content }) = file else { continue };
        let data = STANDARD.encode(content);
        holder.remove("file_id");
        if holder.get("type").is_some_and(|kind| kind == "file") {
            // Anthropic's source.
            let source = match std::str::from_utf8(content) {
                Ok(text) if !pdf::is_pdf(content) => {
                    json!({"type": "text", "media_type": "text/plain", "data": text})
                }
                _ => json!({"type": "base64", "media_type": PDF, "data": data}),
            };
            holder.clear();
            holder.extend(source.as_object().cloned().unwrap_or_default());
        } else {
            holder.insert("file_data".into(), data.into());
            holder.entry("filename").or_insert_with(|| name.clone().into());
        }
    }
}

/// Refuses bodies with too many files, because each may cost some work.
///
/// # Errors
/// A 400.
pub(crate) fn check_count(body: &Value) -> Result<(), ApiError> {
    let count = file_places(body).len();
    if count > MAX_FILES {
        let message = format!("A request may have at most {MAX_FILES} files, got {count}.");
        return Err(ApiError::bad_request(message));
    }
    Ok(())
}

/// JSON pointers to the objects that have a file's content or its id: in messages and items, and in the results of tools.
fn file_places(body: &Value) -> Vec<String> {
    let mut places = Vec::new();
    for name in ["messages", "input"] {
        let entries = body.get(name).and_then(Value::as_array).into_iter().flatten();
        for (index, entry) in entries.enumerate() {
            let path = || format!("/{name}/{index}");
            // Lists of conversations have one level more.
            for (index, inner) in entry.as_array().into_iter().flatten().enumerate() {
                in_parts(inner, &|| format!("{}/{index}", path()), &mut places);
            }
            in_parts(entry, &path, &mut places);
        }
    }
    places
}

/// `path` is only asked for where there is a file: most messages have none.
fn in_parts(message: &Value, path: &dyn Fn() -> String, places: &mut Vec<String>) {
    for name in ["content", "output"] {
        let parts = message.get(name).and_then(Value::as_array).into_iter().flatten();
        for (index, part) in parts.enumerate() {
            let path = || format!("{}/{name}/{index}", path());
            match part.get("type").and_then(Value::as_str) {
                Some("file") => places.push(format!("{}/file", path())),
                Some("input_file") => places.push(path()),
                Some("document") if !is_plain(part) => places.push(format!("{}/source", path())),
                Some("tool_result") => in_parts(part, &path, places),
                _ => {}
            }
        }
    }
}

/// Whether a document of Anthropic's has its text with it.
fn is_plain(document: &Value) -> bool {
    document.pointer("/source/type").is_some_and(|kind| kind == "text" || kind == "content")
}

/// The type of PDF files.
pub(crate) const PDF: &str = "application/pdf";

/// The text of a file. `data` is base64, as it is or in a `data:` URL.
///
/// # Errors
/// A sentence that says why it can't be read.
pub(crate) fn read_file(data: &str, limits: &Limits) -> Result<String, String> {
    let Some(url) = data.strip_prefix("data:") else { return read_base64("", data, limits) };
    match url.split_once(',') {
        Some((head, data)) if head.ends_with(";base64") => {
            read_base64(head.split(';').next().unwrap_or_default(), data, limits)
        }
        _ => Err("The data URL must be of the form `data:application/pdf;base64,…`.".into()),
    }
}

/// The same, with the type that the client gives it; empty if it gives none.
///
/// # Errors
/// As in [`read_file`].
pub(crate) fn read_base64(kind: &str, data: &str, limits: &Limits) -> Result<String, String> {
    let content = match STANDARD.decode(data) {
        Ok(content) => content,
        // Some encoders break lines.
        Err(_) => {
            let plain: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(plain).map_err(|_| "The file's data is not base64.".to_owned())?
        }
    };
    if content.is_empty() {
        return Err("The file is empty.".into());
    }
    if kind == PDF || pdf::is_pdf(&content) {
        let bounds = pdf::Limits { max_chars: limits.max_prompt_chars, ..pdf::Limits::default() };
        return pdf::text(&content, &bounds).map_err(|error| error.to_string());
    }
    match String::from_utf8(content) {
        Ok(text) if !text.contains('\0') => Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()),
        _ => {
            let kind = if kind.is_empty() { String::new() } else { format!(" (\"{}\")", shorten(kind, 60)) };
            Err(format!("The file{kind} is neither a PDF nor text in UTF-8. Send its text."))
        }
    }
}

/// A document as the model sees it.
pub(crate) fn framed(title: Option<&str>, context: Option<&str>, text: &str) -> String {
    let title = title.map(|title| format!("Title: {title}\n")).unwrap_or_default();
    let context = context.map(|context| format!("Context: {context}\n")).unwrap_or_default();
    format!("<document>\n{title}{context}{text}\n</document>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &str) -> Result<String, String> {
        read_file(data, &Limits::default())
    }

    #[test]
    fn text_comes_in_several_wrappings() {
        let data = STANDARD.encode("\u{feff}héllo");
        for data in [
            data.clone(),
            format!("data:text/plain;charset=utf-8;base64,{data}"),
            format!("{}\n{}", &data[..4], &data[4..]),
        ] {
            assert_eq!(read(&data).as_deref(), Ok("héllo"), "{data}");
        }
        for (data, part) in [
            ("data:text/plain,hello", "of the form"),
            ("data:", "of the form"),
            ("%%%", "not base64"),
            ("data:image/png;base64,iVBORw0KGgo=", "(\"image/png\") is neither"),
            ("AAAA", "is neither"),
            ("", "is empty"),
            ("data:application/pdf;base64,aGk=", "not a PDF"),
            (&STANDARD.encode("%PDF-1.7 nothing"), "damaged"),
        ] {
            assert!(read(data).unwrap_err().contains(part), "{data}");
        }
    }

    #[test]
    fn files_take_the_place_of_their_ids() {
        let mut body = json!({
            "messages": [
                {"role": "user", "content": [{"type": "file", "file": {"file_id": "a"}}, {"type": "text", "text": "x"}]},
                {"role": "user", "content": [
                    {"type": "document", "source": {"type": "file", "file_id": "a"}},
                    {"type": "tool_result", "content": [{"type": "document", "source": {"type": "file", "file_id": "b"}}]},
                    {"type": "tool_use", "input": {"type": "file", "file_id": "b"}},
                ]},
            ],
            "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "c", "filename": "mine"}]},
                      {"type": "function_call_output", "output": [{"type": "input_file", "file_id": "gone"}]}],
        });
        assert_eq!(file_ids(&body), ["a", "b", "c", "gone"]);
        let file = |name: &str, content: &[u8]| {
            (name.to_owned(), StoredFile { name: format!("{name}.x"), content: content.into() })
        };
        put_files(&mut body, &HashMap::from([file("a", b"text"), file("b", b"%PDF-1.4"), file("c", b"c")]));
        let at = |path: &str| body.pointer(path).cloned().unwrap();
        assert_eq!(at("/messages/0/content/0/file"), json!({"file_data": "dGV4dA==", "filename": "a.x"}));
        assert_eq!(
            at("/messages/1/content/0/source"),
            json!({"type": "text", "media_type": "text/plain", "data": "text"})
        );
        assert_eq!(at("/messages/1/content/1/content/0/source/media_type"), "application/pdf");
        assert_eq!(at("/messages/1/content/2/input/file_id"), "b");
        assert_eq!(
            at("/input/0/content/0"),
            json!({"type": "input_file", "filename": "mine", "file_data": "Yw=="})
        );
        assert_eq!(at("/input/1/output/0/file_id"), "gone");
    }

    #[test]
    fn files_are_counted() {
        let body = |count: usize| json!({"messages": [{"content": vec![json!({"type": "file"}); count]}]});
        assert!(check_count(&body(MAX_FILES)).is_ok());
        assert!(check_count(&body(MAX_FILES + 1)).unwrap_err().message.contains("at most 100"));
    }

    #[test]
    fn too_many_ids_are_not_looked_up() {
        let part = |id: usize| json!({"type": "file", "file": {"file_id": id.to_string()}});
        let body = json!({"messages": [{"content": (0..MAX_FILES + 50).map(part).collect::<Vec<_>>()}]});
        assert_eq!(file_ids(&body).len(), MAX_FILES);
        assert!(check_count(&body).is_err());
    }
}
