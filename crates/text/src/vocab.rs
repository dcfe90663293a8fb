//! What each token stands for, in bytes.
//!
//! Text is always produced from token bytes, so that streaming and whole-text decoding cannot disagree: both join
//! bytes and read them as UTF-8, invalid parts as U+FFFD.

use serde_json::Value;

/// How a vocabulary writes bytes as pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// GPT-2's table of printable stand-ins for all 256 bytes.
    ByteLevel,
    /// SentencePiece: `▁` is a space, `<0xNN>` a raw byte. `strip`: a text loses the space in front of its first word.
    SentencePiece {
        /// Whether that first space is an artefact of encoding.
        strip: bool,
    },
    /// Pieces are plain text.
    Plain,
}

impl Alphabet {
    /// Reads the `decoder` entry of a `tokenizer.json`.
    pub(crate) fn of(decoder: &Value) -> Self {
        let parts: Vec<&Value> = match decoder.get("decoders").and_then(Value::as_array) {
            Some(parts) => parts.iter().collect(),
            None => vec![decoder],
        };
        let find = |name: &str| parts.iter().find(|p| p.get("type").and_then(Value::as_str) == Some(name));
        if find("ByteLevel").is_some() {
            return Self::ByteLevel;
        }
        if let Some(metaspace) = find("Metaspace") {
            let scheme = metaspace.get("prepend_scheme").and_then(Value::as_str);
            return Self::SentencePiece { strip: scheme != Some("never") };
        }
        if find("ByteFallback").is_some() || find("Replace").is_some() {
            let strip = find("Strip").and_then(|s| s.get("start")).and_then(Value::as_u64);
            return Self::SentencePiece { strip: strip.unwrap_or(0) > 0 };
        }
        Self::Plain
    }

    /// The bytes of a piece of the vocabulary.
    pub(crate) fn bytes(self, piece: &str) -> Vec<u8> {
        match self {
            // A piece with other characters (an added token with a space, say) stands for itself.
            Self::ByteLevel => {
                piece.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| piece.as_bytes().to_vec())
            }
            Self::SentencePiece { .. } => match raw_byte(piece) {
                Some(byte) => vec![byte],
                None => piece.replace('▁', " ").into_bytes(),
            },
            Self::Plain => piece.as_bytes().to_vec(),
        }
    }
}

/// The inverse of GPT-2's byte table: printable Latin-1 characters are themselves, the other 68 bytes follow from
/// U+0100 on, in order.
fn byte_of(c: char) -> Option<u8> {
    let printable = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = c as u32;
    if code < 0x100 {
        return printable(code).then_some(code as u8);
    }
    (0..=255u32).filter(|b| !printable(*b)).nth((code - 0x100) as usize).map(|b| b as u8)
}

/// `<0xNN>`.
fn raw_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Bytes of all tokens in one array.
#[derive(Debug, Default)]
pub(crate) struct TokenBytes {
    bytes: Vec<u8>,
    /// Token t is `bytes[ends[t - 1]..ends[t]]`.
    ends: Vec<u32>,
}

impl TokenBytes {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Empty for ids beyond the vocabulary.
    pub(crate) fn get(&self, token: u32) -> &[u8] {
        let token = token as usize;
        let Some(end) = self.ends.get(token) else { return &[] };
        let start = if token == 0 { 0 } else { self.ends[token - 1] };
        &self.bytes[start as usize..*end as usize]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_byte_table_is_a_bijection() {
        let mut seen: Vec<u8> = (0..0x200).filter_map(|c| byte_of(char::from_u32(c)?)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
    }

    #[test]
    fn alphabets_are_told_by_their_decoder() {
        assert_eq!(Alphabet::of(&json!({"type": "ByteLevel"})), Alphabet::ByteLevel);
        let llama2 = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        assert_eq!(Alphabet::of(&llama2), Alphabet::SentencePiece { strip: true });
        let metaspace = json!({"type": "Metaspace", "prepend_scheme": "never"});
        assert_eq!(Alphabet::of(&metaspace), Alphabet::SentencePiece { strip: false });
        assert_eq!(Alphabet::of(&Value::Null), Alphabet::Plain);
    }

    #[test]
    fn pieces_become_bytes() {
        assert_eq!(Alphabet::ByteLevel.bytes("Ġhi"), b" hi");
        assert_eq!(Alphabet::ByteLevel.bytes("<two words>"), b"<two words>");
        let pieces = Alphabet::SentencePiece { strip: true };
        assert_eq!(pieces.bytes("▁hi"), b" hi");
        assert_eq!(pieces.bytes("<0xE4>"), [0xE4]);
        assert_eq!(pieces.bytes("<0xZZ>"), b"<0xZZ>");
    }
}
