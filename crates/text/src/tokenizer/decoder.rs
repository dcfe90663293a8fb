//! How a token's name becomes the bytes it stands for.
//!
//! The decoders of `tokenizers` map a whole list of tokens to a text, and lose bytes that are no UTF-8 on the way.
//! Here the same rules are brought into a form that looks at one token at a time and keeps its bytes. Where the
//! result is valid UTF-8, both agree. In a run of SentencePiece byte tokens that isn't, `tokenizers` replaces the
//! whole run and we replace only the invalid bytes: that is what a stream can do without holding back the run.

use tokenizers::{
    Decoder, DecoderWrapper,
    decoders::{metaspace::Metaspace, strip::Strip, wordpiece::WordPiece},
    normalizers::replace::Replace,
    pre_tokenizers::metaspace::PrependScheme,
};

use super::super::TextError;

/// The steps from a token's name to its bytes.
#[derive(Default)]
pub(super) struct DecodePlan {
    steps: Vec<Step>,
    /// Set once the list of tokens has been joined: later steps see the whole text.
    joined: bool,
    /// Removed at the start of the whole text: this character, up to so many times.
    strip_start: Option<(char, usize)>,
}

enum Step {
    ByteLevel,
    ByteFallback,
    Replace(Replace),
    Metaspace {
        mark: char,
        drop_first: bool,
    },
    Strip(Strip),
    WordPiece(WordPiece),
    /// Without any decoder, tokens are words.
    SpaceBetween,
}

impl DecodePlan {
    pub(super) fn new(decoder: Option<&DecoderWrapper>) -> Result<Self, TextError> {
        let mut plan = Self::default();
        match decoder {
            Some(decoder) => plan.add(decoder)?,
            None => plan.steps.push(Step::SpaceBetween),
        }
        Ok(plan)
    }

    pub(super) fn strip_start(&self) -> Option<(char, usize)> {
        self.strip_start
    }

    /// The bytes of `token`; `first`: it starts the text.
    pub(super) fn bytes(&self, token: &str, first: bool) -> Vec<u8> {
        let mut text = token.to_owned();
        for step in &self.steps {
            text = match step {
                Step::ByteLevel => return byte_level(&text),
                Step::ByteFallback => match fallback_byte(&text) {
                    Some(byte) => return vec![byte],
                    None => text,
                },
                // Fails only if a regular expression runs away; the token's own name is then the best there is.
                Step::Replace(replace) => {
                    replace.decode_chain(vec![text.clone()]).map(|parts| parts.concat()).unwrap_or(text)
                }
                Step::Metaspace { mark, drop_first: true } if first => text.replace(*mark, ""),
                Step::Metaspace { mark, .. } => text.replace(*mark, " "),
                Step::Strip(strip) => strip_token(&text, strip),
                Step::WordPiece(rule) => word_piece(&text, rule, first),
                Step::SpaceBetween if first => text,
                Step::SpaceBetween => format!(" {text}"),
            };
        }
        text.into_bytes()
    }

    fn add(&mut self, decoder: &DecoderWrapper) -> Result<(), TextError> {
        match decoder {
            DecoderWrapper::Sequence(sequence) => {
                return sequence.get_decoders().iter().try_for_each(|decoder| self.add(decoder));
            }
            DecoderWrapper::Fuse(_) => self.joined = true,
            DecoderWrapper::Strip(strip) if self.joined => return self.strip_whole(strip),
            DecoderWrapper::Replace(replace)
                if self.joined && !(self.keeps_text() && replaces_one_char(replace)) =>
            {
                return unsupported("Replace in the joined text");
            }
            DecoderWrapper::Replace(replace) => self.steps.push(Step::Replace(replace.clone())),
            DecoderWrapper::Strip(strip) => self.steps.push(Step::Strip(strip.clone())),
            _ if self.joined => return unsupported("a step after Fuse that depends on the tokens"),
            DecoderWrapper::ByteLevel(_) => {
                self.steps.push(Step::ByteLevel);
                self.joined = true;
            }
            DecoderWrapper::ByteFallback(_) => self.steps.push(Step::ByteFallback),
            DecoderWrapper::Metaspace(metaspace) => self.steps.push(metaspace_step(metaspace)),
            DecoderWrapper::WordPiece(rule) => self.steps.push(Step::WordPiece(rule.clone())),
            DecoderWrapper::BPE(_) => return unsupported("BPEDecoder"),
            DecoderWrapper::CTC(_) => return unsupported("CTC"),
        }
        Ok(())
    }

    /// Whether tokens stay text up to here, so that a later step can still change it.
    fn keeps_text(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step, Step::ByteLevel))
    }

    fn strip_whole(&mut self, strip: &Strip) -> Result<(), TextError> {
        if strip.stop > 0 || self.strip_start.is_some() {
            return unsupported("Strip at the end of the text");
        }
        self.strip_start = Some((strip.content, strip.start));
        Ok(())
    }
}

fn unsupported<T>(reason: &str) -> Result<T, TextError> {
    Err(TextError::UnsupportedDecoder { reason: reason.to_owned() })
}

fn metaspace_step(metaspace: &Metaspace) -> Step {
    let drop_first = metaspace.get_prepend_scheme() != PrependScheme::Never;
    Step::Metaspace { mark: metaspace.get_replacement(), drop_first }
}

/// Whether the pattern can't straddle two tokens. Its field is private, its JSON form isn't.
fn replaces_one_char(replace: &Replace) -> bool {
    let json = serde_json::to_value(replace).unwrap_or_default();
    json["pattern"]["String"].as_str().is_some_and(|pattern| pattern.chars().count() == 1)
}

/// A SentencePiece byte token such as `<0x0A>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 { None } else { u8::from_str_radix(digits, 16).ok() }
}

/// A byte-level token if all its characters are stand-ins for bytes, else plain text (an added token).
fn byte_level(token: &str) -> Vec<u8> {
    token.chars().map(stand_in_byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

/// GPT-2's table (Radford et al. 2019): printable Latin-1 characters stand for themselves, the other 68 bytes are
/// numbered from U+0100 on, in order.
fn stand_in_byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

fn strip_token(text: &str, strip: &Strip) -> String {
    let leading = text.chars().take_while(|c| *c == strip.content).take(strip.start).count();
    let text = &text[leading * strip.content.len_utf8()..];
    let trailing = text.chars().rev().take_while(|c| *c == strip.content).take(strip.stop).count();
    text[..text.len() - trailing * strip.content.len_utf8()].to_owned()
}

fn word_piece(token: &str, rule: &WordPiece, first: bool) -> String {
    let text = match token.strip_prefix(&rule.prefix) {
        _ if first => token.to_owned(),
        Some(rest) => rest.to_owned(),
        None => format!(" {token}"),
    };
    if rule.cleanup { tokenizers::decoders::wordpiece::cleanup(&text) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_exactly_one_stand_in() {
        let mut seen: Vec<u8> = (0..0x200).filter_map(char::from_u32).filter_map(stand_in_byte).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_level("Ġno\u{10a}"), b" no\n");
    }

    #[test]
    fn byte_tokens_are_recognised_by_their_form() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        for other in ["<0xA>", "<0xGG>", "0x0A", "<0x0A", "<0xé>", "<0x0A>>"] {
            assert_eq!(fallback_byte(other), None, "{other}");
        }
    }

    #[test]
    fn decoders_that_need_the_whole_text_are_refused() {
        let ctc = serde_json::from_str::<DecoderWrapper>(
            r#"{"type":"CTC","pad_token":"<pad>","word_delimiter_token":"|","cleanup":true}"#,
        )
        .unwrap();
        assert!(matches!(DecodePlan::new(Some(&ctc)), Err(TextError::UnsupportedDecoder { .. })));
    }
}
