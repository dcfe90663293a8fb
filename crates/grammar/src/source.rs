//! What an answer can be held to, before it is compiled.

use serde_json::{Value, json};

use crate::GrammarError;

/// Bytes of a source.
const MAX_BYTES: usize = 256 << 10;

/// Bytes of a regular expression or of a grammar; they cost more to read than schemas do.
const MAX_GRAMMAR_BYTES: usize = 64 << 10;

/// Nested brackets of a grammar.
const MAX_BRACKETS: usize = 64;

/// What a whole answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// JSON that validates against a schema.
    Json {
        /// An object or a boolean, draft 2020-12 unless it says otherwise.
        schema: Value,
        /// What may stand between its parts.
        whitespace: Whitespace,
    },
    /// Text that a regular expression matches as a whole (Rust's syntax, without look-around and back-references).
    Regex(String),
    /// One of these texts, at least one.
    Choice(Vec<String>),
    /// What a context-free grammar derives: Lark's notation, or EBNF if it has `::=`.
    Grammar(String),
    /// Put together from parts.
    Expr(Expr),
}

/// White space between the parts of JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Whitespace {
    /// A space, or a line break and some indentation, wherever JSON has any. Small models that may write more white space
    /// write nothing else.
    #[default]
    Flexible,
    /// None.
    None,
    /// What this regular expression matches.
    Pattern(String),
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// This text. Names of special tokens in it are those tokens.
    Literal(String),
    /// JSON for a schema.
    Json {
        /// As in [`Source::Json`].
        schema: Value,
        /// As in [`Source::Json`].
        whitespace: Whitespace,
    },
    /// Text that a regular expression matches.
    Regex(String),
    /// What a grammar in Lark's notation derives.
    Lark(String),
    /// One after the other.
    Seq(Vec<Expr>),
    /// One of them; at least one.
    Any(Vec<Expr>),
    /// Several times.
    Repeat {
        /// What.
        item: Box<Expr>,
        /// What stands between two of them.
        separator: String,
        /// At least so often.
        min: usize,
        /// At most so often; not 0.
        max: Option<usize>,
    },
    /// Each at most once, in this order.
    Members {
        /// What, and whether it must be there.
        items: Vec<(Expr, bool)>,
        /// What stands between two of them.
        separator: String,
    },
    /// Text, and what ends it.
    Text {
        /// What it has to match as a whole, each of them: regular expressions.
        patterns: Vec<String>,
        /// What can't stand in it.
        without: Vec<String>,
        /// What follows; not empty.
        end: String,
    },
    /// Text without any rule, in which the texts that begin tags are followed by what these want.
    Free {
        /// At least one.
        tags: Vec<Tag>,
        /// At least so many of them.
        min: usize,
        /// At most so many of them; not 0. Nothing follows on the last.
        max: Option<usize>,
        /// What the text can't be.
        rules: TextRules,
    },
}

/// What free text can't be, besides beginning a tag: regular expressions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextRules {
    /// Match no part of it.
    pub never: Vec<String>,
    /// Match no end of it before a tag.
    pub open: Vec<String>,
}

/// Something that free text may be interrupted by.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// Begins it wherever it stands; not empty.
    pub trigger: String,
    /// What follows.
    pub rest: Expr,
}

impl Whitespace {
    /// The compiler's options, which it reads from the schema.
    fn options(&self) -> Value {
        match self {
            Self::Flexible => json!({"whitespace_pattern": r"\x20|\r?\n[\x20\t]{0,24}"}),
            Self::None => json!({"whitespace_flexible": false}),
            Self::Pattern(pattern) => json!({"whitespace_pattern": pattern}),
        }
    }

    /// A checked schema with these options.
    pub(crate) fn apply(&self, schema: &Value) -> Value {
        let mut schema = match schema {
            Value::Object(fields) => fields.clone(),
            // `true`; `false` was refused.
            _ => serde_json::Map::new(),
        };
        schema.insert("x-guidance".into(), self.options());
        Value::Object(schema)
    }
}

impl Source {
    /// For messages.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Json { .. } => "The JSON schema",
            Self::Regex(_) => "The regular expression",
            Self::Choice(_) => "The list of choices",
            Self::Grammar(_) => "The grammar",
            Self::Expr(_) => "The format",
        }
    }

    /// Names it in the cache: equal sources, and only those, have the same.
    pub(crate) fn key(&self) -> String {
        // Order of keys is part of a schema: answers have their fields in that order.
        format!("{self:?}")
    }

    /// Checks size and shape, as compiling does before anything else.
    ///
    /// # Errors
    /// The source is too large, or surely wrong.
    pub fn check(&self) -> Result<(), GrammarError> {
        let what = self.what();
        match self {
            Self::Json { schema, whitespace } => check_json(what, schema, whitespace),
            Self::Regex(pattern) => check_text(what, pattern, MAX_GRAMMAR_BYTES),
            Self::Choice(texts) if texts.is_empty() => Err(unusable(what, "it is empty")),
            Self::Choice(texts) => {
                check_size(what, texts.iter().map(|text| text.len() + 8).sum(), MAX_GRAMMAR_BYTES)
            }
            Self::Grammar(text) => {
                check_text(what, text, MAX_GRAMMAR_BYTES)?;
                check_brackets(what, text)
            }
            Self::Expr(expr) => expr.check(what),
        }
    }
}

impl Source {
    /// The same with schemas in the compiler's words.
    ///
    /// # Errors
    /// A schema has what can't be said in them.
    pub(crate) fn reduced(&self) -> Result<Self, GrammarError> {
        let what = self.what();
        Ok(match self {
            Self::Json { schema, whitespace } => {
                Self::Json { schema: crate::schema::reduce(what, schema)?, whitespace: whitespace.clone() }
            }
            Self::Expr(expr) => {
                let mut expr = expr.clone();
                expr.reduce(what)?;
                Self::Expr(expr)
            }
            Self::Regex(_) | Self::Choice(_) | Self::Grammar(_) => self.clone(),
        })
    }
}

impl Expr {
    fn reduce(&mut self, what: &'static str) -> Result<(), GrammarError> {
        match self {
            Self::Json { schema, .. } => *schema = crate::schema::reduce(what, schema)?,
            Self::Seq(list) | Self::Any(list) => list.iter_mut().try_for_each(|part| part.reduce(what))?,
            Self::Repeat { item, .. } => item.reduce(what)?,
            Self::Members { items, .. } => items.iter_mut().try_for_each(|(item, _)| item.reduce(what))?,
            Self::Free { tags, .. } => tags.iter_mut().try_for_each(|tag| tag.rest.reduce(what))?,
            Self::Literal(_) | Self::Regex(_) | Self::Lark(_) | Self::Text { .. } => {}
        }
        Ok(())
    }

    fn check(&self, what: &'static str) -> Result<(), GrammarError> {
        match self {
            Self::Literal(text) => check_size(what, text.len(), MAX_GRAMMAR_BYTES),
            Self::Json { schema, whitespace } => check_json(what, schema, whitespace),
            Self::Regex(pattern) => check_text(what, pattern, MAX_GRAMMAR_BYTES),
            Self::Lark(text) => {
                check_text(what, text, MAX_GRAMMAR_BYTES)?;
                check_brackets(what, text)
            }
            Self::Seq(list) | Self::Any(list) => list.iter().try_for_each(|part| part.check(what)),
            Self::Repeat { item, .. } => item.check(what),
            Self::Members { items, .. } => items.iter().try_for_each(|(item, _)| item.check(what)),
            Self::Text { patterns, end, .. } => {
                if end.is_empty() {
                    return Err(unusable(what, "nothing ends a text in it"));
                }
                patterns.iter().try_for_each(|pattern| check_text(what, pattern, MAX_GRAMMAR_BYTES))
            }
            Self::Free { tags, rules, .. } => {
                if tags.iter().any(|tag| tag.trigger.is_empty()) {
                    return Err(unusable(what, "a text that triggers a tag is empty"));
                }
                let mut patterns = rules.never.iter().chain(&rules.open);
                patterns.try_for_each(|pattern| check_text(what, pattern, MAX_GRAMMAR_BYTES))?;
                tags.iter().try_for_each(|tag| tag.rest.check(what))
            }
        }
    }
}

pub(crate) fn unusable(what: &'static str, reason: impl Into<String>) -> GrammarError {
    GrammarError::Unusable { what, reason: reason.into() }
}

fn check_json(what: &'static str, schema: &Value, whitespace: &Whitespace) -> Result<(), GrammarError> {
    if let Whitespace::Pattern(pattern) = whitespace {
        check_text("The white space pattern", pattern, 1024)?;
    }
    check_size(what, schema.to_string().len(), MAX_BYTES)?;
    crate::schema::check(what, schema)
}

fn check_text(what: &'static str, text: &str, most: usize) -> Result<(), GrammarError> {
    if text.is_empty() {
        return Err(unusable(what, "it is empty"));
    }
    if text.contains('\0') {
        return Err(unusable(what, "it has a NUL character"));
    }
    check_size(what, text.len(), most)
}

fn check_size(what: &'static str, size: usize, most: usize) -> Result<(), GrammarError> {
    if size > most { Err(GrammarError::TooLarge { what, size, unit: "bytes", most }) } else { Ok(()) }
}

/// The compiler reads nested brackets by recursion. Those in strings and classes count as well, which only makes the
/// limit stricter.
fn check_brackets(what: &'static str, text: &str) -> Result<(), GrammarError> {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    let most = MAX_BRACKETS;
    if deepest > most {
        return Err(GrammarError::TooLarge { what, size: deepest, unit: "levels of brackets", most });
    }
    Ok(())
}
