//! Stop strings in a stream of text.

/// Passes a text stream on until a stop string appears in it.
///
/// Text is held back only while it could still be the start of a stop string. The stop string that is complete
/// first wins; of several that end at the same place, the longest. So the outcome depends on the text alone, not
/// on how it was cut into pieces.
#[derive(Debug, Clone)]
pub struct StopChecker {
    stops: Vec<Matcher>,
    include: bool,
    /// Pieces still exempt from the check.
    exempt: usize,
    /// Text not yet released; always the longest possible start of a stop string.
    held: String,
    matched: Option<usize>,
}

impl StopChecker {
    /// `stops`: the stop strings; empty ones are ignored. `include`: whether the text is cut after the stop string
    /// rather than before it. `min_tokens`: stop strings that end within this many first pieces don't count, which
    /// is why [`push`](Self::push) wants exactly one piece per token if it isn't 0.
    pub fn new<S: AsRef<str>>(stops: &[S], include: bool, min_tokens: usize) -> Self {
        let stops =
            stops.iter().map(AsRef::as_ref).filter(|stop| !stop.is_empty()).map(Matcher::new).collect();
        Self { stops, include, exempt: min_tokens, held: String::new(), matched: None }
    }

    /// Takes the text of the next token (it may be empty) and returns what can be shown now. After a match there
    /// is nothing more to show.
    pub fn push(&mut self, piece: &str) -> String {
        if self.matched.is_some() {
            return String::new();
        }
        let exempt = self.exempt > 0;
        self.exempt = self.exempt.saturating_sub(1);
        if self.stops.is_empty() {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        let start = self.held.len() - piece.len();
        for (at, byte) in piece.bytes().enumerate() {
            if let Some(stop) = self.step(byte)
                && !exempt
            {
                return self.cut(stop, start + at + 1);
            }
        }
        let keep = self.stops.iter().map(|stop| stop.state).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Ends the stream: returns what was held back, as no stop string can come of it any more.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The stop string that was found.
    pub fn matched(&self) -> Option<&str> {
        self.matched.and_then(|index| self.stops.get(index)).map(|stop| stop.text.as_str())
    }

    /// Advances all matchers; returns the longest stop string that this byte completes.
    fn step(&mut self, byte: u8) -> Option<usize> {
        let mut longest: Option<(usize, usize)> = None;
        for (index, stop) in self.stops.iter_mut().enumerate() {
            let length = stop.text.len();
            if stop.step(byte) && longest.is_none_or(|(_, best)| length > best) {
                longest = Some((index, length));
            }
        }
        longest.map(|(index, _)| index)
    }

    fn cut(&mut self, stop: usize, end: usize) -> String {
        let length = self.stops.get(stop).map_or(0, |stop| stop.text.len());
        let mut text = std::mem::take(&mut self.held);
        text.truncate(if self.include { end } else { end - length });
        self.matched = Some(stop);
        text
    }
}

/// Finds one string in a stream of bytes (Knuth, Morris, Pratt 1977): amortised constant time per byte.
#[derive(Debug, Clone)]
struct Matcher {
    text: String,
    /// `fallback[n]`: length of the longest proper prefix of `text` that is also a suffix of `text[..n + 1]`.
    fallback: Vec<usize>,
    /// Length of the longest prefix of `text`, shorter than `text`, that the stream ends with.
    state: usize,
}

impl Matcher {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut fallback = vec![0; bytes.len()];
        for end in 1..bytes.len() {
            let mut length: usize = fallback[end - 1];
            while length > 0 && bytes[length] != bytes[end] {
                length = fallback[length - 1];
            }
            fallback[end] = length + usize::from(bytes[length] == bytes[end]);
        }
        Self { text: text.to_owned(), fallback, state: 0 }
    }

    /// Whether the stream now ends with the whole string.
    fn step(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        while self.state > 0 && bytes[self.state] != byte {
            self.state = self.fallback[self.state - 1];
        }
        self.state += usize::from(bytes[self.state] == byte);
        let complete = self.state == bytes.len();
        if complete {
            self.state = self.fallback[self.state - 1];
        }
        complete
    }
}

#[cfg(test)]
#[path = "stop_tests.rs"]
mod tests;
