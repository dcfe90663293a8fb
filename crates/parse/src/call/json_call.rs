//! Calls as JSON objects: `{"name": "f", "arguments": {"a": 1}}`, with the keys that models use, in any order.

use super::{MAX_NAME, begin, begin_empty};
use crate::grammar::Section;
use crate::json;
use crate::scan::{Miss, Scan};

/// Longest head of a call: arguments that come before the name have to wait for it.
const MAX_HEAD: usize = 1 << 16;

/// What is known of a call before it begins.
#[derive(Debug, Default)]
struct Head {
    name: Option<String>,
    id: Option<String>,
    /// Arguments that came before the name.
    early: Option<String>,
    /// Open braces: `{"function": {…}}` has two.
    depth: usize,
}

/// What a key means.
enum Key {
    Name,
    Arguments,
    Id,
    /// The object that holds name and arguments, or the name itself.
    Function,
    /// `"type": "function"`.
    Type,
    Other,
}

/// All keys but others.
pub(crate) const KEYS: [&str; 10] = [
    "name",
    "tool_name",
    "arguments",
    "parameters",
    "args",
    "id",
    "tool_call_id",
    "call_id",
    "function",
    "type",
];

impl Key {
    fn of(key: &str) -> Self {
        match KEYS.iter().position(|known| *known == key) {
            Some(0..2) => Self::Name,
            Some(2..5) => Self::Arguments,
            Some(5..8) => Self::Id,
            Some(8) => Self::Function,
            Some(9) => Self::Type,
            _ => Self::Other,
        }
    }
}

/// Reads a call from its `{` on. In a bare section nothing but its keys tells it from other JSON, so it must have
/// exactly those of a call, and a name that may be called.
pub(super) async fn call(scan: &mut Scan, section: &Section) -> Result<(), Miss> {
    let mut head = Head::default();
    scan.skip(1);
    head.depth = 1;
    loop {
        match scan.skip_blank().await.ok_or(Miss::End)? {
            '}' if head.depth == 1 => break,
            '}' => head.depth -= 1,
            ',' => {}
            '"' => {
                if member(scan, &mut head, section).await? {
                    rest_of_object(scan, head.depth).await;
                    return Ok(());
                }
                continue;
            }
            _ => return Err(Miss::Other),
        }
        scan.skip(1);
    }
    scan.skip(1);
    end_of_head(scan, head, section.bare)
}

/// The object has ended before its arguments could be passed on.
fn end_of_head(scan: &mut Scan, head: Head, bare: bool) -> Result<(), Miss> {
    let name = head.name.filter(|name| !bare || scan.tools.may_call(name)).ok_or(Miss::Other)?;
    match head.early {
        Some(early) => {
            begin(scan, &name, head.id);
            scan.out.arguments(if early == "null" { "{}" } else { &early });
            scan.out.end_call(true);
        }
        None if bare => return Err(Miss::Other),
        None => begin_empty(scan, &name, head.id),
    }
    Ok(())
}

/// Reads a key and its value. Says whether these were the arguments of a call, which has come and gone then.
async fn member(scan: &mut Scan, head: &mut Head, section: &Section) -> Result<bool, Miss> {
    scan.skip(1);
    let key = Key::of(&json::string(scan, MAX_NAME).await?);
    if scan.skip_blank().await.ok_or(Miss::End)? != ':' {
        return Err(Miss::Other);
    }
    scan.skip(1);
    let next = scan.skip_blank().await.ok_or(Miss::End)?;
    match (key, next) {
        (Key::Name | Key::Function, '"') => {
            scan.skip(1);
            head.name = Some(json::string(scan, MAX_NAME).await?).filter(|name| !name.is_empty());
        }
        (Key::Function, '{') if head.depth == 1 => {
            scan.skip(1);
            head.depth = 2;
        }
        (Key::Arguments, _) => return arguments(scan, head, next, section).await,
        (Key::Id, '"') => {
            scan.skip(1);
            head.id = Some(json::string(scan, MAX_NAME).await?);
        }
        (Key::Name, _) => return Err(Miss::Other),
        (Key::Other, _) if section.bare => return Err(Miss::Other),
        _ => {
            kept_value(scan).await?;
        }
    }
    Ok(false)
}

/// Reads the arguments: passes them on if the name is known, else keeps them.
async fn arguments(scan: &mut Scan, head: &mut Head, next: char, section: &Section) -> Result<bool, Miss> {
    let Some(name) = &head.name else {
        head.early = Some(kept_arguments(scan, next).await?);
        return Ok(false);
    };
    if section.bare && !scan.tools.may_call(name) {
        return Err(Miss::Other);
    }
    match next {
        '{' | '[' => {
            begin(scan, name, head.id.take());
            json::arguments(scan, section.close).await;
        }
        '"' if is_encoded(scan).await => {
            begin(scan, name, head.id.take());
            encoded_arguments(scan).await;
        }
        _ => {
            // `null`, a number, a word: short, or no call.
            let value = kept_arguments(scan, next).await?;
            begin(scan, name, head.id.take());
            scan.out.arguments(&value);
            scan.out.end_call(true);
        }
    }
    Ok(true)
}

/// Whether the JSON string ahead holds an object.
async fn is_encoded(scan: &mut Scan) -> bool {
    let first = |rest: &str, ended: bool| {
        let inside = rest.get(1..)?.trim_start_matches(|c: char| c.is_whitespace());
        inside.chars().next().map(|c| c == '{').or(ended.then_some(false))
    };
    scan.decide(first).await == Some(true)
}

/// Arguments as an object inside of a string: decodes them while they come.
async fn encoded_arguments(scan: &mut Scan) {
    scan.skip(1);
    let mut tracker = json::Tracker::default();
    let mut piece = String::new();
    let ended = loop {
        match json::decoded(scan).await {
            Ok(Some(c)) => {
                piece.clear();
                tracker.write(c, &mut piece);
                tracker.add(c);
                scan.out.arguments(&piece);
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    scan.out.end_call(ended);
}

/// Arguments that can't be passed on yet, as JSON text.
async fn kept_arguments(scan: &mut Scan, next: char) -> Result<String, Miss> {
    if next == '"' && is_encoded(scan).await {
        scan.skip(1);
        return json::string(scan, MAX_HEAD).await;
    }
    let value = kept_value(scan).await?;
    Ok(if matches!(value.as_str(), "null" | "None" | "\"\"") { "{}".to_owned() } else { value })
}

/// Reads a value that has to be short.
async fn kept_value(scan: &mut Scan) -> Result<String, Miss> {
    let mut value = String::new();
    if matches!(scan.peek().await, Some('{' | '[' | '"')) {
        let keep = |_: &mut Scan, piece: &str| {
            value.push_str(piece);
            value.len() <= MAX_HEAD
        };
        return match json::pass_value(scan, &[], keep).await {
            true => Ok(value),
            false if value.len() > MAX_HEAD => Err(Miss::Other),
            false => Err(Miss::End),
        };
    }
    loop {
        match scan.peek().await.ok_or(Miss::End)? {
            c if (c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) && value.len() < MAX_NAME => {
                value.push(c);
                scan.skip(c.len_utf8());
            }
            _ if value.is_empty() => return Err(Miss::Other),
            _ => return Ok(value),
        }
    }
}

/// After the arguments: the other keys, and the braces. Models forget the last one, so anything else ends it too.
async fn rest_of_object(scan: &mut Scan, mut depth: usize) {
    while depth > 0 {
        match scan.skip_blank().await {
            Some('}') => depth -= 1,
            Some(',') => {
                scan.skip(1);
                if scan.skip_blank().await != Some('"') {
                    return;
                }
                let pass = async |scan: &mut Scan| json::pass_value(scan, &[], |_, _| true).await;
                if !pass(scan).await || scan.skip_blank().await != Some(':') {
                    return;
                }
                scan.skip(1);
                scan.skip_blank().await;
                if kept_value(scan).await.is_err() {
                    return;
                }
                continue;
            }
            _ => return,
        }
        scan.skip(1);
    }
}

/// Reads a call whose name is the key: `{"f": {"a": 1}}`.
pub(super) async fn keyed(scan: &mut Scan, section: &Section) -> Result<(), Miss> {
    scan.skip(1);
    if scan.skip_blank().await.ok_or(Miss::End)? != '"' {
        return Err(Miss::Other);
    }
    scan.skip(1);
    let name = json::string(scan, MAX_NAME).await?;
    if scan.skip_blank().await.ok_or(Miss::End)? != ':' {
        return Err(Miss::Other);
    }
    scan.skip(1);
    if scan.skip_blank().await.ok_or(Miss::End)? != '{' {
        return Err(Miss::Other);
    }
    begin(scan, &name, None);
    json::arguments(scan, section.close).await;
    rest_of_object(scan, 1).await;
    Ok(())
}
