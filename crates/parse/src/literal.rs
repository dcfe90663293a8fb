//! Literals in the manner of Python, JavaScript or Gemma, written as JSON while they are read.
//!
//! Every text has a meaning here: what is no value that we know is a string, and a closing bracket closes whatever is
//! open. So what went out is always the beginning of valid JSON.

use crate::json::{self, escape};
use crate::scalar::{MAX_SCALAR, scalar, word};
use crate::scan::Scan;
use crate::tools::Kinds;

/// Deepest nesting; brackets below are text.
const MAX_DEPTH: usize = 128;

/// Longest key, and longest word that is looked at before it is a string, in bytes.
const MAX_WORD: usize = 256;

/// Quotes that Python and JSON know; with escapes.
const QUOTES: [&str; 4] = ["\"\"\"", "'''", "\"", "'"];

/// An open bracket.
#[derive(Debug)]
struct Frame {
    close: char,
    map: bool,
    /// How many members were written.
    count: usize,
}

/// A literal under way.
struct Literal<'a> {
    /// More quotes; without escapes.
    quotes: &'a [&'static str],
    /// What ends it, whatever is open. Not read.
    stop: &'a [&'static str],
    /// The tool whose arguments these are.
    tool: Option<&'a str>,
    open: Vec<Frame>,
}

/// Reads `{a:1}` or `(a=1)` as the arguments of the call that has begun, and ends the call.
pub(crate) async fn arguments(scan: &mut Scan, quotes: &[&'static str], tool: &str) {
    let complete = Literal { quotes, stop: &[], tool: Some(tool), open: Vec::new() }.read(scan).await;
    scan.out.end_call(complete);
}

/// Reads a list or an object as a part of arguments.
pub(crate) async fn value(scan: &mut Scan, stop: &[&'static str]) -> bool {
    Literal { quotes: &[], stop, tool: None, open: Vec::new() }.read(scan).await
}

impl Literal<'_> {
    /// Reads from the opening bracket to the one that closes it; says whether it came.
    async fn read(mut self, scan: &mut Scan) -> bool {
        let map = self.tool.is_some() || scan.peek().await == Some('{');
        self.push(scan, map);
        loop {
            let Some(next) = scan.skip_blank().await else { return false };
            if !self.stop.is_empty() && scan.at_any(self.stop).await.is_some() {
                while self.pop(scan) {}
                return true;
            }
            match next {
                '}' | ']' | ')' => {
                    scan.skip(1);
                    if !self.pop(scan) {
                        return true;
                    }
                }
                ',' | ';' => scan.skip(1),
                _ => {
                    if !self.member(scan).await {
                        return false;
                    }
                }
            }
        }
    }

    /// Reads an opening bracket.
    fn push(&mut self, scan: &mut Scan, map: bool) {
        scan.skip(1);
        scan.out.arguments(if map { "{" } else { "[" });
        self.open.push(Frame { close: if map { '}' } else { ']' }, map, count: 0 });
    }

    /// Closes a bracket; says whether others are open.
    fn pop(&mut self, scan: &mut Scan) -> bool {
        if let Some(frame) = self.open.pop() {
            scan.out.arguments(frame.close.encode_utf8(&mut [0; 4]));
        }
        !self.open.is_empty()
    }

    /// Reads a key, if there should be one, and a value.
    async fn member(&mut self, scan: &mut Scan) -> bool {
        let depth = self.open.len();
        let Some(frame) = self.open.last_mut() else { return true };
        let (map, count) = (frame.map, frame.count);
        frame.count += 1;
        let mut kinds = Kinds::default();
        let mut separator = if count > 0 { ", " } else { "" }.to_owned();
        if map {
            let position = (depth == 1).then_some(count);
            let Some(key) = self.key(scan, position).await else { return false };
            if let Some(tool) = self.tool.filter(|_| depth == 1) {
                kinds = scan.tools.kinds(tool, &key);
            }
            separator.push_str(&json::quoted(&key));
            separator.push_str(": ");
        }
        scan.out.arguments(&separator);
        self.value(scan, kinds).await
    }

    /// Reads a key and what separates it from its value. Python's arguments may have no key: those have the name of
    /// the tool's parameter at that position.
    async fn key(&self, scan: &mut Scan, position: Option<usize>) -> Option<String> {
        if let (Some(tool), Some(position)) = (self.tool, position)
            && !scan.decide(|rest, _| is_keyed(rest)).await?
        {
            let name = scan.tools.parameters(tool).get(position).map(|(name, _)| name.clone());
            return Some(name.unwrap_or_else(|| format!("arg{position}")));
        }
        let quotes = self.all_quotes();
        let mut key = String::new();
        match scan.eat_any(&quotes).await {
            Some(quote) => {
                while let Some(c) = self.quoted(scan, quote).await? {
                    if key.len() < MAX_WORD {
                        key.push(c);
                    }
                }
            }
            None => loop {
                match scan.peek().await? {
                    ':' | '=' | ',' | '}' | ']' | ')' => break,
                    c if key.len() < MAX_WORD => {
                        key.push(c);
                        scan.skip(c.len_utf8());
                    }
                    _ => break,
                }
            },
        }
        if matches!(scan.skip_blank().await?, ':' | '=') {
            scan.skip(1);
            scan.skip_blank().await?;
        }
        Some(key.trim().to_owned())
    }

    async fn value(&mut self, scan: &mut Scan, kinds: Kinds) -> bool {
        let quotes = self.all_quotes();
        if let Some(quote) = scan.eat_any(&quotes).await {
            return self.string(scan, quote, kinds).await;
        }
        match scan.peek().await {
            Some(c @ ('{' | '[' | '(')) if self.open.len() < MAX_DEPTH => {
                self.push(scan, c == '{');
                true
            }
            Some(_) => self.word(scan, kinds).await,
            None => false,
        }
    }

    fn all_quotes(&self) -> Vec<&'static str> {
        self.quotes.iter().chain(&QUOTES).copied().collect()
    }

    /// Reads a string after its opening quote. One that the schema wants to be something else is looked at first.
    async fn string(&self, scan: &mut Scan, quote: &'static str, kinds: Kinds) -> bool {
        let mut held = String::new();
        if !kinds.is_unknown() && !kinds.has(Kinds::STRING) {
            while held.len() <= MAX_SCALAR {
                match self.quoted(scan, quote).await {
                    Some(Some(c)) => held.push(c),
                    Some(None) => {
                        scan.out.arguments(&scalar(&held, kinds));
                        return true;
                    }
                    None => return false,
                }
            }
        }
        let mut piece = "\"".to_owned();
        held.chars().for_each(|c| escape(c, &mut piece));
        loop {
            scan.out.arguments(&piece);
            piece.clear();
            match self.quoted(scan, quote).await {
                Some(Some(c)) => escape(c, &mut piece),
                Some(None) => {
                    scan.out.arguments("\"");
                    return true;
                }
                None => return false,
            }
        }
    }

    /// Reads a character of a string; `Some(None)` is the closing quote, `None` the end of the output.
    async fn quoted(&self, scan: &mut Scan, quote: &'static str) -> Option<Option<char>> {
        loop {
            if scan.eat(quote).await {
                return Some(None);
            }
            if scan.is_cut(&[quote]) {
                return None;
            }
            match scan.next().await? {
                '\\' if !self.quotes.contains(&quote) => match unescaped(scan).await? {
                    Some(c) => return Some(Some(c)),
                    None => continue,
                },
                c => return Some(Some(c)),
            }
        }
    }

    /// Reads an unquoted value: up to a comma or a bracket that it didn't open.
    async fn word(&self, scan: &mut Scan, kinds: Kinds) -> bool {
        let mut text = String::new();
        let mut open = 0_usize;
        let mut is_string = false;
        loop {
            if text.len() > MAX_WORD {
                let mut piece = if is_string { String::new() } else { "\"".to_owned() };
                text.drain(..).for_each(|c| escape(c, &mut piece));
                scan.out.arguments(&piece);
                is_string = true;
            }
            let Some(c) = scan.peek().await else { return false };
            match c {
                '(' | '[' | '{' => open += 1,
                ')' | ']' | '}' if open > 0 => open -= 1,
                ',' | ')' | ']' | '}' if open == 0 => break,
                _ => {}
            }
            if !self.stop.is_empty() && scan.at_any(self.stop).await.is_some() {
                break;
            }
            text.push(c);
            scan.skip(c.len_utf8());
        }
        let mut piece = String::new();
        match is_string {
            true => {
                text.chars().for_each(|c| escape(c, &mut piece));
                piece.push('"');
            }
            false => piece = word(text.trim(), kinds),
        }
        scan.out.arguments(&piece);
        true
    }
}

/// Whether a key stands at the cursor: a name or a string, and `=` or `:`. `None` asks for more text.
fn is_keyed(rest: &str) -> Option<bool> {
    // Far enough for any key, and no further: this is asked for each of them.
    let window = &rest[..rest.floor_char_boundary(2 * MAX_WORD)];
    let more = (window.len() < rest.len()).then_some(false);
    let Some(first) = window.chars().next() else { return more };
    if matches!(first, '"' | '\'') {
        return is_keyed_string(window, first).or(more);
    }
    if !(first.is_alphanumeric() || first == '_') {
        // Keys in other quotes are Gemma's, whose arguments all have keys.
        return Some(first == '<');
    }
    let after =
        window.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$'));
    after.trim_start().chars().next().map(|c| matches!(c, ':' | '=')).or(more)
}

/// Whether a string is followed by a colon.
fn is_keyed_string(text: &str, quote: char) -> Option<bool> {
    let inside = &text[1..];
    let after = &inside[inside.find(quote)? + 1..];
    Some(after.trim_start().chars().next()? == ':')
}

/// The character that an escape stands for; `Some(None)` if for none.
async fn unescaped(scan: &mut Scan) -> Option<Option<char>> {
    let code = |code: u32| Some(Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)));
    match scan.next().await? {
        'n' => Some(Some('\n')),
        't' => Some(Some('\t')),
        'r' => Some(Some('\r')),
        'b' => Some(Some('\u{8}')),
        'f' => Some(Some('\u{c}')),
        'x' => code(json::hex(scan, 2).await.ok()?),
        'U' => code(json::hex(scan, 8).await.ok()?),
        'u' => json::unicode(scan).await.ok().map(Some),
        '\n' => Some(None),
        c => Some(Some(c)),
    }
}
