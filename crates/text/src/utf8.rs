//! Bytes that arrive in pieces, released as whole characters.

/// Collects bytes and releases text as soon as it is certain. What is no UTF-8 becomes U+FFFD, one per maximal
/// invalid part, so that the released text equals [`String::from_utf8_lossy`] of all bytes, however they were split.
#[derive(Debug, Clone, Default)]
pub(crate) struct Utf8Stream {
    /// The start of a character whose rest hasn't come; at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Adds `bytes` and appends what is certain to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        if self.pending.is_empty() {
            let rest = release(bytes, out);
            self.pending.extend_from_slice(rest);
            return;
        }
        self.pending.extend_from_slice(bytes);
        let kept = release(&self.pending, out).len();
        self.pending.drain(..self.pending.len() - kept);
    }

    /// Ends the stream: a character that was never completed becomes U+FFFD.
    pub(crate) fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }
}

/// Appends all but an incomplete character at the end, and returns that.
fn release<'a>(bytes: &'a [u8], out: &mut String) -> &'a [u8] {
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(text) => {
                out.push_str(text);
                return &[];
            }
            Err(error) => {
                let (valid, bad) = rest.split_at(error.valid_up_to());
                // Always Ok: this is what `valid_up_to` means.
                out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                let Some(length) = error.error_len() else { return bad };
                out.push(char::REPLACEMENT_CHARACTER);
                rest = &bad[length..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_split_equals_the_lossy_whole(pieces in prop::collection::vec(piece(), 0..12)) {
            let mut stream = Utf8Stream::default();
            let mut out = String::new();
            for piece in &pieces {
                stream.push(piece, &mut out);
                prop_assert!(stream.pending.len() <= 3);
            }
            stream.finish(&mut out);
            let whole = pieces.concat();
            prop_assert_eq!(out, String::from_utf8_lossy(&whole));
        }
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..4),
            prop::sample::select(vec![
                vec![0xf0, 0x9f],
                vec![0x98, 0x80],
                vec![0xe4],
                vec![0xbd, 0xa0],
                vec![b'a']
            ]),
        ]
    }

    #[test]
    fn a_character_is_released_with_its_last_byte() {
        let (mut stream, mut out) = (Utf8Stream::default(), String::new());
        for byte in &"é🙂".as_bytes()[..5] {
            stream.push(&[*byte], &mut out);
        }
        assert_eq!(out, "é");
        stream.push(&"🙂".as_bytes()[3..], &mut out);
        assert_eq!(out, "é🙂");
    }
}
