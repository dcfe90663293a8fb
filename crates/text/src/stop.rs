//! Stop strings over a stream of text.

/// Finds stop strings wherever the stream is cut, and holds back only text that may still become one.
///
/// The match that ends first wins; of two that end together, the longer one. So the result does not depend on how
/// the text arrives.
#[derive(Debug, Clone)]
pub struct StopChecker {
    stops: Vec<String>,
    include: bool,
    /// Text not released yet: a proper prefix of some stop string.
    held: String,
}

impl StopChecker {
    /// `include`: a matched stop string stays in the text. Empty stop strings are ignored.
    pub fn new(stops: Vec<String>, include: bool) -> Self {
        let stops = stops.into_iter().filter(|s| !s.is_empty()).collect();
        Self { stops, include, held: String::new() }
    }

    /// Takes new text and appends to `out` what cannot be part of a stop string any more. Returns the stop string
    /// that was found; then the text is over and nothing may be pushed after it.
    ///
    /// With `check` false (below `min_tokens`) the text passes and can't become part of a match.
    pub fn push(&mut self, text: &str, check: bool, out: &mut String) -> Option<&str> {
        if !check || self.stops.is_empty() {
            out.push_str(&self.held);
            out.push_str(text);
            self.held.clear();
            return None;
        }
        // `held` has no match in itself, so a match ends inside `text`.
        self.held.push_str(text);
        if let Some((start, end, stop)) = self.first_match() {
            out.push_str(&self.held[..if self.include { end } else { start }]);
            self.held.clear();
            return Some(&self.stops[stop]);
        }
        let keep = self.open_suffix();
        let release = self.held.len() - keep;
        out.push_str(&self.held[..release]);
        self.held.drain(..release);
        None
    }

    /// Ends the stream: what was held back is text.
    pub fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Start, end and index of the match that ends first.
    fn first_match(&self) -> Option<(usize, usize, usize)> {
        let matches = self.stops.iter().enumerate().filter_map(|(index, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start, start + stop.len(), index))
        });
        matches.min_by_key(|(start, end, _)| (*end, *start))
    }

    /// Length of the longest suffix of the held text that starts a stop string.
    fn open_suffix(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        let tails = (from..self.held.len()).filter(|i| self.held.is_char_boundary(*i));
        tails
            .map(|i| &self.held[i..])
            .find(|tail| self.stops.iter().any(|stop| stop.starts_with(tail)))
            .map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Searches the whole text.
    fn naive(text: &str, stops: &[String], include: bool) -> (String, Option<String>) {
        let found = stops
            .iter()
            .filter(|s| !s.is_empty())
            .filter_map(|s| text.find(s.as_str()).map(|start| (start + s.len(), start, s)))
            .min_by_key(|(end, start, _)| (*end, *start));
        match found {
            Some((end, start, stop)) => {
                (text[..if include { end } else { start }].to_owned(), Some(stop.clone()))
            }
            None => (text.to_owned(), None),
        }
    }

    fn streamed(chunks: &[String], stops: &[String], include: bool) -> (String, Option<String>) {
        let mut checker = StopChecker::new(stops.to_vec(), include);
        let mut out = String::new();
        for chunk in chunks {
            if let Some(stop) = checker.push(chunk, true, &mut out) {
                let stop = stop.to_owned();
                return (out, Some(stop));
            }
        }
        checker.finish(&mut out);
        (out, None)
    }

    proptest! {
        #[test]
        fn any_split_finds_what_a_whole_search_finds(
            chunks in prop::collection::vec("[abé]{0,4}", 0..12),
            stops in prop::collection::vec("[abé]{1,5}", 0..4),
            include: bool,
        ) {
            prop_assert_eq!(streamed(&chunks, &stops, include), naive(&chunks.concat(), &stops, include));
        }

        #[test]
        fn nothing_is_held_that_cannot_become_a_stop(chunks in prop::collection::vec("[abc]{0,4}", 1..8)) {
            let stops = ["abca".to_owned(), "cc".to_owned()];
            let mut checker = StopChecker::new(stops.to_vec(), false);
            let mut out = String::new();
            for chunk in &chunks {
                if checker.push(chunk, true, &mut out).is_some() {
                    return Ok(());
                }
                prop_assert!(checker.held.is_empty() || stops.iter().any(|s| s.starts_with(&checker.held)));
            }
        }
    }

    #[test]
    fn text_below_min_tokens_neither_stops_nor_starts_a_match() {
        let mut checker = StopChecker::new(vec!["END".into()], false);
        let mut out = String::new();
        assert_eq!(checker.push("xEND yE", false, &mut out), None);
        assert_eq!(checker.push("ND", true, &mut out), None);
        assert_eq!(checker.push("END", true, &mut out), Some("END"));
        assert_eq!(out, "xEND yEND");
    }
}
