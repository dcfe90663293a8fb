//! Puts runs of characters into lines and words, by where they stand.

use crate::{PdfError, geometry::Point};

/// Characters of one string, as they are drawn.
pub(crate) struct Run {
    pub(crate) text: String,
    pub(crate) start: Point,
    pub(crate) end: Point,
    /// The way the line goes, of length 1.
    pub(crate) direction: Point,
    /// The height of the font.
    pub(crate) size: f64,
}

/// A gap of more than this share of the font's size separates words.
const WORD: f64 = 0.15;

/// Going back by more than this share of the size begins a new line.
const BACK: f64 = 1.5;

/// A shift across the line of more than this share of the size begins a new line; smaller ones are indices.
const LINE: f64 = 0.55;

/// A shift of more than this share of the size begins a paragraph.
const PARAGRAPH: f64 = 1.8;

/// The text so far.
pub(crate) struct Layout {
    text: String,
    chars: usize,
    max_chars: usize,
    last: Option<Run>,
    /// Line breaks that stand before the next character.
    breaks: usize,
}

impl Layout {
    pub(crate) fn new(max_chars: usize) -> Self {
        Self { text: String::new(), chars: 0, max_chars, last: None, breaks: 0 }
    }

    /// Takes the next run.
    ///
    /// # Errors
    /// If the text grows too long.
    pub(crate) fn add(&mut self, run: Run) -> Result<(), PdfError> {
        match self.last.take() {
            Some(last) if is_shadow(&last, &run) => {
                self.last = Some(last);
                return Ok(());
            }
            Some(last) => self.separate(&last, &run)?,
            None => {}
        }
        for char in run.text.chars() {
            self.push_char(char)?;
        }
        self.last = Some(run);
        Ok(())
    }

    /// Ends a page.
    pub(crate) fn end_page(&mut self) {
        self.last = None;
        self.breaks = 2;
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.text.trim().to_owned()
    }

    fn separate(&mut self, last: &Run, run: &Run) -> Result<(), PdfError> {
        let step = Point { x: run.start.x - last.end.x, y: run.start.y - last.end.y };
        let across = Point { x: -last.direction.y, y: last.direction.x };
        let size = last.size.max(run.size).max(f64::MIN_POSITIVE);
        let (ahead, aside) = (step.dot(last.direction) / size, step.dot(across).abs() / size);
        let turned = last.direction.dot(run.direction) < 0.9;
        // Places that are no numbers break the line.
        if turned || !(aside <= LINE && ahead >= -BACK) {
            self.breaks = if aside > PARAGRAPH { 2 } else { 1 };
            return Ok(());
        }
        let is_apart = ahead > WORD && !run.text.starts_with(char::is_whitespace);
        if is_apart && !self.text.ends_with(char::is_whitespace) { self.push(' ') } else { Ok(()) }
    }

    /// Letters in one piece are told apart, and what isn't seen is left out.
    fn push_char(&mut self, char: char) -> Result<(), PdfError> {
        let letters = match char {
            'ﬀ' => "ff",
            'ﬁ' => "fi",
            'ﬂ' => "fl",
            'ﬃ' => "ffi",
            'ﬄ' => "ffl",
            'ﬅ' | 'ﬆ' => "st",
            '\u{a0}' | '\t' => " ",
            '\u{ad}' => "-",
            '\u{feff}' | '\u{200b}' => "",
            _ if char.is_control() => "",
            _ => return self.push(char),
        };
        letters.chars().try_for_each(|letter| self.push(letter))
    }

    fn push(&mut self, char: char) -> Result<(), PdfError> {
        if self.breaks > 0 {
            let kept = self.text.trim_end_matches(' ').len();
            self.chars -= self.text.len() - kept;
            self.text.truncate(kept);
            let breaks = std::mem::take(&mut self.breaks);
            for _ in 0..if kept > 0 { breaks } else { 0 } {
                self.push('\n')?;
            }
        }
        if self.chars == self.max_chars {
            return Err(PdfError::TooMuchText(self.max_chars));
        }
        self.chars += 1;
        self.text.push(char);
        Ok(())
    }
}

/// Whether a run is the last one once more, a hair beside it: some writers make bold letters so.
fn is_shadow(last: &Run, run: &Run) -> bool {
    let (x, y) = (run.start.x - last.start.x, run.start.y - last.start.y);
    last.text == run.text && x.hypot(y) < 0.1 * run.size
}
