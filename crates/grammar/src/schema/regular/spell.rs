//! From an automaton back to a pattern.

use std::collections::BTreeMap;

use super::{NotRegular, automaton::Ranges, product::Deterministic};

/// Longest pattern in bytes, also on the way.
const MAX_BYTES: usize = 24_000;

/// A pattern and how tightly it holds together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spelling {
    text: String,
    bond: Bond,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bond {
    /// Alternatives.
    Either,
    /// One after the other.
    Row,
    /// A character, a class or a group.
    One,
}

/// The pattern of all texts that an automaton accepts, to be anchored at both ends; `None` if there are none.
///
/// # Errors
/// It becomes too long.
pub(super) fn pattern(automaton: &Deterministic) -> Result<Option<String>, NotRegular> {
    let count = automaton.next.len();
    // Besides the automaton's states: a beginning that nothing leads to, and an end that leads nowhere.
    let (begin, end) = (count, count + 1);
    let mut edges: BTreeMap<(usize, usize), Spelling> = BTreeMap::from([((begin, 0), nothing())]);
    for (from, row) in automaton.next.iter().enumerate() {
        let mut targets: BTreeMap<usize, Ranges> = BTreeMap::new();
        for (symbol, to) in automaton.symbols.iter().zip(row) {
            targets.entry(*to).or_default().extend(symbol);
        }
        edges.extend(targets.into_iter().map(|(to, ranges)| ((from, to), class(ranges))));
        if automaton.ends[from] {
            edges.insert((from, end), nothing());
        }
    }
    let mut left: Vec<usize> = (0..count).collect();
    while !left.is_empty() {
        let degree = |state: &usize| {
            let into = edges.keys().filter(|(from, to)| to == state && from != state).count();
            let out = edges.keys().filter(|(from, to)| from == state && to != state).count();
            (into * out, *state)
        };
        // The state with the fewest ways through it.
        let Some(at) = (0..left.len()).min_by_key(|at| degree(&left[*at])) else { break };
        take_out(&mut edges, left.swap_remove(at))?;
    }
    Ok(edges.remove(&(begin, end)).map(|spelling| spelling.text))
}

/// Replaces the ways through a state by direct ones.
fn take_out(edges: &mut BTreeMap<(usize, usize), Spelling>, state: usize) -> Result<(), NotRegular> {
    let around = edges.remove(&(state, state)).map(|spelling| repeated(&spelling));
    let pick = |edges: &BTreeMap<(usize, usize), Spelling>, wanted: fn(&(usize, usize)) -> usize| {
        edges
            .iter()
            .filter(|(key, _)| wanted(key) == state)
            .map(|(key, value)| (*key, value.clone()))
            .collect()
    };
    let into: Vec<((usize, usize), Spelling)> = pick(edges, |(_, to)| *to);
    let out: Vec<((usize, usize), Spelling)> = pick(edges, |(from, _)| *from);
    edges.retain(|(from, to), _| *from != state && *to != state);
    for ((from, _), first) in &into {
        for ((_, to), last) in &out {
            let through = match &around {
                Some(around) => row(&row(first, around), last),
                None => row(first, last),
            };
            let whole = match edges.remove(&(*from, *to)) {
                Some(other) => either(&other, &through),
                None => through,
            };
            if whole.text.len() > MAX_BYTES {
                return Err(NotRegular);
            }
            edges.insert((*from, *to), whole);
        }
    }
    let size: usize = edges.values().map(|spelling| spelling.text.len()).sum();
    if size > 4 * MAX_BYTES { Err(NotRegular) } else { Ok(()) }
}

fn nothing() -> Spelling {
    Spelling { text: String::new(), bond: Bond::Row }
}

impl Spelling {
    /// Its text where this bond is needed.
    fn within(&self, bond: Bond) -> String {
        if self.bond >= bond { self.text.clone() } else { format!("(?:{})", self.text) }
    }
}

fn row(first: &Spelling, last: &Spelling) -> Spelling {
    match (first.text.is_empty(), last.text.is_empty()) {
        (true, _) => last.clone(),
        (_, true) => first.clone(),
        _ => Spelling { text: first.within(Bond::Row) + &last.within(Bond::Row), bond: Bond::Row },
    }
}

fn either(first: &Spelling, other: &Spelling) -> Spelling {
    if first == other {
        return first.clone();
    }
    match (first.text.is_empty(), other.text.is_empty()) {
        (true, _) => Spelling { text: other.within(Bond::One) + "?", bond: Bond::Row },
        (_, true) => Spelling { text: first.within(Bond::One) + "?", bond: Bond::Row },
        _ => Spelling { text: format!("{}|{}", first.text, other.text), bond: Bond::Either },
    }
}

fn repeated(one: &Spelling) -> Spelling {
    match one.text.is_empty() {
        true => nothing(),
        false => Spelling { text: one.within(Bond::One) + "*", bond: Bond::Row },
    }
}

/// A class of characters.
fn class(mut ranges: Ranges) -> Spelling {
    ranges.sort_unstable();
    let mut joined: Ranges = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if follows(*end, first) => *end = last,
            _ => joined.push((first, last)),
        }
    }
    let name = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_string() } else { format!(r"\x{{{:X}}}", u32::from(c)) }
    };
    let text = match joined.as_slice() {
        [('\0', char::MAX)] => "(?s:.)".to_owned(),
        [(first, last)] if first == last => name(*first),
        list => {
            let range = |(first, last): &(char, char)| match first == last {
                true => name(*first),
                false => format!("{}-{}", name(*first), name(*last)),
            };
            format!("[{}]", list.iter().map(range).collect::<String>())
        }
    };
    Spelling { text, bond: Bond::One }
}

/// Whether there is no character between two.
fn follows(before: char, after: char) -> bool {
    (before..=after).nth(1) == Some(after)
}
