//! Runs the operators of a page as far as text goes.

use std::{collections::HashMap, rc::Rc};

use crate::{
    PdfError,
    file::File,
    font::Font,
    geometry::Matrix,
    layout::{Layout, Run},
    lexer::{Item, Lexer, is_space},
    object::{Dict, Object},
    pages::Page,
};

/// Most forms that draw each other.
const MAX_FORMS: usize = 12;

/// Most saved states.
const MAX_SAVED: usize = 256;

/// Most fonts of a file.
const MAX_FONTS: usize = 4096;

/// Most operands of an operator; the standard's have up to 33.
const MAX_OPERANDS: usize = 64;

/// Pages to text.
pub(crate) struct Interpreter<'a> {
    file: &'a File<'a>,
    layout: Layout,
    /// Fonts by their object's number.
    fonts: HashMap<u32, Rc<Font>>,
    /// How many were read, those without a number included.
    fonts_read: usize,
    /// Glyphs whose text is known, and those whose isn't.
    known: usize,
    unknown: usize,
}

/// What the operators change and `Q` brings back.
#[derive(Clone)]
struct State {
    matrix: Matrix,
    font: Option<Rc<Font>>,
    size: f64,
    char_space: f64,
    word_space: f64,
    /// Share of the width.
    scale: f64,
    leading: f64,
    rise: f64,
}

/// A stream of operators that is being run.
struct Scope<'s> {
    resources: &'s Dict,
    state: State,
    saved: Vec<State>,
    /// Where text and its line are.
    text: Matrix,
    line: Matrix,
    depth: usize,
    /// Fonts of this stream by name, so that each is looked up once.
    fonts: HashMap<Vec<u8>, Option<Rc<Font>>>,
}

impl<'a> Interpreter<'a> {
    pub(crate) fn new(file: &'a File<'a>, max_chars: usize) -> Self {
        Self {
            file,
            layout: Layout::new(max_chars),
            fonts: HashMap::new(),
            fonts_read: 0,
            known: 0,
            unknown: 0,
        }
    }

    /// Takes the text of the next page.
    ///
    /// # Errors
    /// If a limit is passed. What is broken is left out.
    pub(crate) fn page(&mut self, page: &Page) -> Result<(), PdfError> {
        let contents = self.file.resolve(&page.contents)?;
        let parts = match contents.as_ref() {
            Object::Array(parts) => parts.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut content = Vec::new();
        for part in parts {
            if let Object::Stream(stream) = self.file.resolve(part)?.as_ref() {
                content.extend(self.file.content(stream)?);
                content.push(b'\n');
            }
        }
        let state = State {
            matrix: Matrix::IDENTITY,
            font: None,
            size: 0.0,
            char_space: 0.0,
            word_space: 0.0,
            scale: 1.0,
            leading: 0.0,
            rise: 0.0,
        };
        self.run(&content, &page.resources, state, 0)?;
        self.layout.end_page();
        Ok(())
    }

    /// The text of all pages.
    ///
    /// # Errors
    /// If there is none, or most of it can't be told.
    pub(crate) fn finish(self) -> Result<String, PdfError> {
        let text = self.layout.finish();
        if self.unknown > self.known {
            return Err(PdfError::Unreadable);
        }
        if text.is_empty() { Err(PdfError::NoText) } else { Ok(text) }
    }

    fn run(&mut self, content: &[u8], resources: &Dict, state: State, depth: usize) -> Result<(), PdfError> {
        let mut scope = Scope {
            resources,
            state,
            saved: Vec::new(),
            text: Matrix::IDENTITY,
            line: Matrix::IDENTITY,
            depth,
            fonts: HashMap::new(),
        };
        let mut lexer = Lexer::new(content, 0);
        let mut operands = Vec::new();
        loop {
            match lexer.item(self.file.budget)? {
                Item::End => return Ok(()),
                Item::Object(object) if operands.len() < MAX_OPERANDS => operands.push(object),
                Item::Object(_) => operands.clear(),
                Item::Keyword(b"ID") => {
                    skip_picture(content, &mut lexer);
                    operands.clear();
                }
                Item::Keyword(operator) => {
                    self.operator(&mut scope, operator, &operands)?;
                    operands.clear();
                }
            }
        }
    }

    fn operator(
        &mut self,
        scope: &mut Scope<'_>,
        operator: &[u8],
        operands: &[Object],
    ) -> Result<(), PdfError> {
        let number = |index: usize| operands.get(index).and_then(Object::as_number).unwrap_or(0.0);
        let matrix = || Matrix([number(0), number(1), number(2), number(3), number(4), number(5)]);
        match operator {
            b"q" if scope.saved.len() < MAX_SAVED => scope.saved.push(scope.state.clone()),
            b"Q" => scope.state = scope.saved.pop().unwrap_or_else(|| scope.state.clone()),
            b"cm" => scope.state.matrix = matrix().then(scope.state.matrix),
            b"BT" => (scope.text, scope.line) = (Matrix::IDENTITY, Matrix::IDENTITY),
            b"Tf" => {
                scope.state.size = number(1);
                scope.state.font = self.font(scope, operands.first())?;
            }
            b"Tc" => scope.state.char_space = number(0),
            b"Tw" => scope.state.word_space = number(0),
            b"Tz" => scope.state.scale = number(0) / 100.0,
            b"TL" => scope.state.leading = number(0),
            b"Ts" => scope.state.rise = number(0),
            b"Td" => scope.next_line(number(0), number(1)),
            b"TD" => {
                scope.state.leading = -number(1);
                scope.next_line(number(0), number(1));
            }
            b"Tm" => (scope.text, scope.line) = (matrix(), matrix()),
            b"T*" => scope.next_line(0.0, -scope.state.leading),
            b"Tj" => self.show(scope, operands.first())?,
            b"TJ" => {
                for piece in operands.first().and_then(Object::as_array).unwrap_or_default() {
                    match piece.as_number() {
                        Some(back) => scope.advance(-back / 1000.0 * scope.state.size * scope.state.scale),
                        None => self.show(scope, Some(piece))?,
                    }
                }
            }
            b"'" => {
                scope.next_line(0.0, -scope.state.leading);
                self.show(scope, operands.first())?;
            }
            b"\"" => {
                (scope.state.word_space, scope.state.char_space) = (number(0), number(1));
                scope.next_line(0.0, -scope.state.leading);
                self.show(scope, operands.get(2))?;
            }
            b"Do" => self.form(scope, operands.first())?,
            _ => {}
        }
        Ok(())
    }

    /// Shows a string.
    fn show(&mut self, scope: &mut Scope<'_>, string: Option<&Object>) -> Result<(), PdfError> {
        let (Some(Object::String(string)), Some(font)) = (string, scope.state.font.clone()) else {
            return Ok(());
        };
        self.file.budget.work(string.len())?;
        let state = &scope.state;
        let matrix = Matrix::translation(0.0, state.rise).then(scope.text).then(state.matrix);
        let (mut text, mut width) = (String::new(), 0.0);
        for glyph in font.glyphs(string) {
            match glyph.text {
                Some(shown) => {
                    self.known += 1;
                    text.push_str(&shown);
                }
                None => {
                    self.unknown += 1;
                    text.push(char::REPLACEMENT_CHARACTER);
                }
            }
            let word = if glyph.is_space { state.word_space } else { 0.0 };
            width += (glyph.width * state.size + state.char_space + word) * state.scale;
        }
        let run = Run {
            text,
            start: matrix.along(0.0),
            end: matrix.along(width),
            direction: matrix.direction(),
            size: matrix.height() * state.size.abs(),
        };
        scope.advance(width);
        if run.text.is_empty() { Ok(()) } else { self.layout.add(run) }
    }

    /// Draws a form: a stream of operators with a name.
    fn form(&mut self, scope: &Scope<'_>, name: Option<&Object>) -> Result<(), PdfError> {
        if scope.depth == MAX_FORMS {
            return Ok(());
        }
        let Some(Object::Stream(form)) = self.resource(scope, b"XObject", name)? else { return Ok(()) };
        if !form.dict.get(&b"Subtype"[..]).is_some_and(|kind| kind.is_name(b"Form")) {
            return Ok(());
        }
        let mut state = scope.state.clone();
        if let Some([a, b, c, d, e, f]) = self.file.get(&form.dict, b"Matrix")?.as_array() {
            let numbers = [a, b, c, d, e, f].map(|number| number.as_number().unwrap_or(0.0));
            state.matrix = Matrix(numbers).then(state.matrix);
        }
        let own = self.file.get(&form.dict, b"Resources")?;
        let content = self.file.content(&form)?;
        self.run(&content, own.as_dict().unwrap_or(scope.resources), state, scope.depth + 1)
    }

    fn font(&mut self, scope: &mut Scope<'_>, name: Option<&Object>) -> Result<Option<Rc<Font>>, PdfError> {
        let Some(name) = name.and_then(Object::as_name) else { return Ok(None) };
        if let Some(font) = scope.fonts.get(name) {
            return Ok(font.clone());
        }
        let font = self.find_font(scope, name)?;
        scope.fonts.insert(name.to_vec(), font.clone());
        Ok(font)
    }

    fn find_font(&mut self, scope: &Scope<'_>, name: &[u8]) -> Result<Option<Rc<Font>>, PdfError> {
        let fonts = self.file.get(scope.resources, b"Font")?;
        let Some(entry) = fonts.as_dict().and_then(|fonts| fonts.get(name)) else { return Ok(None) };
        if let Object::Ref(number) = entry
            && let Some(font) = self.fonts.get(number)
        {
            return Ok(Some(font.clone()));
        }
        let dict = self.file.resolve(entry)?;
        let Some(dict) = dict.as_dict() else { return Ok(None) };
        self.fonts_read += 1;
        if self.fonts_read > MAX_FONTS {
            return Err(PdfError::TooMuchData);
        }
        let font = Rc::new(Font::read(self.file, dict)?);
        if let Object::Ref(number) = entry {
            self.fonts.insert(*number, font.clone());
        }
        Ok(Some(font))
    }

    /// What a name stands for among the resources of a kind.
    fn resource(
        &self,
        scope: &Scope<'_>,
        kind: &[u8],
        name: Option<&Object>,
    ) -> Result<Option<Object>, PdfError> {
        let all = self.file.get(scope.resources, kind)?;
        let entry = all.as_dict().zip(name.and_then(Object::as_name)).and_then(|(all, name)| all.get(name));
        entry.map(|entry| Ok(self.file.resolve(entry)?.into_owned())).transpose()
    }
}

impl Scope<'_> {
    fn next_line(&mut self, x: f64, y: f64) {
        self.line = Matrix::translation(x, y).then(self.line);
        self.text = self.line;
    }

    fn advance(&mut self, x: f64) {
        self.text = Matrix::translation(x, 0.0).then(self.text);
    }
}

/// Goes over the bytes of a picture inside of the operators, up to its `EI`.
fn skip_picture(content: &[u8], lexer: &mut Lexer<'_>) {
    let rest = content.get(lexer.pos()..).unwrap_or_default();
    let is_end = |four: &[u8]| is_space(four[0]) && four[1..3] == *b"EI" && is_space(four[3]);
    let end = rest.windows(4).position(is_end).map_or(rest.len(), |at| at + 3);
    lexer.go_to(lexer.pos() + end);
}
