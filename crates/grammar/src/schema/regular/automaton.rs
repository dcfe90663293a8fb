//! A pattern as a nondeterministic automaton (Thompson 1968) that finds it anywhere in a text.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::NotRegular;

/// Most states of one pattern.
const MAX_STATES: usize = 1500;

/// Ranges of characters, both ends included, in order.
pub(super) type Ranges = Vec<(char, char)>;

pub(super) type State = usize;

/// The automaton of one pattern.
#[derive(Debug)]
pub(super) struct Automaton {
    steps: Vec<Step>,
    start: State,
    /// Where a match is complete.
    matched: State,
    /// Where a match is complete but for the end of the text, behind a last line break.
    tail: State,
    /// `$` also stands before a last line break.
    lenient: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// To any of these, without a character.
    Free(Vec<State>),
    /// With one of these characters.
    Read(Ranges, State),
    /// At the beginning of the text.
    AtStart(State),
    /// At its end.
    AtEnd(State),
}

impl Automaton {
    /// # Errors
    /// The pattern has what can't be told from the characters alone, or it is too large.
    pub(super) fn new(pattern: &Hir, lenient: bool) -> Result<Self, NotRegular> {
        let mut found = Self { steps: Vec::new(), start: 0, matched: 0, tail: 0, lenient };
        found.matched = found.add(Step::Free(Vec::new()))?;
        found.tail = found.add(Step::Free(Vec::new()))?;
        let matched = found.matched;
        let rest = found.add(Step::Read(everything(), matched))?;
        found.steps[matched] = Step::Free(vec![rest]);
        let body = found.build(pattern, matched)?;
        // What stands before the match.
        let start = found.add(Step::Free(Vec::new()))?;
        let skip = found.add(Step::Read(everything(), start))?;
        found.steps[start] = Step::Free(vec![body, skip]);
        found.start = start;
        Ok(found)
    }

    /// All ranges that it distinguishes.
    pub(super) fn ranges(&self) -> impl Iterator<Item = &Ranges> {
        self.steps.iter().filter_map(|step| match step {
            Step::Read(ranges, _) => Some(ranges),
            Step::Free(_) | Step::AtStart(_) | Step::AtEnd(_) => None,
        })
    }

    /// The states at the beginning of a text.
    pub(super) fn begin(&self) -> Vec<State> {
        self.closure(vec![self.start], true, false)
    }

    /// The states behind one more character.
    pub(super) fn after(&self, states: &[State], c: char) -> Vec<State> {
        let mut next: Vec<State> = states
            .iter()
            .filter_map(|state| match &self.steps[*state] {
                Step::Read(ranges, to) if holds(ranges, c) => Some(*to),
                _ => None,
            })
            .collect();
        if c == '\n' && self.lenient && self.ends_by_anchor(states) {
            next.push(self.tail);
        }
        self.closure(next, false, false)
    }

    /// Whether a text that ends here matches.
    pub(super) fn matches(&self, states: &[State]) -> bool {
        let all = self.closure(states.to_vec(), false, true);
        all.contains(&self.matched) || all.contains(&self.tail)
    }

    /// Whether the text would match if it ended here, because of an anchor.
    fn ends_by_anchor(&self, states: &[State]) -> bool {
        let anchored = states.iter().filter_map(|state| match self.steps[*state] {
            Step::AtEnd(to) => Some(to),
            _ => None,
        });
        self.closure(anchored.collect(), false, true).contains(&self.matched)
    }

    /// The states that are reached without a character, in order.
    fn closure(&self, mut open: Vec<State>, at_start: bool, at_end: bool) -> Vec<State> {
        let mut seen = vec![false; self.steps.len()];
        while let Some(state) = open.pop() {
            if std::mem::replace(&mut seen[state], true) {
                continue;
            }
            match &self.steps[state] {
                Step::Free(to) => open.extend(to),
                Step::AtStart(to) if at_start => open.push(*to),
                Step::AtEnd(to) if at_end => open.push(*to),
                _ => {}
            }
        }
        (0..seen.len()).filter(|state| seen[*state]).collect()
    }

    fn add(&mut self, step: Step) -> Result<State, NotRegular> {
        if self.steps.len() == MAX_STATES {
            return Err(NotRegular);
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    /// The first state of a part that leads on to `next`.
    fn build(&mut self, part: &Hir, next: State) -> Result<State, NotRegular> {
        match part.kind() {
            HirKind::Empty => Ok(next),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).map_err(|_| NotRegular)?;
                text.chars().rev().try_fold(next, |next, c| self.add(Step::Read(vec![(c, c)], next)))
            }
            HirKind::Class(Class::Unicode(class)) => {
                let ranges = class.ranges().iter().map(|range| (range.start(), range.end())).collect();
                self.add(Step::Read(ranges, next))
            }
            HirKind::Look(Look::Start) => self.add(Step::AtStart(next)),
            HirKind::Look(Look::End) => self.add(Step::AtEnd(next)),
            HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => Err(NotRegular),
            HirKind::Capture(capture) => self.build(&capture.sub, next),
            HirKind::Concat(parts) => parts.iter().rev().try_fold(next, |next, part| self.build(part, next)),
            HirKind::Alternation(parts) => {
                let ways = parts.iter().map(|part| self.build(part, next)).collect::<Result<_, _>>()?;
                self.add(Step::Free(ways))
            }
            HirKind::Repetition(repetition) => {
                let mut next = match repetition.max {
                    None => {
                        let again = self.add(Step::Free(Vec::new()))?;
                        let body = self.build(&repetition.sub, again)?;
                        self.steps[again] = Step::Free(vec![body, next]);
                        again
                    }
                    Some(max) => {
                        let end = next;
                        (repetition.min..max).try_fold(next, |next, _| {
                            let body = self.build(&repetition.sub, next)?;
                            self.add(Step::Free(vec![body, end]))
                        })?
                    }
                };
                for _ in 0..repetition.min {
                    next = self.build(&repetition.sub, next)?;
                }
                Ok(next)
            }
        }
    }
}

/// All characters.
pub(super) fn everything() -> Ranges {
    vec![('\0', char::MAX)]
}

fn holds(ranges: &Ranges, c: char) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&c))
}
