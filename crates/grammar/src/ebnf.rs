//! EBNF as llama.cpp and XGrammar write it (`root ::= "a" [0-9]+ (b | c)*`) in the Lark dialect.

use std::fmt::Write;

use crate::{GrammarError, source::unusable};

/// Reads a grammar and writes it anew. Rules keep their names behind a letter, `root` is the start.
///
/// # Errors
/// Where it can't be read, with the line.
pub(crate) fn to_lark(text: &str) -> Result<String, GrammarError> {
    let mut reader = Reader { text, at: 0, out: String::from("start: e_root\n"), has_root: false };
    reader.skip_blank(true);
    while !reader.is_at_end() {
        reader.rule()?;
        reader.skip_blank(true);
    }
    if !reader.has_root {
        return Err(unusable("The grammar", "it has no rule named `root`"));
    }
    Ok(reader.out)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    out: String,
    has_root: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Spaces and comments; line breaks as well if `lines`.
    fn skip_blank(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\n' | '\r' if lines => self.at += 1,
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn fail<T>(&self, expected: &str) -> Result<T, GrammarError> {
        let line = self.text[..self.at].matches('\n').count() + 1;
        Err(unusable("The grammar", format!("line {line}: {expected} was expected")))
    }

    fn rule(&mut self) -> Result<(), GrammarError> {
        let name = self.name()?;
        self.has_root |= name == "root";
        self.skip_blank(true);
        if !self.eat("::=") {
            return self.fail("`::=`");
        }
        // Writing to a string can't fail, here and below.
        let _ = write!(self.out, "{}: ", lark_name(name));
        self.alternatives(false)?;
        self.out.push('\n');
        Ok(())
    }

    fn name(&mut self) -> Result<&'a str, GrammarError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        if end == 0 {
            return self.fail("the name of a rule");
        }
        self.at += end;
        Ok(&rest[..end])
    }

    /// Up to the end of the rule, or, `within` brackets, up to the closing one. Nesting was bounded before.
    fn alternatives(&mut self, within: bool) -> Result<(), GrammarError> {
        loop {
            self.sequence(within)?;
            if !self.eat("|") {
                return Ok(());
            }
            self.out.push_str(" | ");
        }
    }

    fn sequence(&mut self, within: bool) -> Result<(), GrammarError> {
        let mut count = 0;
        loop {
            self.skip_blank(within || count == 0);
            if self.ends_rule(within) {
                break;
            }
            match self.peek() {
                None | Some('|') | Some(')') => break,
                Some('\n' | '\r') => {
                    // The rule goes on in the next line, unless that begins another one.
                    self.skip_blank(true);
                    continue;
                }
                Some(_) => {}
            }
            self.item()?;
            self.repetition()?;
            self.out.push(' ');
            count += 1;
        }
        if count == 0 {
            self.out.push_str("\"\"");
        }
        Ok(())
    }

    /// Whether the rule has ended: nothing more, or a line that begins another one.
    fn ends_rule(&self, within: bool) -> bool {
        if within {
            return false;
        }
        let rest = self.rest().trim_start();
        let after_name = rest.trim_start_matches(is_name);
        after_name.len() < rest.len() && after_name.trim_start().starts_with("::=")
    }

    fn item(&mut self) -> Result<(), GrammarError> {
        match self.peek() {
            Some('"') => self.string(),
            Some('[') => self.class(),
            Some('.') => {
                self.at += 1;
                self.out.push_str("/(.|\\n)/");
                Ok(())
            }
            Some('(') => {
                self.at += 1;
                self.out.push('(');
                self.alternatives(true)?;
                self.skip_blank(true);
                if !self.eat(")") {
                    return self.fail("`)`");
                }
                self.out.push(')');
                Ok(())
            }
            _ => {
                let name = self.name()?;
                self.out.push_str(&lark_name(name));
                Ok(())
            }
        }
    }

    fn repetition(&mut self) -> Result<(), GrammarError> {
        match self.peek() {
            Some(c @ ('*' | '+' | '?')) => {
                self.at += 1;
                self.out.push(c);
            }
            Some('{') => {
                let end = self.rest().find('}').map(|end| end + 1);
                let Some(range) = end.and_then(|end| self.rest().get(..end)) else { return self.fail("`}`") };
                if !range[1..range.len() - 1].chars().all(|c| c.is_ascii_digit() || c == ',' || c == ' ') {
                    return self.fail("a number of repetitions such as `{2,3}`");
                }
                self.at += range.len();
                self.out.push_str(&range.replace(' ', ""));
            }
            _ => {}
        }
        Ok(())
    }

    /// `"…"` with C's escapes.
    fn string(&mut self) -> Result<(), GrammarError> {
        self.at += 1;
        let mut value = String::new();
        loop {
            match self.next() {
                Some('"') => break,
                Some('\\') => value.push(self.escaped()?),
                Some('\n') | None => return self.fail("the end of a string"),
                Some(c) => value.push(c),
            }
        }
        self.out.push_str(&crate::lark::quoted(&value));
        Ok(())
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Result<char, GrammarError> {
        let digits = match self.next() {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some(c) => return Ok(c),
            None => return self.fail("an escaped character"),
        };
        let code = self.rest().get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        let Some(c) = code.and_then(char::from_u32) else { return self.fail("a character's number") };
        self.at += digits;
        Ok(c)
    }

    /// `[a-z]` or `[^a-z]`.
    fn class(&mut self) -> Result<(), GrammarError> {
        self.at += 1;
        self.out.push_str("/[");
        if self.eat("^") {
            self.out.push('^');
        }
        loop {
            match self.next() {
                Some(']') => break,
                Some('-') => self.out.push_str(if self.peek() == Some(']') { "\\-" } else { "-" }),
                Some('\\') => {
                    let c = self.escaped()?;
                    let _ = write!(self.out, "\\u{{{:x}}}", c as u32);
                }
                None => return self.fail("`]`"),
                Some(c) if c.is_alphanumeric() => self.out.push(c),
                Some(c) => {
                    let _ = write!(self.out, "\\u{{{:x}}}", c as u32);
                }
            }
        }
        self.out.push_str("]/");
        Ok(())
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Lark's rules are in lower case: other letters are marked, so that no two names become one.
fn lark_name(name: &str) -> String {
    let mut lark = String::from("e_");
    for c in name.chars() {
        match c {
            '-' => lark.push_str("_0"),
            '_' => lark.push_str("__"),
            c if c.is_ascii_uppercase() => {
                lark.push_str("_1");
                lark.push(c.to_ascii_lowercase());
            }
            c => lark.push(c),
        }
    }
    lark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_rewritten() {
        let text = "# numbers\nroot ::= \"a\\n\" [0-9]+ (item-A | .)* # end\n  b?\nitem-A ::=\n  [^\"\\\\-] |\nb ::= \"x\"{2, 3}";
        let lark = to_lark(text).unwrap();
        let lines: Vec<&str> = lark.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "start: e_root");
        assert_eq!(lines[1], r#"e_root: "a\n" /[0-9]/+ (e_item_0_1a  | /(.|\n)/ )* e_b?"#);
        assert_eq!(lines[2], r#"e_item_0_1a: /[^\u{22}\u{5c}\-]/  | """#);
        assert_eq!(lines[3], r#"e_b: "x"{2,3}"#);
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, message) in [
            ("root ::= (\"a\"", "`)`"),
            ("root ::= \"a", "the end of a string"),
            ("root ::= [a", "`]`"),
            ("root ::= a{x}", "repetitions"),
            ("a ::= \"b\"", "no rule named `root`"),
            ("\n::= 3", "line 2: the name of a rule"),
            ("root ::= \"\\xzz\"", "number"),
        ] {
            let error = to_lark(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
