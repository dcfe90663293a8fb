//! What grammars write: reads lines `{"schema": …, "count": 100, "seed": 1}` from standard input and writes for each
//! `{"texts": ["…", …], "cut": 3}`, random answers and how many found no end, or `{"error": "…"}`. Each byte is chosen
//! among those that are allowed, all being equally likely; long answers are brought to their end.
#![allow(clippy::print_stdout)] // its output is its purpose

mod bytes;

use std::io::{BufRead, Error};

use bytes::{END, grammars, has, mask};
use millrace_grammar::{Grammars, Source, Whitespace};
use millrace_types::{Constraint, ConstraintError, TokenId};
use serde_json::{Value, json};

/// From this length on answers take what ends them, if they may.
const SOFT: u64 = 60;

/// Longest answer in bytes.
const MOST: u64 = 4000;

fn main() -> Result<(), Error> {
    let grammars = grammars();
    for line in std::io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line?)?;
        println!("{}", write(&grammars, &case).unwrap_or_else(|error| json!({"error": error})));
    }
    Ok(())
}

fn write(grammars: &Grammars, case: &Value) -> Result<Value, String> {
    let source = Source::Json { schema: case["schema"].clone(), whitespace: Whitespace::None };
    let grammar = grammars.get(&source).map_err(|error| error.to_string())?.grammar;
    let mut random = Random(case["seed"].as_u64().unwrap_or(1));
    let count = case["count"].as_u64().unwrap_or(100);
    let (mut texts, mut cut) = (Vec::new(), 0);
    for _ in 0..count {
        match answer(&mut *grammar.start(), &mut random).map_err(|error| error.to_string())? {
            Some(text) => texts.push(text),
            None => cut += 1,
        }
    }
    Ok(json!({"texts": texts, "cut": cut}))
}

/// A random answer; `None` if it becomes too long.
fn answer(constraint: &mut dyn Constraint, random: &mut Random) -> Result<Option<String>, ConstraintError> {
    let mut text = Vec::new();
    let soft = random.below(SOFT);
    for length in 0..MOST {
        let mask = mask(constraint)?;
        if has(mask, END) && (length > soft || random.below(4) == 0) {
            break;
        }
        let quote = TokenId::from(b'"');
        let bytes: Vec<TokenId> = (0..END).filter(|byte| has(mask, *byte)).collect();
        let chosen = match bytes.as_slice() {
            [] if has(mask, END) => break,
            _ if length > soft && has(mask, quote) => quote,
            bytes => bytes[random.below(bytes.len().max(1) as u64) as usize],
        };
        constraint.commit(chosen)?;
        text.push(chosen as u8);
    }
    let ended = has(mask(constraint)?, END);
    Ok(String::from_utf8(text).ok().filter(|_| ended))
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
