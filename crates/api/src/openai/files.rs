//! `/v1/files`: what is kept of a file, and what clients see of it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ApiError, Limits, error::shorten, parse_body};

/// What the input of a batch is for.
pub const BATCH: &str = "batch";

/// What files are for that requests name by their ids.
const INPUTS: [&str; 2] = ["user_data", "assistants"];

/// What results of a batch are for.
pub const BATCH_OUTPUT: &str = "batch_output";

/// Most requests of one file, as OpenAI has it.
pub const MAX_LINES: u32 = 50_000;

const PURPOSES: &str = "'batch', 'user_data' and 'assistants'";

/// Longest name of a file, in characters.
const MAX_FILENAME: usize = 255;

/// Bounds on `expires_after[seconds]`: an hour and 30 days, as OpenAI has them.
const EXPIRES_AFTER: std::ops::RangeInclusive<u64> = 3600..=2_592_000;

/// What is known of a file; its lines are kept apart from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// `file-…`; ids that sort higher are newer.
    pub id: String,
    /// Whose it is; nobody else gets to see it.
    pub owner: String,
    /// Its size.
    pub bytes: u64,
    /// How many lines it has, empty ones included; of files that aren't for batches, how many pieces.
    pub lines: u32,
    /// Unix time in seconds.
    pub created_at: u64,
    /// When it is forgotten, in the same unit.
    pub expires_at: u64,
    /// As the client called it.
    pub filename: String,
    /// [`BATCH`], [`BATCH_OUTPUT`], or one of those for files that requests name.
    pub purpose: String,
}

impl FileRecord {
    /// The file as clients see it.
    pub fn to_object(&self) -> Value {
        json!({
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": null,
        })
    }
}

/// The parts of an upload's form that are not the file.
#[derive(Debug, Default)]
pub struct UploadForm {
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<u64>,
}

impl UploadForm {
    /// Longest value of one of these parts, in bytes.
    pub const MAX_VALUE: usize = 256;

    /// Takes a part.
    ///
    /// # Errors
    /// A 400 for a part that is unknown or that can't be honoured.
    pub fn take(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "purpose" if value == BATCH || INPUTS.contains(&value) => self.purpose = Some(value.to_owned()),
            "purpose" => {
                let shown = shorten(value, 60);
                let message = format!(
                    "Files with the purpose '{shown}' have no use on this server. Known are {PURPOSES}."
                );
                return Err(ApiError::invalid("purpose", message));
            }
            "expires_after[anchor]" if value == "created_at" => self.anchor = Some(value.to_owned()),
            "expires_after[anchor]" => {
                let message = "`expires_after[anchor]` must be 'created_at'.";
                return Err(ApiError::invalid("expires_after.anchor", message));
            }
            "expires_after[seconds]" => match value.parse().ok().filter(|n| EXPIRES_AFTER.contains(n)) {
                Some(seconds) => self.seconds = Some(seconds),
                None => {
                    let (least, most) = (EXPIRES_AFTER.start(), EXPIRES_AFTER.end());
                    let message =
                        format!("`expires_after[seconds]` must be a number from {least} to {most}.");
                    return Err(ApiError::invalid("expires_after.seconds", message));
                }
            },
            _ => {
                let name = shorten(name, 80);
                return Err(ApiError::invalid(&name, format!("There is no form field `{name}`.")));
            }
        }
        Ok(())
    }

    /// Whether the file is a batch's, as far as it is known: the parts may come in any order.
    pub fn is_batch(&self) -> Option<bool> {
        self.purpose.as_ref().map(|purpose| purpose == BATCH)
    }

    /// Checks that nothing is missing; tells the purpose, and after how many seconds the file expires, if the client
    /// says so.
    ///
    /// # Errors
    /// A 400 that names the missing part.
    pub fn finish(self) -> Result<(String, Option<u64>), ApiError> {
        let Some(purpose) = self.purpose else {
            return Err(ApiError::invalid("purpose", format!("`purpose` is required: one of {PURPOSES}.")));
        };
        if self.anchor.is_some() != self.seconds.is_some() {
            let message = "`expires_after` needs both `anchor` and `seconds`.";
            return Err(ApiError::invalid("expires_after", message));
        }
        Ok((purpose, self.seconds))
    }
}

/// A file's name without its folders, of a bounded length.
pub fn file_name(given: Option<&str>) -> String {
    let name = given.and_then(|name| name.rsplit(['/', '\\']).next()).unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_FILENAME).collect();
    if name.is_empty() { "file".to_owned() } else { name }
}

/// Refuses a line that isn't a JSON object; `number` counts from 1. Lines of white space pass.
///
/// # Errors
/// A 400 that names the line.
pub fn check_line(number: u32, line: &[u8], limits: &Limits) -> Result<(), ApiError> {
    if number > MAX_LINES {
        let message = format!("A file may have at most {MAX_LINES} lines. Split it into several.");
        return Err(ApiError::invalid("file", message));
    }
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    parse_body(line, limits).map(drop).map_err(|error| {
        let reason = error.message.replace("The request body", "it");
        ApiError::invalid("file", format!("Line {number} of the file can't be used: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_folders() {
        for (given, name) in [
            (Some("a.jsonl"), "a.jsonl"),
            (Some("../../etc/passwd"), "passwd"),
            (Some("C:\\x\\y.jsonl"), "y.jsonl"),
            (Some("a\r\nb"), "ab"),
            (Some(""), "file"),
            (None, "file"),
        ] {
            assert_eq!(file_name(given), name);
        }
        assert_eq!(file_name(Some(&"x".repeat(999))).len(), MAX_FILENAME);
    }

    #[test]
    fn forms_are_read_strictly() {
        let read = |parts: &[(&str, &str)]| {
            let mut form = UploadForm::default();
            parts.iter().try_for_each(|(name, value)| form.take(name, value))?;
            form.finish()
        };
        let purpose = ("purpose", "batch");
        assert_eq!(read(&[purpose]).unwrap(), ("batch".to_owned(), None));
        assert_eq!(read(&[("purpose", "user_data")]).unwrap().0, "user_data");
        let anchor = ("expires_after[anchor]", "created_at");
        assert_eq!(read(&[anchor, ("expires_after[seconds]", "3600"), purpose]).unwrap().1, Some(3600));
        for (parts, param) in [
            (&[][..], "purpose"),
            (&[("purpose", "fine-tune")], "purpose"),
            (&[purpose, anchor], "expires_after"),
            (&[purpose, ("expires_after[seconds]", "1")], "expires_after.seconds"),
            (&[purpose, ("expires_after[anchor]", "now")], "expires_after.anchor"),
            (&[purpose, ("other", "1")], "other"),
        ] {
            assert_eq!(read(parts).unwrap_err().param.as_deref(), Some(param));
        }
    }

    #[test]
    fn lines_are_objects() {
        let limits = Limits { max_json_depth: 3, ..Limits::default() };
        for line in [&b"{}\n"[..], b"{\"a\": [1]}", b" \r\n", b""] {
            check_line(1, line, &limits).unwrap();
        }
        for line in [&b"[]"[..], b"{", b"x", b"\xff", b"{} {}", b"{\"a\":[[[]]]}"] {
            let error = check_line(7, line, &limits).unwrap_err();
            assert!(error.message.starts_with("Line 7 of the file can't be used: it"), "{error}");
        }
        assert!(check_line(MAX_LINES + 1, b"{}", &limits).is_err());
        assert!(check_line(MAX_LINES + 1, b"\n", &limits).is_err());
    }
}
