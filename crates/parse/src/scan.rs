//! How the grammar reads: a cursor over text that arrives in pieces.
//!
//! The grammar is written as `async` functions that read character after character, as if the whole output were
//! there; where it isn't yet, they wait. What they do can depend on the text alone and never on how it was cut, so
//! that a streamed output and a whole one give the same events by construction. There is no runtime: a parser polls
//! its one future when text comes in ([`crate::Parser::push`]).

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use crate::event::Event;
use crate::output::Output;
use crate::tools::Tools;

/// Longest run of white space that is looked past before deciding what follows it.
pub(crate) const MAX_GAP: usize = 256;

/// Where the parser and its future hand things over. The future runs only while the parser polls it, so the lock is
/// always free; it is there because a parser may move between threads.
#[derive(Debug, Default)]
pub(crate) struct Port {
    input: String,
    ended: bool,
    events: Vec<Event>,
    in_reasoning: bool,
}

/// A port's two ends share this.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedPort(Arc<Mutex<Port>>);

impl SharedPort {
    fn with<T>(&self, work: impl FnOnce(&mut Port) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands text in; `None` is the end.
    pub(crate) fn put(&self, text: Option<&str>) {
        self.with(|port| match text {
            Some(text) => port.input.push_str(text),
            None => port.ended = true,
        });
    }

    /// Whether what comes next is reasoning.
    pub(crate) fn in_reasoning(&self) -> bool {
        self.with(|port| port.in_reasoning)
    }

    /// Takes what came out.
    pub(crate) fn take(&self, into: &mut Vec<Event>) {
        self.with(|port| into.append(&mut port.events));
    }
}

/// Why a call that seemed to begin didn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The text says otherwise: it was text all along.
    Other,
    /// The output ended first.
    End,
}

/// The grammar's view of the world.
#[derive(Debug)]
pub(crate) struct Scan {
    port: SharedPort,
    buffer: String,
    /// Byte offset of the cursor.
    at: usize,
    /// Byte offset from which the text is kept, because it may turn out to be text.
    mark: Option<usize>,
    pub(crate) out: Output,
    pub(crate) tools: Arc<Tools>,
}

impl Scan {
    pub(crate) fn new(port: SharedPort, out: Output, tools: Arc<Tools>) -> Self {
        Self { port, buffer: String::new(), at: 0, mark: None, out, tools }
    }

    /// What has come and isn't read.
    pub(crate) fn rest(&self) -> &str {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Waits for more text; `false` at the end.
    pub(crate) async fn more(&mut self) -> bool {
        let keep = self.mark.unwrap_or(self.at);
        self.buffer.drain(..keep);
        self.at -= keep;
        self.mark = self.mark.map(|_| 0);
        poll_fn(|_| {
            self.port.with(|port| {
                if !port.input.is_empty() {
                    self.buffer.push_str(&port.input);
                    port.input.clear();
                    #[cfg(test)]
                    linear_tests::note(self.buffer.len());
                    return Poll::Ready(true);
                }
                port.events.append(&mut self.out.events);
                port.in_reasoning = self.out.in_reasoning();
                if port.ended { Poll::Ready(false) } else { Poll::Pending }
            })
        })
        .await
    }

    /// Hands over the last events.
    pub(crate) fn close(&mut self) {
        self.port.with(|port| port.events.append(&mut self.out.events));
    }

    /// Asks about the text ahead until there is enough of it for an answer. The second argument is whether the text
    /// ends here; then an answer is due.
    pub(crate) async fn decide<T>(&mut self, mut ask: impl FnMut(&str, bool) -> Option<T>) -> Option<T> {
        loop {
            if let Some(answer) = ask(self.rest(), false) {
                return Some(answer);
            }
            if !self.more().await {
                return ask(self.rest(), true);
            }
        }
    }

    /// The next character.
    pub(crate) async fn peek(&mut self) -> Option<char> {
        loop {
            if let Some(c) = self.rest().chars().next() {
                return Some(c);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads a character.
    pub(crate) async fn next(&mut self) -> Option<char> {
        let c = self.peek().await?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Moves on by some bytes of [`Self::rest`].
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.at = self.buffer.floor_char_boundary(self.at + bytes);
    }

    /// Which of the markers comes next: the longest, if there are several.
    pub(crate) async fn at_any(&mut self, markers: &[&'static str]) -> Option<&'static str> {
        self.decide(|rest, ended| starts_with_any(rest, ended, markers)).await.flatten()
    }

    /// Reads a marker if it comes next.
    pub(crate) async fn eat_any(&mut self, markers: &[&'static str]) -> Option<&'static str> {
        let marker = self.at_any(markers).await?;
        self.skip(marker.len());
        Some(marker)
    }

    /// Reads this text if it comes next.
    pub(crate) async fn eat(&mut self, marker: &'static str) -> bool {
        self.eat_any(&[marker]).await.is_some()
    }

    /// Whether the output ends inside of one of these markers. To be asked after [`Self::at_any`] has found none of
    /// them, which waits while there could be one.
    pub(crate) fn is_cut(&self, markers: &[&'static str]) -> bool {
        let rest = self.rest();
        !rest.is_empty() && markers.iter().any(|marker| marker.starts_with(rest) && *marker != rest)
    }

    /// Reads white space and says what comes after it.
    pub(crate) async fn skip_blank(&mut self) -> Option<char> {
        loop {
            let c = self.peek().await?;
            if !c.is_whitespace() {
                return Some(c);
            }
            self.skip(c.len_utf8());
        }
    }

    /// From here on the text is kept, see [`Self::marked`].
    pub(crate) fn mark(&mut self) {
        self.mark = Some(self.at);
    }

    /// The text is no longer kept.
    pub(crate) fn unmark(&mut self) {
        self.mark = None;
    }

    /// The text read since the mark.
    pub(crate) fn marked(&self) -> &str {
        self.mark.and_then(|mark| self.buffer.get(mark..self.at)).unwrap_or_default()
    }
}

/// The longest marker that `rest` begins with; the outer `None` asks for more text.
pub(crate) fn starts_with_any(
    rest: &str,
    ended: bool,
    markers: &[&'static str],
) -> Option<Option<&'static str>> {
    let best = markers.iter().copied().filter(|m| rest.starts_with(m)).max_by_key(|m| m.len());
    let could_be = |m: &&&str| m.len() > best.map_or(0, str::len) && m.starts_with(rest);
    if !ended && markers.iter().any(|m| could_be(&m)) {
        return None;
    }
    Some(best)
}

/// Whether `rest` is `first`, perhaps white space, and one of `then`. Where the output ends after `first`, this is
/// `at_end`.
pub(crate) fn is_sequence(
    rest: &str,
    ended: bool,
    first: &str,
    then: &[&'static str],
    at_end: bool,
) -> Option<bool> {
    if !rest.starts_with(first) {
        return if !ended && first.starts_with(rest) { None } else { Some(false) };
    }
    let after = &rest[first.len()..];
    let follows = after.trim_start();
    if after.len() - follows.len() > MAX_GAP {
        return Some(false);
    }
    if ended && then.iter().any(|marker| marker.starts_with(follows)) && !then.contains(&follows) {
        return Some(at_end);
    }
    starts_with_any(follows, ended, then).map(|marker| marker.is_some())
}

#[cfg(test)]
mod linear_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_wait_for_the_longest() {
        let markers = &["<a", "<a>b"];
        assert_eq!(starts_with_any("<", false, markers), None);
        assert_eq!(starts_with_any("<", true, markers), Some(None));
        assert_eq!(starts_with_any("<a", false, markers), None);
        assert_eq!(starts_with_any("<a", true, markers), Some(Some("<a")));
        assert_eq!(starts_with_any("<ab", false, markers), Some(Some("<a")));
        assert_eq!(starts_with_any("<a>b", false, markers), Some(Some("<a>b")));
        assert_eq!(starts_with_any("x", false, markers), Some(None));
    }

    #[test]
    fn sequences_look_past_white_space() {
        let ask = |rest, ended| is_sequence(rest, ended, "</p>", &["<p", "</f>"], true);
        assert_eq!(ask("</p", false), None);
        assert_eq!(ask("</p>", false), None);
        assert_eq!(ask("</p>", true), Some(true));
        assert_eq!(ask("</p> <", true), Some(true));
        assert_eq!(ask("</p> \n<p", false), Some(true));
        assert_eq!(ask("</p> \n<", false), None);
        assert_eq!(ask("</p> x", false), Some(false));
        assert_eq!(ask("</q", false), Some(false));
        assert_eq!(ask(&("</p>".to_owned() + &" ".repeat(300)), false), Some(false));
    }
}
