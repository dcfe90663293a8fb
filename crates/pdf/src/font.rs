//! Fonts, as far as their codes have text and widths.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    PdfError,
    cmap::{CMap, code},
    encoding::{Base, glyph_text},
    file::File,
    object::{Dict, Object},
    widths,
};

/// A code as it is shown.
pub(crate) struct Glyph<'f> {
    /// `None` if the font doesn't tell.
    pub(crate) text: Option<Cow<'f, str>>,
    /// How far it leads, as a share of the font's size.
    pub(crate) width: f64,
    /// Whether word spacing is added to it.
    pub(crate) is_space: bool,
}

pub(crate) struct Font {
    codes: Codes,
    to_unicode: Option<CMap>,
    widths: Widths,
}

/// How strings are cut into codes, and what those mean by themselves.
enum Codes {
    /// One byte each.
    Simple(Vec<Option<String>>),
    /// Two bytes each, meaning nothing by themselves.
    Pairs,
    /// Two bytes each, which are UTF-16.
    Utf16,
    /// As the font's own map cuts them.
    Mapped(CMap),
}

struct Widths {
    /// By the first code: the last one, and the widths.
    runs: BTreeMap<u32, (u32, Run)>,
    /// For codes without one; `None` goes by the font's name.
    missing: Option<f64>,
    name: Vec<u8>,
}

enum Run {
    Each(Vec<f64>),
    All(f64),
}

impl Font {
    /// Reads a font's dictionary.
    ///
    /// # Errors
    /// If the budget is spent.
    pub(crate) fn read(file: &File<'_>, dict: &Dict) -> Result<Self, PdfError> {
        let to_unicode = match file.get(dict, b"ToUnicode")?.as_ref() {
            Object::Stream(stream) => Some(CMap::read(&file.content(stream)?, file.budget)?),
            _ => None,
        };
        let (codes, widths) = if dict.get(&b"Subtype"[..]).is_some_and(|kind| kind.is_name(b"Type0")) {
            (composite_codes(file, dict)?, composite_widths(file, dict)?)
        } else {
            (Codes::Simple(simple_codes(file, dict)?), simple_widths(file, dict)?)
        };
        Ok(Self { codes, to_unicode, widths })
    }

    /// The codes of a string.
    pub(crate) fn glyphs<'f>(&'f self, string: &'f [u8]) -> impl Iterator<Item = Glyph<'f>> {
        let mut rest = string;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (code, length) = self.next(rest);
            rest = &rest[length.clamp(1, rest.len())..];
            let told = self.to_unicode.as_ref().and_then(|map| map.text(code));
            let text = told.filter(|text| !text.is_empty()).map(Cow::Owned).or_else(|| self.own_text(code));
            Some(Glyph { text, width: self.widths.of(code), is_space: length == 1 && code == 32 })
        })
    }

    fn next(&self, bytes: &[u8]) -> (u32, usize) {
        match &self.codes {
            Codes::Simple(_) => (code(&bytes[..1]), 1),
            Codes::Mapped(map) => map.next(bytes),
            // A pair outside of the basic plane is one code.
            Codes::Utf16 if matches!(bytes, [0xd8..=0xdb, _, _, _, ..]) => (code(&bytes[..4]), 4),
            Codes::Pairs | Codes::Utf16 => {
                let length = bytes.len().min(2);
                (code(&bytes[..length]), length)
            }
        }
    }

    fn own_text(&self, code: u32) -> Option<Cow<'_, str>> {
        match &self.codes {
            Codes::Simple(texts) => {
                let text = texts.get(usize::try_from(code).ok()?)?.as_deref();
                text.map(Cow::Borrowed)
            }
            Codes::Utf16 => {
                let [a, b, c, d] = code.to_be_bytes();
                let units = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
                let text = String::from_utf16(if units[0] == 0 { &units[1..] } else { &units }).ok()?;
                Some(Cow::Owned(text))
            }
            Codes::Pairs | Codes::Mapped(_) => None,
        }
    }
}

/// The texts of all 256 codes, by the font's encoding.
fn simple_codes(file: &File<'_>, dict: &Dict) -> Result<Vec<Option<String>>, PdfError> {
    let encoding = file.get(dict, b"Encoding")?;
    let own = encoding.as_name().or_else(|| encoding.as_dict()?.get(&b"BaseEncoding"[..])?.as_name());
    let is_truetype = dict.get(&b"Subtype"[..]).is_some_and(|kind| kind.is_name(b"TrueType"));
    let name = dict.get(&b"BaseFont"[..]).and_then(Object::as_name).unwrap_or_default();
    let base = if name.ends_with(b"Symbol") {
        Some(Base::Symbol)
    } else if name.ends_with(b"ZapfDingbats") {
        // Pictures.
        None
    } else {
        let default = if is_truetype { Base::WinAnsi } else { Base::Standard };
        Some(own.and_then(Base::named).unwrap_or(default))
    };
    let text = |code: u8| base.and_then(|base| base.char(code)).map(String::from);
    let mut texts: Vec<Option<String>> = (0..=255).map(text).collect();
    if let Some(dict) = encoding.as_dict() {
        let mut code = 0;
        for entry in file.get(dict, b"Differences")?.as_array().unwrap_or_default() {
            match entry {
                Object::Name(name) => {
                    if let Some(text) = texts.get_mut(code) {
                        *text = glyph_text(name);
                    }
                    code = code.saturating_add(1);
                }
                number => code = number.as_int().and_then(|code| usize::try_from(code).ok()).unwrap_or(256),
            }
        }
    }
    Ok(texts)
}

fn simple_widths(file: &File<'_>, dict: &Dict) -> Result<Widths, PdfError> {
    let name = dict.get(&b"BaseFont"[..]).and_then(Object::as_name).unwrap_or_default().to_vec();
    let mut widths = Widths { runs: BTreeMap::new(), missing: None, name };
    let list = file.get(dict, b"Widths")?;
    let Some(list) = list.as_array() else { return Ok(widths) };
    // Fonts whose glyphs are drawn say their own scale.
    let matrix = file.get(dict, b"FontMatrix")?;
    let scale = matrix.as_array().and_then(|m| m.first()).and_then(Object::as_number).unwrap_or(0.001);
    let first = file.get(dict, b"FirstChar")?.as_int().and_then(|code| u32::try_from(code).ok()).unwrap_or(0);
    let descriptor = file.get(dict, b"FontDescriptor")?;
    let missing = descriptor.as_dict().and_then(|d| d.get(&b"MissingWidth"[..])).and_then(Object::as_number);
    widths.missing = Some(missing.unwrap_or(0.0) * scale);
    widths.add(first, numbers(file, list)?.into_iter().map(|width| width * scale).collect());
    Ok(widths)
}

fn composite_codes(file: &File<'_>, dict: &Dict) -> Result<Codes, PdfError> {
    Ok(match file.get(dict, b"Encoding")?.as_ref() {
        Object::Stream(stream) => Codes::Mapped(CMap::read(&file.content(stream)?, file.budget)?),
        Object::Name(name) if name.starts_with(b"Uni") && !name.windows(4).any(|four| four == b"UTF8") => {
            Codes::Utf16
        }
        _ => Codes::Pairs,
    })
}

fn composite_widths(file: &File<'_>, dict: &Dict) -> Result<Widths, PdfError> {
    let mut widths = Widths { runs: BTreeMap::new(), missing: Some(1.0), name: Vec::new() };
    let list = file.get(dict, b"DescendantFonts")?;
    let Some(first) = list.as_array().and_then(|list| list.first()) else { return Ok(widths) };
    let descendant = file.resolve(first)?;
    let Some(descendant) = descendant.as_dict() else { return Ok(widths) };
    if let Some(default) = file.get(descendant, b"DW")?.as_number() {
        widths.missing = Some(default / 1000.0);
    }
    let list = file.get(descendant, b"W")?;
    let mut rest = list.as_array().unwrap_or_default();
    while let [first, second, tail @ ..] = rest {
        let (from, second) = (code_of(first), file.resolve(second)?);
        rest = tail;
        match (second.as_array(), tail) {
            (Some(each), _) => {
                let each = numbers(file, each)?.into_iter().map(|width| width / 1000.0);
                widths.add(from, each.collect());
            }
            (None, [width, tail @ ..]) => {
                let run = Run::All(file.resolve(width)?.as_number().unwrap_or(0.0) / 1000.0);
                widths.runs.insert(from, (code_of(&second), run));
                rest = tail;
            }
            (None, []) => {}
        }
    }
    Ok(widths)
}

fn code_of(object: &Object) -> u32 {
    object.as_int().and_then(|code| u32::try_from(code).ok()).unwrap_or(0)
}

fn numbers(file: &File<'_>, list: &[Object]) -> Result<Vec<f64>, PdfError> {
    list.iter().map(|number| Ok(file.resolve(number)?.as_number().unwrap_or(0.0))).collect()
}

impl Widths {
    fn add(&mut self, first: u32, widths: Vec<f64>) {
        let last = first.saturating_add(u32::try_from(widths.len().saturating_sub(1)).unwrap_or(u32::MAX));
        self.runs.insert(first, (last, Run::Each(widths)));
    }

    fn of(&self, code: u32) -> f64 {
        let found = self.runs.range(..=code).next_back().filter(|(_, (last, _))| code <= *last);
        let width = found.and_then(|(first, (_, run))| match run {
            Run::All(width) => Some(*width),
            Run::Each(widths) => widths.get(usize::try_from(code - first).ok()?).copied(),
        });
        width.or(self.missing).unwrap_or_else(|| widths::standard(&self.name, code))
    }
}
