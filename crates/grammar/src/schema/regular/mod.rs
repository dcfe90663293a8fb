//! Patterns joined: the texts that match some patterns and don't match others, as one pattern.
//!
//! Each pattern becomes an automaton over the characters of a text; their product is made deterministic (the subset
//! construction of Rabin and Scott 1959), and read back as a pattern by taking out one state after the other (Brzozowski and
//! McCluskey 1963). Dialects differ in what `\d` or `$` mean. So a pattern that must match is read in the narrowest
//! sense, and one that must not, as a rule, in the widest: the result has no text too many in any of them.

mod automaton;
mod dialect;
mod product;
mod spell;

use automaton::Automaton;

/// What can't be joined: a pattern with what no automaton has, or with too many states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotRegular;

/// In which sense a pattern is read that must not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opposite {
    /// In the widest: what is left matches in no dialect.
    Safe,
    /// In the narrowest, like one that must match: each text does either.
    Exact,
}

/// A pattern, anchored at both ends, of the texts that match each of `patterns` or don't, as it says. `None` if there are
/// no such texts.
///
/// # Errors
/// A pattern has look-around, word boundaries or back-references, or all of them together are too large.
pub(super) fn joined(patterns: &[(&str, bool)], opposite: Opposite) -> Result<Option<String>, NotRegular> {
    let automata = patterns.iter().map(|(pattern, matches)| {
        let narrow = *matches || opposite == Opposite::Exact;
        let pattern = dialect::parse(pattern, narrow)?;
        Ok((Automaton::new(&pattern, !narrow)?, *matches))
    });
    let automata: Vec<(Automaton, bool)> = automata.collect::<Result<_, NotRegular>>()?;
    let found = product::deterministic(&automata)?;
    Ok(spell::pattern(&found)?.map(|pattern| format!("^(?:{pattern})$")))
}

#[cfg(test)]
mod tests;
