//! Sources in llguidance's Lark dialect.

use std::fmt::Write;

use llguidance::regex_to_lark;

use crate::{
    Expr, GrammarError, Source, Tag, TextRules, ebnf,
    vocabulary::{Names, Piece},
};

/// Any text at all, without control tokens.
const TEXT: &str = r"(.|\n)*";

/// The grammar of a checked source.
///
/// # Errors
/// A grammar in EBNF that can't be read.
pub(crate) fn grammar(source: &Source, names: &Names) -> Result<String, GrammarError> {
    Ok(match source {
        Source::Json { schema, whitespace } => {
            expression(&Expr::Json { schema: schema.clone(), whitespace: whitespace.clone() }, names)
        }
        Source::Regex(pattern) => expression(&Expr::Regex(pattern.clone()), names),
        Source::Choice(texts) => {
            // Not as rules: as one lexeme it doesn't matter how many begin alike.
            let texts: Vec<String> = texts.iter().map(|text| regex_escape(text)).collect();
            format!("start: /({})/\n", regex_to_lark(&texts.join("|"), ""))
        }
        Source::Grammar(text) if text.contains("::=") => ebnf::to_lark(text)?,
        Source::Grammar(text) => text.clone(),
        Source::Expr(expr) => expression(expr, names),
    })
}

fn expression(expr: &Expr, names: &Names) -> String {
    let mut writer = Writer { rules: String::new(), count: 0, names };
    let start = writer.write(expr);
    format!("start: {start}\n{}", writer.rules)
}

/// Writes a rule for each part that is more than a word.
struct Writer<'a> {
    rules: String,
    count: usize,
    names: &'a Names,
}

impl Writer<'_> {
    /// What stands for `expr` in another rule; it never needs brackets around it.
    fn write(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::Literal(text) => self.literal(text),
            Expr::Json { schema, whitespace } => {
                let json = escape_delete(&whitespace.apply(schema).to_string());
                self.rule("", &format!("%json {json}"))
            }
            Expr::Regex(pattern) => self.rule("", &regex(pattern)),
            Expr::Lark(text) => self.rule("", &format!("%lark {{\n{text}\n}}")),
            Expr::Seq(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| self.write(part)).collect();
                self.rule("", &parts.join(" "))
            }
            Expr::Any(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| self.write(part)).collect();
                self.rule("", &parts.join(" | "))
            }
            Expr::Repeat { item, separator, min, max } => {
                let item = self.write(item);
                let separator = self.literal(separator);
                let least = min.saturating_sub(1);
                let more = match max {
                    Some(1) => String::new(),
                    Some(max) => format!("({separator} {item}){{{least},{}}}", max.saturating_sub(1)),
                    None => format!("({separator} {item}){{{least},}}"),
                };
                let optional = if *min == 0 { "?" } else { "" };
                self.rule("", &format!("({item} {more}){optional}"))
            }
            Expr::Free { tags, min, max, rules } => self.free(tags, *min, *max, rules),
            Expr::Members { items, separator } => self.members(items, separator),
            Expr::Text { patterns, without, end } => self.text(patterns, without, end),
        }
    }

    fn rule(&mut self, attributes: &str, body: &str) -> String {
        let name = format!("r{}", self.count);
        self.count += 1;
        // Writing to a string can't fail.
        let _ = writeln!(self.rules, "{name}{attributes}: {body}");
        name
    }

    /// A lexeme, which others may be put together from.
    fn terminal(&mut self, body: &str) -> String {
        let name = format!("T{}", self.count);
        self.count += 1;
        let _ = writeln!(self.rules, "{name}: {body}");
        name
    }

    fn literal(&mut self, text: &str) -> String {
        let words: Vec<String> = self.names.split(text).iter().map(word).collect();
        match words.len() {
            0 => r#""""#.to_owned(),
            1 => words.concat(),
            _ => self.rule("", &words.join(" ")),
        }
    }

    /// A rule for each place in the list, so that it grows with the list and not with the choices that it has.
    fn members(&mut self, items: &[(Expr, bool)], separator: &str) -> String {
        let separator = self.literal(separator);
        let items: Vec<(String, bool)> =
            items.iter().map(|(item, required)| (self.write(item), *required)).collect();
        let nothing = r#""""#.to_owned();
        // What may follow on an item, and what may come if none has come yet.
        let (mut next, mut first) = (nothing.clone(), nothing);
        for (item, required) in items.iter().rev() {
            let (after, skipped) = (next.clone(), first);
            let optional = if *required { "" } else { "?" };
            next = self.rule("", &format!("({separator} {item}){optional} {after}"));
            let begun = format!("{item} {after}");
            first = self.rule("", &if *required { begun } else { format!("{begun} | {skipped}") });
        }
        first
    }

    /// A text, as one lexeme with as much of its end as isn't a control token.
    fn text(&mut self, patterns: &[String], never: &[String], end: &str) -> String {
        let mut body = format!("/{TEXT}/");
        for pattern in patterns {
            let _ = write!(body, " & {}", regex(pattern));
        }
        let never: Vec<String> = never.iter().map(|text| regex_to_lark(&regex_escape(text), "")).collect();
        body.push_str(&without(&never, TEXT));
        let name = self.terminal(&body);
        let pieces = self.names.split(end);
        let (text, rest) = match pieces.split_first() {
            Some((Piece::Text(text), rest)) => (quoted(text), rest),
            _ => (String::new(), pieces.as_slice()),
        };
        let rest: String = rest.iter().map(|piece| format!(" {}", word(piece))).collect();
        if rest.is_empty() {
            return self.rule("[lazy]", &format!("{name} {text}"));
        }
        // A control token leaves no doubt about where a text ends.
        let lexeme = self.terminal(&format!("{name} {text}"));
        self.rule("", &format!("{lexeme}{rest}"))
    }

    /// Text up to a trigger, what follows that, and so on; then text without any trigger.
    fn free(&mut self, tags: &[Tag], min: usize, max: Option<usize>, rules: &TextRules) -> String {
        let triggers = tags.iter().map(|tag| (tag, self.names.split(&tag.trigger)));
        let triggers: Vec<_> = triggers.collect();
        // Control tokens can't be in text.
        let texts = triggers.iter().filter(|(_, pieces)| !matches!(pieces.as_slice(), [Piece::Token(_), ..]));
        let texts = texts.map(|(tag, _)| regex_to_lark(&regex_escape(&tag.trigger), ""));
        let never = texts.chain(rules.never.iter().map(|pattern| regex_to_lark(pattern, "d")));
        let never: Vec<String> = never.map(|pattern| format!("({pattern})")).collect();
        let plain = self.terminal(&format!("/{TEXT}/{}", without(&never, TEXT)));
        let open: Vec<String> = rules.open.iter().map(|pattern| regex_to_lark(pattern, "d")).collect();
        let before = if open.is_empty() {
            plain.clone()
        } else {
            self.terminal(&format!("{plain}{}", without(&open, "")))
        };
        let mut openings = Vec::new();
        for (tag, pieces) in &triggers {
            let opening = match pieces.as_slice() {
                [Piece::Token(id), rest @ ..] => {
                    let rest: String = rest.iter().map(|piece| format!(" {}", word(piece))).collect();
                    let text = self.rule("", &before);
                    self.rule("", &format!("{text} <[{id}]>{rest}"))
                }
                _ => self.rule("[lazy]", &format!("{before} {}", quoted(&tag.trigger))),
            };
            let rest = self.write(&tag.rest);
            openings.push(self.rule("", &format!("{opening} {rest}")));
        }
        let any = self.rule("", &openings.join(" | "));
        let tail = self.rule("", &plain);
        let body = match max {
            None => format!("{any}{{{min},}} {tail}"),
            // The last of them is the end.
            Some(max) if min >= max => format!("{any}{{{max},{max}}}"),
            Some(1) => format!("{tail} | {any}"),
            Some(max) => format!("{any}{{{min},{}}} {tail} | {any}{{{max},{max}}}", max - 1),
        };
        self.rule("", &body)
    }
}

/// Leaves out of a lexeme what has one of these patterns, followed by `end`. All in one: the lexer's states multiply with
/// each part of an intersection.
fn without(patterns: &[String], end: &str) -> String {
    if patterns.is_empty() { String::new() } else { format!(" & ~/{TEXT}({}){end}/", patterns.join("|")) }
}

/// A piece of a text in a rule.
fn word(piece: &Piece<'_>) -> String {
    match piece {
        Piece::Text(text) => quoted(text),
        Piece::Token(id) => format!("<[{id}]>"),
    }
}

/// A pattern that has to match as a whole, which is what the anchors at its ends would say.
fn regex(pattern: &str) -> String {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let ends_anchored = pattern.strip_suffix('$').filter(|rest| {
        let escapes = rest.len() - rest.trim_end_matches('\\').len();
        escapes.is_multiple_of(2)
    });
    // Digits are ASCII's, as in JSON; words are everybody's.
    format!("/(?:{})/", regex_to_lark(ends_anchored.unwrap_or(pattern), "d"))
}

/// A text as a pattern that matches it and nothing else.
pub fn regex_escape(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => pattern.push_str("\\n"),
            '\r' => pattern.push_str("\\r"),
            _ => {
                if "\\.+*?()|[]{}^$#&-~".contains(c) {
                    pattern.push('\\');
                }
                pattern.push(c);
            }
        }
    }
    pattern
}

/// A text in quotes.
pub(crate) fn quoted(text: &str) -> String {
    escape_delete(&serde_json::Value::from(text).to_string())
}

/// The one control character that JSON needn't escape, but Lark must.
fn escape_delete(json: &str) -> String {
    json.replace('\u{7f}', "\\u007f")
}
