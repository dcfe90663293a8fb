//! Finds the objects of a file.
//!
//! The file is searched for objects instead of trusting its cross-reference table: tables are often wrong, and in a sound
//! file the last object of a number is the one that counts, with or without a table.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use crate::{
    PdfError,
    budget::Budget,
    filters,
    lexer::{Item, Lexer, is_space},
    object::{Dict, Object, Stream},
};

/// Most references that lead to each other.
const MAX_CHAIN: usize = 16;

/// Most objects of one object stream.
const MAX_PACKED: usize = 1 << 20;

/// A file's bytes and where its objects lie.
pub(crate) struct File<'a> {
    data: &'a [u8],
    pub(crate) budget: &'a Budget,
    places: HashMap<u32, Place>,
    /// The contents of object streams.
    packed: Vec<Vec<u8>>,
    /// The document's catalog.
    root: Object,
    encrypted: bool,
}

#[derive(Debug, Clone)]
enum Place {
    /// In the file, behind the word `obj`; with the bytes of its stream.
    Plain { offset: usize, stream: Option<Range<usize>> },
    /// In an object stream.
    Packed { container: usize, offset: usize },
}

impl<'a> File<'a> {
    /// Searches the file.
    ///
    /// # Errors
    /// If the file is encrypted, or the budget is spent.
    pub(crate) fn open(data: &'a [u8], budget: &'a Budget) -> Result<Self, PdfError> {
        let (places, packed) = (HashMap::new(), Vec::new());
        let mut file = Self { data, budget, places, packed, root: Object::Null, encrypted: false };
        file.search()?;
        if file.encrypted { Err(PdfError::Encrypted) } else { Ok(file) }
    }

    fn search(&mut self) -> Result<(), PdfError> {
        let mut pos = 0;
        while let Some(rest) = self.data.get(pos..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with(b"obj")
                && let Some(number) = number_before(self.data, pos)
            {
                pos = self.take_object(number, pos + 3)?;
            } else if rest.starts_with(b"trailer") {
                let mut lexer = Lexer::new(self.data, pos + 7);
                if let Object::Dict(dict) = lexer.object(self.budget)? {
                    self.take_trailer(&dict);
                }
                pos = lexer.pos().max(pos + 7);
            } else {
                pos += 1;
            }
        }
        Ok(())
    }

    /// Notes the object whose text begins at `offset`; returns where the search goes on.
    fn take_object(&mut self, number: u32, offset: usize) -> Result<usize, PdfError> {
        let mut lexer = Lexer::new(self.data, offset);
        let object = lexer.object(self.budget)?;
        let mut end = lexer.pos().max(offset);
        let mut stream = None;
        if let Object::Dict(dict) = object {
            stream = self.find_stream(&dict, end);
            if let Some(range) = &stream {
                end = range.end;
                self.take_stream(&dict, range.clone())?;
            } else if dict.get(&b"Type"[..]).is_some_and(|kind| kind.is_name(b"Catalog"))
                && self.root == Object::Null
            {
                // A trailer that comes later knows better.
                self.root = Object::Ref(number);
            }
        }
        self.places.insert(number, Place::Plain { offset, stream });
        Ok(end)
    }

    /// The bytes of the stream that follows its dictionary, if one does.
    fn find_stream(&self, dict: &Dict, from: usize) -> Option<Range<usize>> {
        let mut lexer = Lexer::new(self.data, from);
        lexer.skip_space();
        let mut start = lexer.pos();
        if !self.data.get(start..)?.starts_with(b"stream") {
            return None;
        }
        start += 6;
        start += match self.data.get(start..)? {
            [b'\r', b'\n', ..] => 2,
            [b'\r' | b'\n', ..] => 1,
            _ => 0,
        };
        // The length is believed if the stream ends there.
        let length = dict.get(&b"Length"[..]).and_then(Object::as_int).and_then(|n| usize::try_from(n).ok());
        if let Some(end) = length.and_then(|length| start.checked_add(length)) {
            let mut lexer = Lexer::new(self.data, end);
            while lexer.peek(0).is_some_and(is_space) {
                lexer.go_to(lexer.pos() + 1);
            }
            if self.data.get(lexer.pos()..).is_some_and(|rest| rest.starts_with(b"endstream")) {
                return Some(start..end);
            }
        }
        let rest = self.data.get(start..)?;
        let end = rest.windows(9).position(|nine| nine == b"endstream").unwrap_or(rest.len());
        Some(start..start + end)
    }

    /// Streams of objects are opened, and those of cross-references have a trailer.
    fn take_stream(&mut self, dict: &Dict, range: Range<usize>) -> Result<(), PdfError> {
        match dict.get(&b"Type"[..]).and_then(Object::as_name) {
            Some(b"XRef") => self.take_trailer(dict),
            Some(b"ObjStm") => self.take_packed(dict, range)?,
            _ => {}
        }
        Ok(())
    }

    fn take_trailer(&mut self, dict: &Dict) {
        if let Some(root) = dict.get(&b"Root"[..]) {
            self.root = root.clone();
        }
        self.encrypted |= dict.get(&b"Encrypt"[..]).is_some_and(|encrypt| *encrypt != Object::Null);
    }

    fn take_packed(&mut self, dict: &Dict, range: Range<usize>) -> Result<(), PdfError> {
        let int = |name: &[u8]| dict.get(name).and_then(Object::as_int).and_then(|n| usize::try_from(n).ok());
        let (Some(count), Some(first)) = (int(b"N"), int(b"First")) else { return Ok(()) };
        let Some(content) = filters::decode(dict, &self.data[range], self.budget)? else { return Ok(()) };
        let container = self.packed.len();
        let mut header = Lexer::new(&content, 0);
        for _ in 0..count.min(MAX_PACKED) {
            self.budget.work(1)?;
            let (Some(number), Some(offset)) = (header.number(), header.number()) else { break };
            if let Ok(number) = u32::try_from(number) {
                let offset = first.saturating_add(offset);
                self.places.insert(number, Place::Packed { container, offset });
            }
        }
        self.packed.push(content);
        Ok(())
    }

    /// The document's catalog, or what stands in its place.
    pub(crate) fn root(&self) -> &Object {
        &self.root
    }

    /// The object that a reference leads to; null if there is none.
    ///
    /// # Errors
    /// If the budget is spent.
    pub(crate) fn resolve<'o>(&self, object: &'o Object) -> Result<Cow<'o, Object>, PdfError> {
        let mut found = Cow::Borrowed(object);
        for _ in 0..MAX_CHAIN {
            let Object::Ref(number) = *found else { return Ok(found) };
            found = Cow::Owned(self.read(number)?);
        }
        Ok(Cow::Owned(Object::Null))
    }

    /// The same for an entry of a dictionary.
    ///
    /// # Errors
    /// As in [`resolve`](Self::resolve).
    pub(crate) fn get<'o>(&self, dict: &'o Dict, name: &[u8]) -> Result<Cow<'o, Object>, PdfError> {
        dict.get(name).map_or(Ok(Cow::Owned(Object::Null)), |object| self.resolve(object))
    }

    fn read(&self, number: u32) -> Result<Object, PdfError> {
        match self.places.get(&number) {
            None => Ok(Object::Null),
            Some(Place::Packed { container, offset }) => {
                let content = self.packed.get(*container).map(Vec::as_slice).unwrap_or_default();
                Lexer::new(content, *offset).object(self.budget)
            }
            Some(Place::Plain { offset, stream }) => {
                let mut lexer = Lexer::new(self.data, *offset);
                let object = match lexer.item(self.budget)? {
                    Item::Object(object) => object,
                    Item::Keyword(_) | Item::End => Object::Null,
                };
                Ok(match (object, stream) {
                    (Object::Dict(dict), Some(range)) => {
                        Object::Stream(Stream { dict, range: range.clone() })
                    }
                    (object, _) => object,
                })
            }
        }
    }

    /// What a stream holds; nothing if it can't be read.
    ///
    /// # Errors
    /// If the budget is spent.
    pub(crate) fn content(&self, stream: &Stream) -> Result<Vec<u8>, PdfError> {
        let raw = self.data.get(stream.range.clone()).unwrap_or_default();
        Ok(filters::decode(&stream.dict, raw, self.budget)?.unwrap_or_default())
    }
}

/// The object's number in `12 0 obj`, where `obj` stands at `pos`.
fn number_before(data: &[u8], pos: usize) -> Option<u32> {
    let (generation, rest) = word_before(data.get(..pos)?)?;
    let (number, _) = word_before(rest)?;
    // No more than a check that it is one.
    let _: u32 = generation.parse().ok()?;
    number.parse().ok()
}

/// The last number of some bytes, and what stands before it.
fn word_before(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let bytes = bytes.trim_ascii_end();
    // No number of an object has more digits.
    let digits = bytes.iter().rev().take(10).take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, word) = bytes.split_at(bytes.len() - digits);
    Some((std::str::from_utf8(word).ok().filter(|word| !word.is_empty())?, rest))
}
