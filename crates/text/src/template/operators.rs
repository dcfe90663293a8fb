//! Two operators of Python's that minijinja doesn't have: `+` next to a `safe` text, which escapes the other side
//! (markupsafe's `Markup.__add__`), and `%` after a string literal, which formats it.
//!
//! minijinja has no hook for operators, so they are rewritten in the source, as calls of the filters [`MARKUP`] and
//! [`FORMAT`]. What counts is written where it is used (`"…"|safe + x`, `"%s" % x`); a text that was marked safe or
//! used as a format through a variable is not recognised.

use std::ops::Range;

/// Filter that escapes a text for HTML unless it is safe.
pub(super) const MARKUP: &str = "__markup";
/// Filter that formats a text with its argument, a tuple standing for several.
pub(super) const FORMAT: &str = "__format";

/// Rewrites the inside of a tag or expression.
pub(super) fn rewrite(code: &str) -> String {
    let marked = code.contains('+') && code.contains("safe");
    let formats = code.contains('%') && code.contains(['"', '\'']);
    if !marked && !formats {
        return code.to_owned();
    }
    let tokens = Tokens::new(code);
    tokens.level(0..tokens.spans.len())
}

struct Tokens<'a> {
    code: &'a str,
    spans: Vec<Range<usize>>,
}

impl<'a> Tokens<'a> {
    /// Words (with the dots of attributes), string literals, brackets, white space, and single other characters.
    fn new(code: &'a str) -> Self {
        let mut spans: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        while let Some(first) = code[start..].chars().next() {
            let rest = &code[start..];
            let run = |same: fn(char) -> bool| rest.find(|c| !same(c)).unwrap_or(rest.len());
            let length = match first {
                '"' | '\'' => literal_length(rest),
                c if is_word(c) => run(is_word),
                c if c.is_whitespace() => run(char::is_whitespace),
                c => c.len_utf8(),
            };
            spans.push(start..start + length);
            start += length;
        }
        Self { code, spans }
    }

    fn text(&self, index: usize) -> &'a str {
        &self.code[self.spans[index].clone()]
    }

    fn is_space(&self, index: usize) -> bool {
        self.text(index).starts_with(char::is_whitespace)
    }

    /// Rewrites tokens of one nesting level, sum by sum.
    fn level(&self, tokens: Range<usize>) -> String {
        let mut out = String::new();
        let mut operands: Vec<Range<usize>> = Vec::new();
        let mut start = tokens.start;
        let mut index = tokens.start;
        while index < tokens.end {
            let next = self.group_end(index, tokens.end);
            match self.text(index) {
                "+" => {
                    operands.push(start..index);
                    start = next;
                }
                delimiter if ends_sum(delimiter) => {
                    operands.push(start..index);
                    out.push_str(&self.sum(&operands));
                    operands.clear();
                    out.push_str(delimiter);
                    start = next;
                }
                _ => {}
            }
            index = next;
        }
        operands.push(start..tokens.end);
        out + &self.sum(&operands)
    }

    /// One behind the bracket that closes the one at `index`; the next token if there is none there.
    fn group_end(&self, index: usize, end: usize) -> usize {
        let mut depth = 0_usize;
        for at in index..end {
            match self.text(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        end
    }

    fn sum(&self, operands: &[Range<usize>]) -> String {
        let texts = operands.iter().map(|operand| self.operand(operand.clone()));
        if operands.len() < 2 || !operands.iter().any(|operand| self.is_marked_safe(operand.clone())) {
            return texts.collect::<Vec<_>>().join("+");
        }
        let escaped: Vec<String> = texts.map(|text| format!("({text})|{MARKUP}")).collect();
        format!(" ({})|safe ", escaped.join(" + "))
    }

    fn is_marked_safe(&self, operand: Range<usize>) -> bool {
        let last: Vec<&str> =
            operand.rev().filter(|at| !self.is_space(*at)).take(2).map(|at| self.text(at)).collect();
        last == ["safe", "|"]
    }

    /// Rewrites what is in brackets, and formats.
    fn operand(&self, tokens: Range<usize>) -> String {
        let mut out = String::new();
        let mut literal = false;
        let mut index = tokens.start;
        while index < tokens.end {
            let next = self.group_end(index, tokens.end);
            let text = self.text(index);
            if text == "%" && literal {
                let argument = self.factor_end(next, tokens.end);
                out.push_str(&format!("|{FORMAT}({})", self.operand(next..argument)));
                index = argument;
                continue;
            }
            if next > index + 1 {
                let closed = matches!(self.text(next - 1), ")" | "]" | "}");
                let inner = index + 1..if closed { next - 1 } else { next };
                out.push_str(text);
                out.push_str(&self.level(inner.clone()));
                out.push_str(&self.code[inner_end(&self.spans, inner.end)..self.spans[next - 1].end]);
            } else {
                out.push_str(text);
            }
            literal = text.starts_with(['"', '\'']) || (literal && self.is_space(index));
            index = next;
        }
        out
    }

    /// Where the factor that starts at `from` ends.
    fn factor_end(&self, from: usize, end: usize) -> usize {
        let mut index = from;
        while index < end && !matches!(self.text(index), "*" | "/" | "%" | "~") {
            index = self.group_end(index, end);
        }
        index
    }
}

/// Where the source behind the tokens before `index` begins.
fn inner_end(spans: &[Range<usize>], index: usize) -> usize {
    spans.get(index).map_or_else(|| spans.last().map_or(0, |span| span.end), |span| span.start)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

/// Anything that binds less than `+`, and `-`, which no text has.
fn ends_sum(token: &str) -> bool {
    const WORDS: [&str; 11] = ["and", "or", "not", "in", "is", "if", "else", "elif", "set", "call", "with"];
    matches!(token, "," | ":" | "=" | "!" | "<" | ">" | "-") || WORDS.contains(&token)
}

/// The length of the string literal that `text` starts with.
fn literal_length(text: &str) -> usize {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, quote)| quote);
    let mut escaped = false;
    for (at, c) in chars {
        if !escaped && Some(c) == quote {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn code_without_these_operators_stays_as_it_is() {
        for code in [
            "a + b|safe_length + c",
            "x | safe ~ 'y'",
            "set x = ['%', a % 2, (b + [1]), {'k': 'v'}]",
            "'a' if x % 3 else f(a, b=c + 1)",
            "(unclosed + 'safe",
            "'unclosed",
            "a ) + b } 'safe'",
        ] {
            assert_eq!(rewrite(code), code);
        }
    }

    #[test]
    fn sums_with_a_safe_text_escape_the_others() {
        assert_eq!(rewrite("'a'|safe + b.c"), " (('a'|safe )|__markup + ( b.c)|__markup)|safe ");
        assert_eq!(rewrite("x, f(y + 'a' | safe)"), "x, f( ((y )|__markup + ( 'a' | safe)|__markup)|safe )");
    }

    #[test]
    fn a_literal_before_percent_is_a_format() {
        assert_eq!(rewrite("'%d' % n ~ 'x'"), "'%d' |__format( n )~ 'x'");
        assert_eq!(rewrite("'%s%s' % (a, b)"), "'%s%s' |__format( (a, b))");
    }
}
