//! What grammars accept: reads lines `{"schema": …, "instances": [JSON, …]}` from standard input and writes for each
//! `{"accepted": [true, …]}` or `{"error": "…"}`. Instances are tried as compact JSON, in the bytes of their text.
#![allow(clippy::print_stdout)] // its output is its purpose

use std::io::{BufRead, Error};

use millrace_grammar::{GrammarError, Grammars, Source, Vocabulary, Whitespace};
use millrace_types::{Constraint, ConstraintError, TokenId};
use serde_json::{Value, json};

/// Tokens are bytes; this one ends an answer.
const END: TokenId = 256;

fn main() -> Result<(), Error> {
    let grammars = Grammars::new(|| {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]).chain([Vec::new()]).collect();
        let encode = |text: &str| text.bytes().map(TokenId::from).collect();
        Vocabulary::new(bytes, Vec::new(), vec![END], encode)
    });
    for line in std::io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line?)?;
        let report = match check(&grammars, &case) {
            Ok(accepted) => json!({"accepted": accepted}),
            Err(error) => json!({"error": error.to_string()}),
        };
        println!("{report}");
    }
    Ok(())
}

fn check(grammars: &Grammars, case: &Value) -> Result<Vec<bool>, GrammarError> {
    let source = Source::Json { schema: case["schema"].clone(), whitespace: Whitespace::None };
    let grammar = grammars.get(&source)?.grammar;
    let instances = case["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(instances
        .iter()
        .map(|instance| accepts(&mut *grammar.start(), &instance.to_string()) == Ok(true))
        .collect())
}

fn accepts(constraint: &mut dyn Constraint, text: &str) -> Result<bool, ConstraintError> {
    for token in text.bytes().map(TokenId::from) {
        if !is_allowed(constraint, token)? {
            return Ok(false);
        }
        constraint.commit(token)?;
    }
    is_allowed(constraint, END)
}

fn is_allowed(constraint: &mut dyn Constraint, token: TokenId) -> Result<bool, ConstraintError> {
    let mut mask = [0u32; 9];
    constraint.mask(&mut mask)?;
    Ok(mask[token as usize / 32] >> (token % 32) & 1 == 1)
}
