//! Compiled grammars, kept for the next request with the same source.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use crate::{Grammar, GrammarError, Source, Vocabulary, compile::Compiler};

/// Grammars that are kept.
const MAX_ENTRIES: usize = 256;

/// Bytes of all their sources together; compiled, they are some ten to hundred times as large.
const MAX_BYTES: usize = 4 << 20;

/// The grammars of one model. Shared by all of its requests.
pub struct Grammars {
    compiler: Arc<Compiler>,
    cache: Mutex<Cache>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").field("cached", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

/// A grammar, and what it took to get it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The grammar.
    pub grammar: Arc<Grammar>,
    /// How long it took to compile; `None` if it was there already.
    pub compiled_in: Option<Duration>,
}

/// Filled once. Whoever asks for the same source meanwhile waits.
type Cell = Arc<OnceLock<Result<Arc<Grammar>, GrammarError>>>;

#[derive(Default)]
struct Cache {
    entries: HashMap<String, Entry>,
    bytes: usize,
    clock: u64,
}

struct Entry {
    cell: Cell,
    used: u64,
}

impl Grammars {
    /// For a model with these tokens, which are asked for with the first grammar: not every server ever needs one.
    pub fn new(vocabulary: impl Fn() -> Vocabulary + Send + Sync + 'static) -> Self {
        Self { compiler: Arc::new(Compiler::new(vocabulary)), cache: Mutex::default() }
    }

    /// The grammar of a source. Blocks while it is compiled: up to some seconds for the worst.
    ///
    /// # Errors
    /// The source is wrong, too large, too slow, or wants what can't be held to; the same error as long as it is cached.
    pub fn get(&self, source: &Source) -> Result<Found, GrammarError> {
        let key = source.key();
        let cell = self.lock().entry(&key);
        let mut compiled_in = None;
        let outcome = cell.get_or_init(|| {
            let start = Instant::now();
            let compiled = self.compiler.compile(source).map(Arc::new);
            compiled_in = Some(start.elapsed());
            compiled
        });
        match outcome {
            Ok(grammar) => Ok(Found { grammar: grammar.clone(), compiled_in }),
            Err(error) => {
                if matches!(error, GrammarError::Busy) {
                    self.lock().forget(&key);
                }
                Err(error.clone())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // No method leaves the table half changed, so a poisoned lock still guards a sound one.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// The place for a source; what was used longest ago makes room.
    fn entry(&mut self, key: &str) -> Cell {
        self.clock += 1;
        let used = self.clock;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.used = used;
            return entry.cell.clone();
        }
        while self.entries.len() >= MAX_ENTRIES || (self.bytes + key.len() > MAX_BYTES && self.bytes > 0) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            self.forget(&oldest);
        }
        let cell = Cell::default();
        self.bytes += key.len();
        self.entries.insert(key.to_owned(), Entry { cell: cell.clone(), used });
        cell
    }

    fn forget(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.bytes -= key.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut cache = Cache::default();
        let first = cache.entry("first");
        (0..MAX_ENTRIES - 1).for_each(|n| drop(cache.entry(&n.to_string())));
        assert!(Arc::ptr_eq(&first, &cache.entry("first")));
        cache.entry("one more");
        assert!(cache.entries.contains_key("first") && !cache.entries.contains_key("0"));
        assert_eq!(cache.entries.len(), MAX_ENTRIES);

        cache.entry(&"x".repeat(MAX_BYTES));
        assert_eq!((cache.entries.len(), cache.bytes), (1, MAX_BYTES));
        cache.entry("y");
        assert_eq!((cache.entries.len(), cache.bytes), (1, 1));
    }
}
