//! Several automata side by side, as one that is deterministic and has no state twice.

use std::collections::{BTreeSet, HashMap};

use super::{
    NotRegular,
    automaton::{Automaton, Ranges, State},
};

/// Most states before those that are alike are joined.
const MAX_STATES: usize = 600;

/// Most kinds of characters that are told apart.
const MAX_SYMBOLS: usize = 200;

/// A deterministic automaton. It begins in state 0.
#[derive(Debug)]
pub(super) struct Deterministic {
    /// The kinds of characters that it tells apart, which are all characters together.
    pub(super) symbols: Vec<Ranges>,
    /// By state and symbol.
    pub(super) next: Vec<Vec<usize>>,
    /// By state: whether a text may end there.
    pub(super) ends: Vec<bool>,
}

/// The texts that each automaton finds a match in, or not, as it says.
///
/// # Errors
/// There are too many states.
pub(super) fn deterministic(automata: &[(Automaton, bool)]) -> Result<Deterministic, NotRegular> {
    let symbols = symbols(automata)?;
    let begin: Vec<Vec<State>> = automata.iter().map(|(automaton, _)| automaton.begin()).collect();
    let mut known = HashMap::from([(begin.clone(), 0)]);
    let (mut states, mut next, mut ends) = (vec![begin], Vec::new(), Vec::new());
    while let Some(state) = states.get(next.len()).cloned() {
        let parts = || automata.iter().zip(&state);
        ends.push(parts().all(|((automaton, wanted), at)| automaton.matches(at) == *wanted));
        let mut row = Vec::with_capacity(symbols.len());
        for symbol in &symbols {
            let after: Vec<_> =
                parts().map(|((automaton, _), at)| automaton.after(at, symbol[0].0)).collect();
            let number = known.len();
            row.push(*known.entry(after.clone()).or_insert_with(|| {
                states.push(after);
                number
            }));
        }
        if states.len() > MAX_STATES {
            return Err(NotRegular);
        }
        next.push(row);
    }
    Ok(without_twins(Deterministic { symbols, next, ends }))
}

/// Characters that no automaton tells apart, together.
fn symbols(automata: &[(Automaton, bool)]) -> Result<Vec<Ranges>, NotRegular> {
    let line_break = vec![('\n', '\n')];
    let sets: BTreeSet<&Ranges> =
        automata.iter().flat_map(|(automaton, _)| automaton.ranges()).chain([&line_break]).collect();
    let mut cuts: BTreeSet<u32> = BTreeSet::from([0, LAST + 1, SURROGATES.0, SURROGATES.1 + 1]);
    for (first, last) in sets.iter().copied().flatten() {
        cuts.extend([u32::from(*first), u32::from(*last) + 1]);
    }
    let cuts: Vec<u32> = cuts.into_iter().collect();
    let mut found: HashMap<Vec<bool>, Ranges> = HashMap::new();
    for pair in cuts.windows(2) {
        let (Some(first), Some(last)) = (char::from_u32(pair[0]), char::from_u32(pair[1] - 1)) else {
            continue;
        };
        let member = |ranges: &&Ranges| ranges.iter().any(|(from, to)| *from <= first && first <= *to);
        found.entry(sets.iter().map(member).collect()).or_default().push((first, last));
        if found.len() > MAX_SYMBOLS {
            return Err(NotRegular);
        }
    }
    let mut symbols: Vec<Ranges> = found.into_values().collect();
    symbols.sort();
    Ok(symbols)
}

/// The last character.
const LAST: u32 = char::MAX as u32;

/// What lies between the characters and is none.
const SURROGATES: (u32, u32) = (0xD800, 0xDFFF);

/// Joins states from which the same texts are accepted (Moore 1956).
fn without_twins(all: Deterministic) -> Deterministic {
    let mut kinds: Vec<usize> = all.ends.iter().map(|ends| usize::from(*ends != all.ends[0])).collect();
    let mut count = kinds.iter().collect::<BTreeSet<_>>().len();
    loop {
        let mut known = HashMap::new();
        let mut refined = Vec::with_capacity(kinds.len());
        for (state, row) in all.next.iter().enumerate() {
            let signature: Vec<usize> =
                std::iter::once(kinds[state]).chain(row.iter().map(|to| kinds[*to])).collect();
            let number = known.len();
            refined.push(*known.entry(signature).or_insert(number));
        }
        // Numbers are given in the order of states, so that the first state stays the first.
        kinds = refined;
        if known.len() == count {
            break;
        }
        count = known.len();
    }
    let first_of = |kind: usize| kinds.iter().position(|other| *other == kind).unwrap_or(0);
    let firsts: Vec<usize> = (0..count).map(first_of).collect();
    Deterministic {
        next: firsts.iter().map(|state| all.next[*state].iter().map(|to| kinds[*to]).collect()).collect(),
        ends: firsts.iter().map(|state| all.ends[*state]).collect(),
        symbols: all.symbols,
    }
}
