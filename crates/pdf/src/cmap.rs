//! Character maps: how many bytes a code has, and what it stands for.

use std::collections::{BTreeMap, HashMap};

use crate::{
    PdfError,
    budget::Budget,
    lexer::{Item, Lexer},
    object::Object,
};

/// Most objects between two keywords; the standard's blocks have up to 300.
const MAX_OPERANDS: usize = 1 << 17;

/// What keeping an entry costs, in objects that are read.
const ENTRY: usize = 8;

/// Most bytes that one code may stand for.
const MAX_TEXT: usize = 64;

/// A map from a file: `ToUnicode`, or the `Encoding` of a composite font.
#[derive(Debug, Default)]
pub(crate) struct CMap {
    /// Codes that exist: bytes, first and last.
    spaces: Vec<(usize, u32, u32)>,
    chars: HashMap<u32, String>,
    /// By the first code: the last one, and what the first one stands for in UTF-16.
    ranges: BTreeMap<u32, (u32, Vec<u16>)>,
}

impl CMap {
    /// Reads a map as far as it goes.
    ///
    /// # Errors
    /// If the budget is spent.
    pub(crate) fn read(content: &[u8], budget: &Budget) -> Result<Self, PdfError> {
        let mut map = Self::default();
        let mut lexer = Lexer::new(content, 0);
        let mut operands = Vec::new();
        let mut kept = 0;
        loop {
            match lexer.item(budget)? {
                Item::Object(object) if operands.len() < MAX_OPERANDS => operands.push(object),
                Item::Object(_) => {}
                Item::End => break,
                Item::Keyword(keyword) => {
                    match keyword {
                        b"endcodespacerange" => operands.chunks(2).for_each(|pair| map.add_space(pair)),
                        b"endbfchar" => operands.chunks(2).for_each(|pair| map.add_char(pair)),
                        b"endbfrange" => operands.chunks(3).for_each(|three| map.add_range(three)),
                        _ => {}
                    }
                    operands.clear();
                    let entries = map.chars.len() + map.ranges.len();
                    budget.work((entries - kept) * ENTRY)?;
                    kept = entries;
                }
            }
        }
        Ok(map)
    }

    fn add_space(&mut self, pair: &[Object]) {
        if let [Object::String(low), Object::String(high)] = pair
            && (1..=4).contains(&low.len())
        {
            self.spaces.push((low.len(), code(low), code(high)));
            // Few are real; each is looked at for each code.
            self.spaces.truncate(64);
        }
    }

    fn add_char(&mut self, pair: &[Object]) {
        if let [Object::String(from), Object::String(to)] = pair {
            self.chars.insert(code(from), utf16(&units(to)));
        }
    }

    fn add_range(&mut self, three: &[Object]) {
        match three {
            [Object::String(low), Object::String(high), Object::String(to)] => {
                self.ranges.insert(code(low), (code(high), units(to)));
            }
            [Object::String(low), Object::String(_), Object::Array(list)] => {
                for (code, to) in (code(low)..).zip(list) {
                    if let Object::String(to) = to {
                        self.chars.insert(code, utf16(&units(to)));
                    }
                }
            }
            _ => {}
        }
    }

    /// What a code stands for.
    pub(crate) fn text(&self, code: u32) -> Option<String> {
        if let Some(text) = self.chars.get(&code) {
            return Some(text.clone());
        }
        let (low, (high, units)) = self.ranges.range(..=code).next_back()?;
        if code > *high {
            return None;
        }
        let mut units = units.clone();
        let last = units.last_mut()?;
        // The distance is below 2^16 in sound maps.
        *last = last.wrapping_add((code - low) as u16);
        Some(utf16(&units))
    }

    /// The next code and its bytes, by the codes that exist; two bytes if none fits.
    pub(crate) fn next(&self, bytes: &[u8]) -> (u32, usize) {
        for length in 1..=bytes.len().min(4) {
            let code = code(&bytes[..length]);
            let fits =
                |(bytes, low, high): &(usize, u32, u32)| *bytes == length && (*low..=*high).contains(&code);
            if self.spaces.iter().any(fits) {
                return (code, length);
            }
        }
        let length = self.spaces.first().map_or(2, |space| space.0).min(bytes.len());
        (code(&bytes[..length]), length)
    }
}

/// The last four bytes as a number.
pub(crate) fn code(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |code, byte| (code << 8) | u32::from(*byte))
}

fn units(bytes: &[u8]) -> Vec<u16> {
    let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
    match bytes {
        // Against the rules, but seen.
        [one] => vec![u16::from(*one)],
        _ => bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect(),
    }
}

fn utf16(units: &[u16]) -> String {
    char::decode_utf16(units.iter().copied()).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn codes_get_their_text() {
        let map = b"/CMapName /X def 1 begincodespacerange <00> <7f> <8000> <ffff> endcodespacerange
            2 beginbfchar <01> <0041> <02> <d83dde00> endbfchar
            2 beginbfrange <8000> <8002> <0061> <8010> <8011> [<0066006c> <0078>] endbfrange";
        let map = CMap::read(map, &Budget::new(&Limits::default(), map.len())).unwrap();
        let text = |code| map.text(code).unwrap_or_default();
        assert_eq!([text(1), text(2), text(0x8002), text(0x8010), text(0x8011)], ["A", "😀", "c", "fl", "x"]);
        assert_eq!((map.text(3), map.text(0x8003)), (None, None));
        assert_eq!((map.next(&[1, 2]), map.next(&[0x80, 2, 3])), ((1, 1), (0x8002, 2)));
        assert_eq!(map.next(&[0x80]), (0x80, 1));
    }
}
