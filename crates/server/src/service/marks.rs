//! How a model's reasoning begins and ends: as text that is looked for, and as tokens that can be written.

use std::sync::Arc;

use millrace_grammar::ReasoningTokens;
use millrace_parse::{Families, Spot, Watch};
use millrace_text::{ChatTemplate, Tokenizer};
use millrace_types::{Follow, TokenId};

use super::framed;

/// What is known of a model's reasoning, once it is loaded.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    /// At the beginning of an answer, outside of reasoning.
    outside: Follower,
    pub(super) tokens: Arc<ReasoningTokens>,
    /// Lead out of reasoning, in order; not empty.
    pub(super) close: Vec<TokenId>,
    /// If not empty: one of these goes on behind `close`.
    pub(super) then: Vec<TokenId>,
}

impl Marks {
    /// `None` if the families look for no reasoning, or the vocabulary can't write what ends it.
    pub(crate) fn new(families: &Families, vocabulary: &Vocabulary<'_>, may_call: bool) -> Option<Self> {
        let watch = Arc::new(families.watch()?);
        let (open, close, then) = vocabulary.spell(families, may_call)?;
        let spot = watch.start(false);
        let outside =
            Follower { watch, tokenizer: vocabulary.tokenizer.clone(), vocab_size: vocabulary.size, spot };
        let breaks = (0..vocabulary.size).filter_map(|id| TokenId::try_from(id).ok());
        let breaks = breaks.filter(|id| vocabulary.is_break(*id)).collect();
        let tokens = Arc::new(ReasoningTokens { open, ends: vocabulary.ends.to_vec(), breaks });
        let marks = Self { outside, tokens, close, then };
        // What is forced has to be read as the end, or it would be forced again and again; and not as that of the answer.
        let ends_answer = marks.close.iter().any(|token| vocabulary.ends.contains(token));
        let mut follow = marks.follow(true);
        marks.close.iter().for_each(|token| follow.append(*token));
        (!follow.inside() && !ends_answer).then_some(marks)
    }

    /// The beginning of an answer, whose prompt ends inside of reasoning or not.
    pub(super) fn follow(&self, inside: bool) -> Box<dyn Follow> {
        Box::new(Follower { spot: self.outside.watch.start(inside), ..self.outside.clone() })
    }
}

/// A model's vocabulary, and what its template writes with it.
pub(crate) struct Vocabulary<'a> {
    pub(crate) tokenizer: &'a Arc<Tokenizer>,
    pub(crate) template: Option<&'a ChatTemplate>,
    /// Tokens that end an answer.
    pub(crate) ends: &'a [TokenId],
    /// How many tokens the model knows; the tokenizer may have more.
    pub(crate) size: usize,
}

impl Vocabulary<'_> {
    /// The tokens that begin reasoning, those that lead out of it, and those of which one comes then.
    fn spell(
        &self,
        families: &Families,
        may_call: bool,
    ) -> Option<(Vec<TokenId>, Vec<TokenId>, Vec<TokenId>)> {
        if families.is_framed() {
            // Words may be several tokens, of which the first decides.
            let first = |word: &&str| self.encode(word)?.first().copied();
            let then = framed::then(may_call).iter().map(first).collect::<Option<_>>()?;
            return Some((self.encode(framed::OPEN)?, self.encode(framed::close(may_call))?, then));
        }
        let (open, close) = self.pair(families)?;
        // Text of several tokens begins a line, as models write it: then it doesn't depend on what stands before it.
        let close =
            if self.is_marked(close) { self.encode(close) } else { self.encode(&format!("\n{close}")) };
        Some((self.encode(open)?, close?, Vec::new()))
    }

    /// Of a family's pairs of marks, the one that the model uses: the first that begin with tokens of their own, else the
    /// first that its template writes.
    fn pair(&self, families: &Families) -> Option<(&'static str, &'static str)> {
        let pairs = || families.reasoning_marks();
        let template = self.template.map_or("", ChatTemplate::source);
        pairs()
            .find(|(open, close)| self.is_marked(open) && self.is_marked(close))
            .or_else(|| pairs().find(|(open, close)| template.contains(open) || template.contains(close)))
            .or_else(|| pairs().next())
    }

    /// Whether a mark begins with a token of its own.
    fn is_marked(&self, mark: &str) -> bool {
        const BRACKETS: [(char, char); 3] = [('<', '>'), ('[', ']'), ('◁', '▷')];
        BRACKETS.into_iter().any(|(begin, end)| {
            let until = mark.starts_with(begin).then(|| mark.find(end)).flatten();
            let token = until.and_then(|until| self.tokenizer.token_to_id(&mark[..until + end.len_utf8()]));
            token.is_some_and(|token| self.has(token))
        })
    }

    fn is_break(&self, token: TokenId) -> bool {
        let bytes = self.tokenizer.token_bytes(token);
        (1..=2).contains(&bytes.len())
            && bytes.iter().all(|byte| *byte == b'\n')
            && !self.tokenizer.is_special(token)
    }

    /// The tokens of a text; `None` if the model doesn't know all of them.
    fn encode(&self, text: &str) -> Option<Vec<TokenId>> {
        let tokens = self.tokenizer.encode(text, false).ok()?;
        (!tokens.is_empty() && tokens.iter().all(|token| self.has(*token))).then_some(tokens)
    }

    fn has(&self, token: TokenId) -> bool {
        (token as usize) < self.size
    }
}

/// Looks for the marks in the tokens' bytes.
#[derive(Debug, Clone)]
struct Follower {
    watch: Arc<Watch>,
    tokenizer: Arc<Tokenizer>,
    vocab_size: usize,
    spot: Spot,
}

impl Follow for Follower {
    fn append(&mut self, token: TokenId) {
        self.spot = self.watch.behind(self.spot, self.tokenizer.token_bytes(token));
    }

    fn inside(&self) -> bool {
        self.spot.inside
    }

    fn overruns(&self, token: TokenId) -> bool {
        self.watch.overruns(self.spot, self.tokenizer.token_bytes(token))
    }

    fn forbid_overruns(&self, mask: &mut [u32]) {
        // No token spells a whole mark and more.
        if !self.spot.in_mark() {
            return;
        }
        let ids = (0..self.vocab_size).filter_map(|id| TokenId::try_from(id).ok());
        for id in ids.filter(|id| self.overruns(*id)) {
            mask.get_mut(id as usize / 32).into_iter().for_each(|word| *word &= !(1 << (id % 32)));
        }
    }

    fn fork(&self) -> Box<dyn Follow> {
        Box::new(self.clone())
    }
}
