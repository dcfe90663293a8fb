//! Where the grammar writes: merges deltas, numbers calls, and decides about white space.
//!
//! White space that touches markup (a call, a reasoning tag) belongs to the markup: it is left out at the beginning
//! and at the end of a text, and kept between two pieces of text. Text that touches no markup stays as it is.

use std::collections::HashSet;

use crate::event::Event;

/// More white space than this is text in its own right.
const MAX_BLANK: usize = 4096;

/// More text than this isn't held back while it is unknown whether it is reasoning.
const MAX_HELD: usize = 1 << 20;

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Content,
    Reasoning,
    /// Not known yet: held back until [`Output::settle`].
    Undecided,
}

/// A text under way.
#[derive(Debug, Default)]
struct Lane {
    /// White space that isn't certain yet.
    blank: String,
    /// Whether any text went out.
    seen: bool,
    /// Whether markup was the last thing before `blank`.
    edge: bool,
}

/// Collects events.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) events: Vec<Event>,
    content: Lane,
    reasoning: Lane,
    held: String,
    calls: usize,
    complete: usize,
    ids: Ids,
    /// Ids that the model wrote. Some models number the calls of each tool or section anew: an id that comes again is
    /// replaced, because a result couldn't tell which call it answers.
    given: HashSet<String>,
    in_reasoning: bool,
}

impl Output {
    /// `edge`: whether the output follows markup, so that white space at its beginning doesn't count.
    pub(crate) fn new(ids: Ids, edge: bool) -> Self {
        Self {
            events: Vec::new(),
            content: Lane { edge, ..Lane::default() },
            reasoning: Lane { edge: true, ..Lane::default() },
            held: String::new(),
            calls: 0,
            complete: 0,
            ids,
            given: HashSet::new(),
            in_reasoning: false,
        }
    }

    /// Calls begun so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls
    }

    /// Says where the text that comes next belongs.
    pub(crate) fn enter(&mut self, channel: Channel) {
        self.in_reasoning = channel == Channel::Reasoning;
    }

    /// Whether what comes next is reasoning, as far as is known.
    pub(crate) fn in_reasoning(&self) -> bool {
        self.in_reasoning
    }

    /// Whether no text has come since the last markup, or since the beginning.
    pub(crate) fn is_fresh(&self, channel: Channel) -> bool {
        match channel {
            Channel::Undecided => self.held.chars().all(char::is_whitespace),
            Channel::Content => self.content.edge || !self.content.seen,
            Channel::Reasoning => self.reasoning.edge || !self.reasoning.seen,
        }
    }

    /// Whether the next text begins a line, or is fresh.
    pub(crate) fn is_line_start(&self, channel: Channel) -> bool {
        let blank = match channel {
            Channel::Undecided => self.held.rsplit(|c: char| !c.is_whitespace()).next().unwrap_or_default(),
            Channel::Content => &self.content.blank,
            Channel::Reasoning => &self.reasoning.blank,
        };
        blank.contains('\n') || self.is_fresh(channel)
    }

    /// Adds text.
    pub(crate) fn text(&mut self, channel: Channel, text: &str) {
        if channel == Channel::Undecided {
            self.held.push_str(text);
            if self.held.len() > MAX_HELD {
                self.settle(Channel::Content);
            }
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            let start = rest.len() - rest.trim_start().len();
            let (blank, after) = rest.split_at(start);
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (word, after) = after.split_at(end);
            self.piece(channel, blank, word);
            rest = after;
        }
    }

    /// White space, then a word; either may be empty.
    fn piece(&mut self, channel: Channel, blank: &str, word: &str) {
        let lane = self.lane(channel);
        lane.blank.push_str(blank);
        if word.is_empty() && lane.blank.len() <= MAX_BLANK {
            return;
        }
        let mut piece = std::mem::take(&mut lane.blank);
        if lane.edge && !lane.seen {
            piece.clear();
        }
        piece.push_str(word);
        if !word.is_empty() {
            (lane.seen, lane.edge) = (true, false);
        }
        self.emit(channel, &piece);
    }

    fn lane(&mut self, channel: Channel) -> &mut Lane {
        if channel == Channel::Reasoning { &mut self.reasoning } else { &mut self.content }
    }

    fn emit(&mut self, channel: Channel, text: &str) {
        if text.is_empty() {
            return;
        }
        match (channel, self.events.last_mut()) {
            (Channel::Reasoning, Some(Event::Reasoning(last))) => last.push_str(text),
            (Channel::Reasoning, _) => self.events.push(Event::Reasoning(text.to_owned())),
            (_, Some(Event::Text(last))) => last.push_str(text),
            (_, _) => self.events.push(Event::Text(text.to_owned())),
        }
    }

    /// Markup was met: white space around it may not count.
    pub(crate) fn markup(&mut self) {
        self.content.edge = true;
        self.reasoning.edge = true;
    }

    /// A block of reasoning has ended; another one will be set off by a line break.
    pub(crate) fn end_of_block(&mut self, channel: Channel) {
        let lane = self.lane(channel);
        if lane.seen && lane.blank.is_empty() {
            lane.blank.push('\n');
        }
        self.markup();
    }

    /// It is known now where the held text belongs.
    pub(crate) fn settle(&mut self, channel: Channel) {
        let held = std::mem::take(&mut self.held);
        self.text(channel, &held);
    }

    /// The end of the output, met in `channel`.
    pub(crate) fn finish(&mut self, channel: Channel) {
        let channel = if channel == Channel::Undecided { Channel::Content } else { channel };
        self.settle(channel);
        let lane = self.lane(channel);
        if !lane.edge || lane.blank.len() > MAX_BLANK {
            let blank = std::mem::take(&mut lane.blank);
            self.emit(channel, &blank);
        }
        self.events.push(Event::Done { calls: self.complete });
    }

    /// A call begins.
    pub(crate) fn begin_call(&mut self, name: &str, id: Option<String>) {
        self.settle(Channel::Content);
        self.markup();
        self.enter(Channel::Content);
        let index = self.calls;
        self.calls += 1;
        let id = id.filter(|id| self.given.insert(id.clone()));
        let id = id.unwrap_or_else(|| self.ids.make(index));
        self.events.push(Event::ToolCall { index, id, name: name.to_owned() });
    }

    /// More of the call's arguments.
    pub(crate) fn arguments(&mut self, delta: &str) {
        if delta.is_empty() || self.calls == 0 {
            return;
        }
        match self.events.last_mut() {
            Some(Event::ToolArguments { delta: last, .. }) => last.push_str(delta),
            _ => self.events.push(Event::ToolArguments { index: self.calls - 1, delta: delta.to_owned() }),
        }
    }

    /// The call ends.
    pub(crate) fn end_call(&mut self, complete: bool) {
        if let Some(index) = self.calls.checked_sub(1) {
            self.complete += usize::from(complete);
            self.events.push(Event::ToolCallEnd { index, complete });
        }
        self.markup();
    }
}

/// Makes ids of calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    /// Different for every answer.
    pub(crate) seed: u64,
    /// Nine letters and digits, which is all that Mistral's templates take.
    pub(crate) short: bool,
}

impl Ids {
    fn make(self, index: usize) -> String {
        let mut bits = mix(self.seed.wrapping_add(mix(index as u64 + 1)));
        if !self.short {
            return format!("call_{bits:016x}");
        }
        let mut id = String::new();
        for _ in 0..9 {
            id.push(char::from_digit((bits % 36) as u32, 36).unwrap_or('0'));
            bits /= 36;
        }
        id
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): close numbers become unlike ones.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(output: &Output) -> String {
        output.events.iter().map(|e| if let Event::Text(t) = e { t.as_str() } else { "|" }).collect()
    }

    fn output() -> Output {
        Output::new(Ids { seed: 1, short: false }, false)
    }

    #[test]
    fn plain_text_keeps_its_white_space() {
        let mut out = output();
        out.text(Channel::Content, "  a b\n");
        out.text(Channel::Content, " ");
        out.finish(Channel::Content);
        assert_eq!(joined(&out), "  a b\n |");
    }

    #[test]
    fn white_space_around_markup_only_separates() {
        let mut out = output();
        out.markup();
        out.text(Channel::Content, "\n a \n");
        out.markup();
        out.text(Channel::Content, "\tb\n");
        out.markup();
        out.text(Channel::Content, " ");
        out.finish(Channel::Content);
        assert_eq!(joined(&out), "a \n\tb|");
    }

    #[test]
    fn ids_differ_and_have_their_form() {
        let short = Ids { seed: 7, short: true };
        assert_eq!(short.make(0).len(), 9);
        assert_ne!(short.make(0), short.make(1));
        assert_ne!(short.make(0), Ids { seed: 8, short: true }.make(0));
        assert_eq!(Ids { seed: 7, short: false }.make(0).len(), 21);
    }
}
