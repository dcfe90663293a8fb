//! Reads objects and keywords out of bytes. What is broken is read as far as it goes.

use crate::{
    PdfError,
    budget::Budget,
    object::{Dict, Object},
};

/// Most arrays and dictionaries inside of each other.
const MAX_DEPTH: usize = 48;

/// Most objects inside of one object: a parsed one takes far more memory than its text.
const MAX_PARTS: usize = 1 << 20;

/// What stands next.
#[derive(Debug, PartialEq)]
pub(crate) enum Item<'a> {
    Object(Object),
    /// An operator, or a delimiter that stands where it shouldn't.
    Keyword(&'a [u8]),
    End,
}

pub(crate) struct Lexer<'a> {
    data: &'a [u8],
    pos: usize,
    /// Objects that the one which is being read may still have.
    parts: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(data: &'a [u8], pos: usize) -> Self {
        Self { data, pos, parts: 0 }
    }

    /// The place of the next byte.
    pub(crate) fn pos(&self) -> usize {
        self.pos.min(self.data.len())
    }

    pub(crate) fn go_to(&mut self, pos: usize) {
        self.pos = pos;
    }

    /// The next object or keyword.
    ///
    /// # Errors
    /// If the budget is spent.
    pub(crate) fn item(&mut self, budget: &Budget) -> Result<Item<'a>, PdfError> {
        self.parts = MAX_PARTS;
        self.item_at(budget, 0)
    }

    /// The next object; null if a keyword stands there.
    ///
    /// # Errors
    /// As in [`item`](Self::item).
    pub(crate) fn object(&mut self, budget: &Budget) -> Result<Object, PdfError> {
        Ok(match self.item(budget)? {
            Item::Object(object) => object,
            Item::Keyword(_) | Item::End => Object::Null,
        })
    }

    /// A whole number that isn't negative.
    pub(crate) fn number(&mut self) -> Option<usize> {
        self.skip_space();
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn item_at(&mut self, budget: &Budget, depth: usize) -> Result<Item<'a>, PdfError> {
        budget.work(1)?;
        self.skip_space();
        let Some(byte) = self.peek(0) else { return Ok(Item::End) };
        let object = match byte {
            b'/' => self.name(),
            b'(' => self.string(),
            b'<' if self.peek(1) == Some(b'<') => return self.dict(budget, depth).map(Item::Object),
            b'<' => self.hex_string(),
            b'[' => return self.array(budget, depth).map(Item::Object),
            b'0'..=b'9' | b'+' | b'-' | b'.' => self.real_or_int(),
            b'>' if self.peek(1) == Some(b'>') => return Ok(Item::Keyword(self.take(2))),
            b']' | b'>' | b'{' | b'}' | b')' => return Ok(Item::Keyword(self.take(1))),
            _ => match self.take_while(is_regular) {
                b"null" => Object::Null,
                b"true" => Object::Bool(true),
                b"false" => Object::Bool(false),
                keyword => return Ok(Item::Keyword(keyword)),
            },
        };
        Ok(Item::Object(object))
    }

    fn array(&mut self, budget: &Budget, depth: usize) -> Result<Object, PdfError> {
        self.pos += 1;
        Ok(Object::Array(self.entries(budget, depth, b"]")?))
    }

    fn dict(&mut self, budget: &Budget, depth: usize) -> Result<Object, PdfError> {
        self.pos += 2;
        let mut dict = Dict::new();
        let mut name = None;
        for object in self.entries(budget, depth, b">>")? {
            match (name.take(), object) {
                (None, Object::Name(key)) => name = Some(key),
                (None, _) => {}
                (Some(key), value) => drop(dict.insert(key, value)),
            }
        }
        Ok(Object::Dict(dict))
    }

    /// The objects up to `end`; references are put together.
    fn entries(&mut self, budget: &Budget, depth: usize, end: &[u8]) -> Result<Vec<Object>, PdfError> {
        if depth >= MAX_DEPTH {
            return Err(PdfError::TooMuchData);
        }
        let mut list = Vec::new();
        loop {
            let before = self.pos;
            match self.item_at(budget, depth + 1)? {
                Item::Object(object) => {
                    self.parts = self.parts.checked_sub(1).ok_or(PdfError::TooMuchData)?;
                    list.push(object);
                }
                Item::End => break,
                Item::Keyword(keyword) if keyword == end => break,
                Item::Keyword(b"R") => make_ref(&mut list),
                // The object ends without its bracket: its end belongs to whoever reads on.
                Item::Keyword(b"endobj" | b"obj" | b"stream" | b"endstream") => {
                    self.pos = before;
                    break;
                }
                Item::Keyword(_) => {}
            }
        }
        Ok(list)
    }

    fn name(&mut self) -> Object {
        self.pos += 1;
        let raw = self.take_while(is_regular);
        let mut name = Vec::with_capacity(raw.len());
        let mut at = 0;
        while let Some(&byte) = raw.get(at) {
            let escaped = raw.get(at + 1..at + 3).filter(|_| byte == b'#').and_then(hex_pair);
            name.push(escaped.unwrap_or(byte));
            at += if escaped.is_some() { 3 } else { 1 };
        }
        Object::Name(name)
    }

    fn string(&mut self) -> Object {
        self.pos += 1;
        let (mut text, mut open) = (Vec::new(), 1);
        while let Some(byte) = self.peek(0) {
            self.pos += 1;
            match byte {
                b'(' => open += 1,
                b')' => {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                }
                b'\\' => {
                    text.extend(self.escape());
                    continue;
                }
                _ => {}
            }
            text.push(byte);
        }
        Object::String(text)
    }

    /// What stands for the characters behind a backslash.
    fn escape(&mut self) -> Option<u8> {
        let byte = self.peek(0)?;
        self.pos += 1;
        match byte {
            b'n' => Some(b'\n'),
            b'r' => Some(b'\r'),
            b't' => Some(b'\t'),
            b'b' => Some(8),
            b'f' => Some(12),
            // The line goes on.
            b'\r' => {
                self.pos += usize::from(self.peek(0) == Some(b'\n'));
                None
            }
            b'\n' => None,
            b'0'..=b'7' => {
                let mut value = u32::from(byte - b'0');
                for _ in 0..2 {
                    let Some(digit @ b'0'..=b'7') = self.peek(0) else { break };
                    self.pos += 1;
                    value = value * 8 + u32::from(digit - b'0');
                }
                Some((value & 0xff) as u8)
            }
            other => Some(other),
        }
    }

    fn hex_string(&mut self) -> Object {
        self.pos += 1;
        let raw = self.take_while(|byte| byte != b'>');
        self.pos += 1;
        let digits: Vec<u8> = raw.iter().copied().filter(u8::is_ascii_hexdigit).collect();
        // A last digit without its second counts as if that were 0.
        let pair = |pair: &[u8]| match pair {
            [high, low] => hex_pair(&[*high, *low]),
            [high] => hex_pair(&[*high, b'0']),
            _ => None,
        };
        Object::String(digits.chunks(2).filter_map(pair).collect())
    }

    fn real_or_int(&mut self) -> Object {
        let raw = self.take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.'));
        let text = std::str::from_utf8(raw).unwrap_or_default();
        if let Ok(value) = text.parse::<i64>() {
            return Object::Int(value);
        }
        // Some writers make `--5` and `1.-2`; the number ends where it stops being one.
        let text = text.trim_start_matches(['-', '+']);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let sign = if raw.first() == Some(&b'-') { -1.0 } else { 1.0 };
        Object::Real(text[..end].parse::<f64>().map_or(0.0, |value| sign * value))
    }

    /// Over white space and comments.
    pub(crate) fn skip_space(&mut self) {
        while let Some(byte) = self.peek(0) {
            if byte == b'%' {
                self.take_while(|byte| byte != b'\n' && byte != b'\r');
            } else if !is_space(byte) {
                break;
            } else {
                self.pos += 1;
            }
        }
    }

    pub(crate) fn peek(&self, ahead: usize) -> Option<u8> {
        self.data.get(self.pos.checked_add(ahead)?).copied()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let data = self.data;
        let from = self.pos.min(data.len());
        self.pos = from.saturating_add(count).min(data.len());
        &data[from..self.pos]
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let data = self.data;
        let rest = data.get(self.pos..).unwrap_or_default();
        let end = rest.iter().position(|byte| !keep(*byte)).unwrap_or(rest.len());
        self.take(end)
    }
}

/// Makes the last two numbers a reference.
fn make_ref(list: &mut Vec<Object>) {
    if let [.., Object::Int(number), Object::Int(_)] = list[..] {
        list.truncate(list.len() - 2);
        list.push(u32::try_from(number).map_or(Object::Null, Object::Ref));
    }
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low] = pair else { return None };
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, 0 | b'\t' | b'\n' | 12 | b'\r' | b' ')
}

fn is_regular(byte: u8) -> bool {
    !is_space(byte) && !b"()<>[]{}/%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn read(text: &str) -> Object {
        Lexer::new(text.as_bytes(), 0).object(&Budget::new(&Limits::default(), text.len())).unwrap()
    }

    #[test]
    fn objects_are_read() {
        let string = |text: &str| Object::String(text.into());
        assert_eq!(read("% comment\n -12"), Object::Int(-12));
        assert_eq!(read("-.5"), Object::Real(-0.5));
        assert_eq!(read("--4.5"), Object::Real(-4.5));
        assert_eq!(read("/A#42 "), Object::Name(b"AB".to_vec()));
        assert_eq!(
            read(
                r"(a\(b(c)\51\
d\n)"
            ),
            string("a(b(c))d\n")
        );
        assert_eq!(read("<48 656c6C6f2>"), string("Hello "));
        let list = Object::Array(vec![Object::Int(1), Object::Ref(7), Object::Null]);
        assert_eq!(read("[1 7 0 R null]"), list);
        let dict = read("<</A<</B/C>>/D[/E]>>");
        assert!(dict.as_dict().unwrap()[&b"A"[..]].as_dict().unwrap()[&b"B"[..]].is_name(b"C"));
    }

    #[test]
    fn what_is_broken_ends() {
        for text in ["[1 2", "<</A", "(abc", "<12", "/", "", "[1 endobj", "<</A 1 0 R"] {
            read(text);
        }
        let deep = "[".repeat(100_000);
        let mut lexer = Lexer::new(deep.as_bytes(), 0);
        assert_eq!(lexer.item(&Budget::new(&Limits::default(), deep.len())), Err(PdfError::TooMuchData));
    }
}
