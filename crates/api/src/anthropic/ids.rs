//! Ids of calls. Anthropic's have letters, digits, `_` and `-` only, and clients may check that; some models write ids
//! of their own, such as `functions.f:0`, and their templates show them again. So those are escaped on the way out and
//! restored when they come back: the model reads what it wrote.

/// What an escaped id begins with.
const ESCAPED: &str = "esc-";

/// The id as clients see it. Different ids stay different.
pub(super) fn escape(id: String) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !id.starts_with(ESCAPED) && id.bytes().all(|byte| plain(byte) || byte == b'-') {
        return id;
    }
    let mut escaped = ESCAPED.to_owned();
    for byte in id.bytes() {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("-{byte:02x}"));
        }
    }
    escaped
}

/// The id as the model wrote it. An id from elsewhere stays as it is.
pub(super) fn restore(id: String) -> String {
    match unescape(&id).filter(|restored| escape(restored.clone()) == id) {
        Some(restored) => restored,
        None => id,
    }
}

fn unescape(id: &str) -> Option<String> {
    let mut pieces = id.strip_prefix(ESCAPED)?.split('-');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (code, plain) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend(plain.bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were() {
        for (id, shown) in [
            ("call_1-a", "call_1-a"),
            ("functions.f:0", "esc-functions-2ef-3a0"),
            ("a-b c", "esc-a-2db-20c"),
            ("é", "esc--c3-a9"),
            ("esc-x", "esc-esc-2dx"),
        ] {
            assert_eq!(escape(id.to_owned()), shown);
            assert_eq!(restore(shown.to_owned()), id);
        }
        for other in
            ["", "esc-", "esc-x", "esc--", "esc--2", "esc--+1", "esc--2E", "esc--ff", "esc-é", "toolu_01"]
        {
            assert_eq!(restore(other.to_owned()), other);
        }
    }
}
