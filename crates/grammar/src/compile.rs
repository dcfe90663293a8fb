//! From a source to a grammar, within limits.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::AcqRel},
        mpsc::sync_channel,
    },
    time::Duration,
};

use llguidance::{
    Matcher, ParserFactory,
    api::{ParserLimits, TopLevelGrammar},
    earley::SlicedBiasComputer,
    toktrie::InferenceCapabilities,
};
use millrace_types::{Constraint, TokenId};

use crate::{
    GrammarError, Source, Vocabulary, lark,
    matching::{Matching, first_line},
    source::unusable,
    vocabulary::Names,
    warm::warmed,
};

/// Compiling takes milliseconds. What takes this long is an attack or a mistake.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Compilations at a time, those that nobody waits for any more included.
const MOST_AT_ONCE: usize = 8;

/// The compiler works by recursion, over schemas of bounded depth.
const STACK: usize = 64 << 20;

/// A compiled grammar, for any number of answers.
pub struct Grammar {
    matching: Matching,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// The constraint of one answer.
    pub fn start(&self) -> Box<dyn Constraint> {
        self.matching.fork()
    }
}

/// Makes grammars for one vocabulary.
pub(crate) struct Compiler {
    vocabulary: Box<dyn Fn() -> Vocabulary + Send + Sync>,
    /// Made for the first grammar: it takes some tenths of a second for a large vocabulary, and much memory.
    tools: OnceLock<Result<Tools, GrammarError>>,
    at_work: AtomicUsize,
}

/// What compiling needs.
struct Tools {
    factory: ParserFactory,
    names: Names,
    /// Tokens that end an answer.
    ends: Arc<[TokenId]>,
}

impl Compiler {
    pub(crate) fn new(vocabulary: impl Fn() -> Vocabulary + Send + Sync + 'static) -> Self {
        Self { vocabulary: Box::new(vocabulary), tools: OnceLock::new(), at_work: AtomicUsize::new(0) }
    }

    /// Compiles a source, on a thread of its own: with a stack that suffices, and so that a client doesn't wait for ever.
    pub(crate) fn compile(self: &Arc<Self>, source: &Source) -> Result<Grammar, GrammarError> {
        source.check()?;
        let Some(slot) = Slot::take(self.clone()) else { return Err(GrammarError::Busy) };
        let (sender, result) = sync_channel(1);
        let what = source.what();
        let source = source.clone();
        let work = move || {
            let compiled = slot.0.compile_here(&source);
            drop(slot);
            // Nobody may be waiting any more.
            let _ = sender.send(compiled);
        };
        let thread = std::thread::Builder::new().name("millrace-grammar".into()).stack_size(STACK);
        thread.spawn(work).map_err(|_| GrammarError::Busy)?;
        let too_slow = GrammarError::TooSlow { what, seconds: TIME_LIMIT.as_secs() };
        result.recv_timeout(TIME_LIMIT).unwrap_or(Err(too_slow))
    }

    fn compile_here(&self, source: &Source) -> Result<Grammar, GrammarError> {
        let tools = self.tools.get_or_init(|| Tools::new((self.vocabulary)()));
        let Tools { factory, names, ends } = tools.as_ref().map_err(Clone::clone)?;
        let fail = |error: &dyn std::fmt::Display| unusable(source.what(), first_line(&error.to_string()));
        let grammar = TopLevelGrammar::from_lark(lark::grammar(&source.reduced()?, names)?);
        let parser = factory.create_parser(grammar).map_err(|error| match error.to_string() {
            // The compiler's own limits, some of which are assertions that it catches itself.
            text if text.starts_with("panic") => fail(&"it is too complex"),
            _ => fail(&error),
        })?;
        let mut matcher = Matcher::new(Ok(parser));
        // Shows whether there is any answer at all.
        matcher.compute_mask().map_err(|error| match error.to_string() {
            text if text.contains("NoExtensionBias") => fail(&"nothing satisfies it"),
            _ => fail(&error),
        })?;
        Ok(Grammar { matching: Matching { matcher: warmed(matcher, ends), ends: ends.clone() } })
    }
}

impl Tools {
    fn new(vocabulary: Vocabulary) -> Result<Self, GrammarError> {
        let (environment, names, ends) = vocabulary.into_parts()?;
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let mut factory = ParserFactory::new(&environment, capabilities, &slices())
            .map_err(|error| GrammarError::Vocabulary(first_line(&error.to_string())))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { factory, names, ends })
    }
}

/// Sets of tokens, as regular expressions, that are allowed as a whole wherever all of their texts are: then nobody has to
/// look at each of them. Those of llguidance, and more of the short texts, for strings near their greatest length.
fn slices() -> Vec<String> {
    let short = [3, 6, 20].map(|most| format!(r#"[^"\\\x00-\x1F\x7F]{{1,{most}}}"#));
    SlicedBiasComputer::general_slices().into_iter().chain(short).collect()
}

/// One of the compilations at a time.
struct Slot(Arc<Compiler>);

impl Slot {
    fn take(compiler: Arc<Compiler>) -> Option<Self> {
        let slot = Self(compiler);
        // Counted down when dropped, also here.
        let before = slot.0.at_work.fetch_add(1, AcqRel);
        (before < MOST_AT_ONCE).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, AcqRel);
    }
}
