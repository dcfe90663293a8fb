//! Results of calls as text: bounded, and never anything but text.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

use crate::secret::Redactor;

/// What a tool said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// Its text, in as many bytes as the limits allow, plus a mark if it was cut.
    pub text: String,
    /// Whether the tool itself calls this an error.
    pub is_error: bool,
}

impl ToolOutput {
    /// Joins the text of a result; what isn't text is named.
    pub(crate) fn new(result: &CallToolResult, most: usize, redactor: &Redactor) -> Self {
        let mut text = Bounded { text: String::new(), most, left_out: 0 };
        for block in &result.content {
            // Before the cut, which could go through a secret.
            text.push_line(&redactor.clean_result(show(block)));
        }
        if let Some(value) = result.structured_content.as_ref().filter(|_| text.is_empty()) {
            text.push_line(&redactor.clean_result(value.to_string()));
        }
        Self { text: text.finish(), is_error: result.is_error.unwrap_or(false) }
    }
}

fn show(block: &ContentBlock) -> String {
    let data = |kind: &str, mime: &str, bytes: usize| {
        format!("[{kind}, {mime}, {bytes} bytes in base64, not shown]")
    };
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => data("image", &image.mime_type, image.data.len()),
        ContentBlock::Audio(audio) => data("audio", &audio.mime_type, audio.data.len()),
        ContentBlock::ResourceLink(link) => format!("[resource {}: {}]", link.name, link.uri),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            ResourceContents::BlobResourceContents { mime_type, blob, .. } => {
                data("file", mime_type.as_deref().unwrap_or("of unknown type"), blob.len())
            }
            _ => UNKNOWN.into(),
        },
        _ => UNKNOWN.into(),
    }
}

const UNKNOWN: &str = "[something that this server does not know]";

/// Text that takes no more than it may.
struct Bounded {
    text: String,
    most: usize,
    left_out: usize,
}

impl Bounded {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.left_out == 0
    }

    fn push_line(&mut self, text: &str) {
        if !self.is_empty() {
            self.push("\n");
        }
        self.push(text);
    }

    fn push(&mut self, text: &str) {
        let room = if self.left_out > 0 { 0 } else { self.most - self.text.len() };
        let end = text.floor_char_boundary(room);
        self.text.push_str(&text[..end]);
        self.left_out += text.len() - end;
    }

    fn finish(self) -> String {
        let mut text = self.text;
        if self.left_out > 0 {
            text.push_str(&format!("\n[{} more bytes were cut off]", self.left_out));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ContentBlock;

    use super::*;

    fn output(result: &CallToolResult, most: usize) -> String {
        ToolOutput::new(result, most, &Redactor::default()).text
    }

    #[test]
    fn texts_are_joined_and_the_rest_is_named() {
        let blocks = vec![
            ContentBlock::text("one"),
            ContentBlock::image("AAAA", "image/png"),
            ContentBlock::text("two"),
        ];
        let text = output(&CallToolResult::success(blocks), 1000);
        assert_eq!(text, "one\n[image, image/png, 4 bytes in base64, not shown]\ntwo");
        let structured = CallToolResult::structured(serde_json::json!({"a": 1}));
        assert_eq!(output(&structured, 1000), "{\"a\":1}");
        assert_eq!(output(&CallToolResult::success(vec![]), 1000), "");
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character_and_says_so() {
        let long = CallToolResult::success(vec![ContentBlock::text("é".repeat(10)), ContentBlock::text("x")]);
        assert_eq!(output(&long, 5), "éé\n[18 more bytes were cut off]");
        assert_eq!(output(&long, 0), "\n[22 more bytes were cut off]");
        assert_eq!(output(&long, 22), format!("{}\nx", "é".repeat(10)));
    }

    #[test]
    fn errors_stay_errors_and_secrets_go() {
        let mut redactor = Redactor::default();
        redactor.add("hunter2-hunter2", true);
        let result = CallToolResult::error(vec![ContentBlock::text("no hunter2-hunter2")]);
        let output = ToolOutput::new(&result, 100, &redactor);
        assert_eq!((output.text.as_str(), output.is_error), ("no [secret]", true));
    }
}
