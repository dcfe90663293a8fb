//! What grammars accept: reads lines `{"schema": …, "instances": [JSON, …]}` from standard input and writes for each
//! `{"accepted": [true, …], "respelled": [true, …]}` or `{"error": "…"}`. Instances are tried as compact JSON, in the bytes
//! of their text; `respelled` says whether the same value is accepted in any order of its fields, with `1` for `1.0`.
#![allow(clippy::print_stdout)] // its output is its purpose

mod bytes;

use std::io::{BufRead, Error};

use bytes::{END, grammars, has, mask};
use millrace_grammar::{GrammarError, Grammars, Source, Whitespace};
use millrace_types::{Constraint, ConstraintError, TokenId};
use serde_json::{Value, json};

fn main() -> Result<(), Error> {
    let grammars = grammars();
    for line in std::io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line?)?;
        let report = match check(&grammars, &case) {
            Ok((accepted, respelled)) => json!({"accepted": accepted, "respelled": respelled}),
            Err(error) => json!({"error": error.to_string()}),
        };
        println!("{report}");
    }
    Ok(())
}

fn check(grammars: &Grammars, case: &Value) -> Result<(Vec<bool>, Vec<bool>), GrammarError> {
    let source = Source::Json { schema: case["schema"].clone(), whitespace: Whitespace::None };
    let grammar = grammars.get(&source)?.grammar;
    let fits = |instance: &Value| accepts(&mut *grammar.start(), &instance.to_string()) == Ok(true);
    let instances = case["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    let accepted: Vec<bool> = instances.iter().map(fits).collect();
    let respelled =
        instances.iter().zip(&accepted).map(|(instance, fit)| *fit || spellings(instance).iter().any(fits));
    let respelled = respelled.collect();
    Ok((accepted, respelled))
}

/// Other texts of a value, up to some.
fn spellings(value: &Value) -> Vec<Value> {
    const MOST: usize = 2000;
    match value {
        Value::Number(number) => {
            let whole =
                number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 1e18);
            vec![whole.map_or_else(|| value.clone(), |float| (float as i64).into())]
        }
        Value::Array(items) => {
            let start = vec![Value::Array(Vec::new())];
            items.iter().fold(start, |lists, item| {
                let items = spellings(item);
                let longer =
                    lists.iter().flat_map(|list| items.iter().map(move |item| (list.clone(), item.clone())));
                let longer = longer.map(|(mut list, item)| {
                    list.as_array_mut().into_iter().for_each(|list| list.push(item.clone()));
                    list
                });
                longer.take(MOST).collect()
            })
        }
        Value::Object(fields) => {
            let mut found = Vec::new();
            for (key, item) in fields {
                let mut rest = fields.clone();
                rest.shift_remove(key);
                for item in spellings(item) {
                    for rest in spellings(&Value::Object(rest.clone())) {
                        let first = std::iter::once((key.clone(), item.clone()));
                        found.push(
                            first
                                .chain(
                                    rest.as_object()
                                        .into_iter()
                                        .flatten()
                                        .map(|(key, item)| (key.clone(), item.clone())),
                                )
                                .collect(),
                        );
                    }
                }
                if found.len() > MOST {
                    return found;
                }
            }
            if found.is_empty() { vec![value.clone()] } else { found }
        }
        _ => vec![value.clone()],
    }
}

fn accepts(constraint: &mut dyn Constraint, text: &str) -> Result<bool, ConstraintError> {
    for token in text.bytes().map(TokenId::from) {
        if !has(mask(constraint)?, token) {
            return Ok(false);
        }
        constraint.commit(token)?;
    }
    Ok(has(mask(constraint)?, END))
}
