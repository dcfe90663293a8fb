//! Whether an answer is inside of reasoning, told byte by byte: what the parser finds out too, for those who can't wait
//! for whole characters and hold nothing back.

use crate::families::ReasoningFamily;
use crate::harmony;

/// Finds the marks of one family's reasoning. A byte costs a few comparisons, and nothing is kept but a [`Spot`].
///
/// It agrees with [`Parser`](crate::Parser) as far as reasoning goes: marks that begin it count at the beginning of a line
/// (unless they are beyond doubt), those that end it anywhere. Calls are text to it.
#[derive(Debug, Clone)]
pub struct Watch {
    /// What begins reasoning; and, if that depends on the line, what ends it, since that is dropped where it stands alone.
    open: Marks,
    close: Marks,
    opens_anywhere: bool,
}

/// A place in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Inside of reasoning. A mark counts once it is whole.
    pub inside: bool,
    line: Line,
    /// How far a mark has come.
    node: u16,
}

impl Spot {
    /// Whether the text so far ends with the beginning of a mark.
    pub fn in_mark(self) -> bool {
        self.node > 0
    }
}

/// Where in its line a text outside of reasoning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Only white space has come since the answer began, or since reasoning ended.
    Fresh,
    /// Only white space has come since the line began.
    Start,
    Middle,
}

impl Watch {
    pub(crate) fn new(family: &ReasoningFamily) -> Self {
        if family.harmony {
            let open = Marks::new(&[(&[harmony::ANALYSIS], true)]);
            return Self { open, close: Marks::new(&[(&harmony::MARKS, false)]), opens_anywhere: true };
        }
        let (begin, end) = ((family.open, true), (family.close, false));
        let open = if family.opens_anywhere { Marks::new(&[begin]) } else { Marks::new(&[begin, end]) };
        Self { open, close: Marks::new(&[end]), opens_anywhere: family.opens_anywhere }
    }

    /// Where an answer begins, whose prompt ends inside of reasoning or not.
    pub fn start(&self, inside: bool) -> Spot {
        Spot { inside, line: Line::Fresh, node: 0 }
    }

    /// Behind these bytes, which are the next of the answer.
    pub fn behind(&self, spot: Spot, bytes: &[u8]) -> Spot {
        bytes.iter().fold(spot, |spot, byte| self.step(spot, *byte))
    }

    /// Whether these bytes, which are the next of the answer, end reasoning and go on with more than white space.
    pub fn overruns(&self, spot: Spot, bytes: &[u8]) -> bool {
        let mut spot = spot;
        for (index, byte) in bytes.iter().enumerate() {
            let next = self.step(spot, *byte);
            if spot.inside && !next.inside {
                return !bytes[index + 1..].trim_ascii().is_empty();
            }
            spot = next;
        }
        false
    }

    fn step(&self, spot: Spot, byte: u8) -> Spot {
        if spot.inside {
            let node = self.close.next(spot.node, byte);
            let Some(mark) = self.close.mark(node) else { return Spot { node, ..spot } };
            // What ends reasoning may be the beginning of what opens it anew.
            let again = mark.text.iter().fold(0, |node, byte| self.open.next(node, *byte));
            let node = if self.opens_anywhere { again } else { 0 };
            return Spot { inside: false, line: Line::Fresh, node };
        }
        let node = match self.opens_anywhere {
            true => self.open.next(spot.node, byte),
            false if spot.node > 0 || spot.line != Line::Middle => {
                self.open.child(spot.node, byte).unwrap_or(0)
            }
            false => 0,
        };
        match self.open.mark(node) {
            Some(mark) if mark.opens => return self.start(true),
            Some(_) if spot.line == Line::Fresh => return self.start(false),
            _ => {}
        }
        // A mark under way doesn't move it: should the mark be none, then the text does.
        let line = match byte {
            _ if node > 0 && !self.opens_anywhere => spot.line,
            b'\n' if spot.line != Line::Fresh || spot.node > 0 => Line::Start,
            _ if byte.is_ascii_whitespace() && spot.node == 0 => spot.line,
            _ => Line::Middle,
        };
        Spot { inside: false, line, node }
    }
}

/// Texts to look for in a stream of bytes, as an automaton (Aho and Corasick 1975).
#[derive(Debug, Clone)]
struct Marks {
    nodes: Vec<Node>,
}

/// What some texts begin with.
#[derive(Debug, Clone, Default)]
struct Node {
    /// The next byte, and where it leads.
    children: Vec<(u8, u16)>,
    /// The longest other beginning that this one ends with.
    fallback: u16,
    mark: Option<Mark>,
}

/// A text that ends at a node.
#[derive(Debug, Clone, Copy)]
struct Mark {
    text: &'static [u8],
    /// It begins reasoning.
    opens: bool,
}

impl Marks {
    /// Lists of texts, a few hundred bytes in all, and whether they begin reasoning.
    fn new(lists: &[(&[&'static str], bool)]) -> Self {
        let mut marks = Self { nodes: vec![Node::default()] };
        for (texts, opens) in lists {
            for text in *texts {
                let end = text.bytes().fold(0, |node, byte| marks.grow(node, byte));
                marks.nodes[usize::from(end)].mark = Some(Mark { text: text.as_bytes(), opens: *opens });
            }
        }
        // Shorter beginnings first: theirs are what those of longer ones are made from.
        let mut layer = vec![0];
        while !layer.is_empty() {
            let mut below = Vec::new();
            for node in layer {
                for (byte, child) in marks.nodes[usize::from(node)].children.clone() {
                    let fallback =
                        if node == 0 { 0 } else { marks.next(marks.nodes[usize::from(node)].fallback, byte) };
                    let inherited = marks.nodes[usize::from(fallback)].mark;
                    let grown = &mut marks.nodes[usize::from(child)];
                    grown.fallback = fallback;
                    grown.mark = grown.mark.or(inherited);
                    below.push(child);
                }
            }
            layer = below;
        }
        marks
    }

    fn grow(&mut self, node: u16, byte: u8) -> u16 {
        self.child(node, byte).unwrap_or_else(|| {
            let child = self.nodes.len() as u16;
            self.nodes.push(Node::default());
            self.nodes[usize::from(node)].children.push((byte, child));
            child
        })
    }

    fn child(&self, node: u16, byte: u8) -> Option<u16> {
        let children = &self.nodes[usize::from(node)].children;
        children.iter().find(|(known, _)| *known == byte).map(|(_, child)| *child)
    }

    /// The longest beginning that the text ends with, one byte on.
    fn next(&self, node: u16, byte: u8) -> u16 {
        let mut node = node;
        loop {
            match self.child(node, byte) {
                Some(child) => return child,
                None if node == 0 => return 0,
                None => node = self.nodes[usize::from(node)].fallback,
            }
        }
    }

    /// The mark that ends here.
    fn mark(&self, node: u16) -> Option<Mark> {
        self.nodes[usize::from(node)].mark
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Families, Start, Tools, reasoning_parsers};

    fn watch(name: &str) -> Watch {
        Families::named(None, Some(name)).unwrap().watch().unwrap()
    }

    /// Where reasoning begins and ends, as numbers of bytes.
    fn turns(name: &str, inside: bool, text: &str) -> Vec<usize> {
        let watch = watch(name);
        let mut spot = watch.start(inside);
        let mut turns = Vec::new();
        for (index, byte) in text.bytes().enumerate() {
            let next = watch.behind(spot, &[byte]);
            turns.extend((next.inside != spot.inside).then_some(index + 1));
            spot = next;
        }
        turns
    }

    #[test]
    fn marks_count_where_the_parser_takes_them_for_marks() {
        assert_eq!(turns("qwen3", false, "<think>a</think>b"), [7, 16]);
        assert_eq!(turns("qwen3", false, "a <think>b\n <think>"), [19]);
        assert_eq!(turns("qwen3", true, "a</</think>\n<think>"), [11, 19]);
        assert_eq!(turns("command_r", false, "a <|START_THINKING|>"), [20]);
        let granite =
            "Here is my thought process:\nHm.\nHere is my response:\nYes. Here is my thought process:";
        assert_eq!(turns("granite", false, granite), [27, 52]);
        assert_eq!(turns("apriel", true, "1. [BEGIN [BEGIN FINAL RESPONSE]\nYes."), [32]);
        let frames = "<|channel|>analysis<|message|>a<|channel|>analysis<|message|>b<|end|><|start|>";
        assert_eq!(turns("gpt_oss", false, frames), [30, 42, 61, 69]);
    }

    #[test]
    fn what_runs_over_an_end_is_told_from_white_space() {
        let watch = watch("granite");
        let spot = watch.behind(watch.start(true), b"Here is my response");
        assert!(watch.overruns(spot, b":{") && watch.overruns(spot, b": \n 1"));
        assert!(
            !watch.overruns(spot, b":") && !watch.overruns(spot, b":\n\n") && !watch.overruns(spot, b"{:")
        );
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_parser(
            parts in prop::collection::vec((0..9_usize, any::<prop::sample::Index>()), 0..12),
            inside in any::<bool>(),
        ) {
            // Between frames the parser has nothing to say, so that it doesn't leave reasoning there.
            for (name, _) in reasoning_parsers().filter(|(name, _)| *name != "gpt_oss") {
                let families = Families::named(None, Some(name)).unwrap();
                let marks = families.reasoning_marks().flat_map(|(open, close)| [open, close]);
                let marks: Vec<&str> = marks.collect();
                let text: String = parts.iter().map(|(kind, index)| match kind {
                    0..5 => *index.get(&marks),
                    5 => "\n",
                    6 => " ",
                    7 => "Here <",
                    _ => "x",
                }).collect();
                let start = if inside { Start::Reasoning } else { Start::Content };
                let mut parser = families.parser(Tools::unknown().into(), start, 1);
                let watch = families.watch().unwrap();
                let mut spot = watch.start(inside);
                let mut events = Vec::new();
                for c in text.chars() {
                    parser.push(c.encode_utf8(&mut [0; 4]), &mut events);
                }
                for byte in text.as_bytes() {
                    spot = watch.behind(spot, &[*byte]);
                }
                // Behind a character that can't belong to a mark, the parser has made up its mind.
                parser.push("~", &mut events);
                spot = watch.behind(spot, b"~");
                prop_assert_eq!(parser.in_reasoning(), spot.inside, "{}: {:?}", name, text);
            }
        }
    }
}
