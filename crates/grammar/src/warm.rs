//! What answers have in common, found before the first of them.
//!
//! The states of a grammar's lexer are made when an answer comes to them, which takes longer than all else about a mask.
//! Each answer has states of its own, since what it costs must not depend on others; so those that most answers come
//! to are made once, when the grammar is compiled, and all answers begin with them.

use std::time::{Duration, Instant};

use llguidance::Matcher;
use millrace_types::TokenId;

/// Answers that are tried. Twice as many make masks a few percent cheaper, and answers larger.
const WALKS: u64 = 4;

/// Their longest.
const MOST_TOKENS: usize = 64;

/// With a large vocabulary, a mask may take a millisecond before its states are there.
const TIME_LIMIT: Duration = Duration::from_millis(10);

/// The same matcher, which knows the states on the way of some random answers. None of these ends it, whatever they
/// come to.
pub(crate) fn warmed(matcher: Matcher, ends: &[TokenId]) -> Matcher {
    let fresh = matcher.deep_clone();
    let deadline = Instant::now() + TIME_LIMIT;
    for walk in 0..WALKS {
        // It shares its states with the matcher, and nothing else.
        let mut answer = matcher.clone();
        go(&mut answer, walk, ends, deadline);
        if answer.is_error() {
            // Some limit was reached; a real answer may do better.
            return fresh;
        }
    }
    matcher
}

/// Writes an answer of tokens that are allowed, up to where it may only end.
fn go(answer: &mut Matcher, seed: u64, ends: &[TokenId], deadline: Instant) {
    let mut random = seed;
    for _ in 0..MOST_TOKENS {
        let Ok(mask) = answer.compute_mask() else { return };
        let allowed = || mask.iter().filter(|token| !ends.contains(token));
        let count = allowed().count();
        if count == 0 || Instant::now() > deadline {
            return;
        }
        // Knuth's generator (MMIX); its upper bits are the better ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let chosen = allowed().nth((random >> 33) as usize % count);
        if chosen.is_none_or(|token| answer.consume_token(token).is_err()) {
            return;
        }
    }
}
