//! JSON as models write it: passed on as it is, told apart from what follows it.

use crate::scan::{Miss, Scan};

/// Follows a JSON value character by character. It only looks at strings and brackets, so that broken JSON has an end
/// too.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tracker {
    depth: usize,
    string: bool,
    escape: bool,
}

impl Tracker {
    /// Adds a character, which must not come after the value's end; says whether it ends an object, list or string.
    pub(crate) fn add(&mut self, c: char) -> bool {
        if self.string {
            match c {
                _ if self.escape => self.escape = false,
                '\\' => self.escape = true,
                '"' => self.string = false,
                _ => {}
            }
            return !self.string && self.depth == 0;
        }
        match c {
            '"' => self.string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }

    /// Inside of a string.
    pub(crate) fn in_string(&self) -> bool {
        self.string
    }

    /// Writes the character as it has to stand: strings hold no raw control characters, which models often forget.
    pub(crate) fn write(&self, c: char, into: &mut String) {
        if self.string && c < ' ' { escape(c, into) } else { into.push(c) }
    }
}

/// Adds a character of a JSON string.
pub(crate) fn escape(c: char, into: &mut String) {
    match c {
        '"' => into.push_str("\\\""),
        '\\' => into.push_str("\\\\"),
        '\n' => into.push_str("\\n"),
        '\r' => into.push_str("\\r"),
        '\t' => into.push_str("\\t"),
        c if c < ' ' => into.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => into.push(c),
    }
}

/// A JSON string of this text.
pub(crate) fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    text.chars().for_each(|c| escape(c, &mut json));
    json.push('"');
    json
}

/// Reads an object, list or string that begins at the cursor and hands its text to `sink`, piece by piece, which may
/// refuse more. Outside of strings one of the markers `stop` ends it too. Says whether it came to its own end.
pub(crate) async fn pass_value(
    scan: &mut Scan,
    stop: &[&'static str],
    mut sink: impl FnMut(&mut Scan, &str) -> bool,
) -> bool {
    let mut tracker = Tracker::default();
    let mut piece = String::new();
    while let Some(next) = scan.peek().await {
        let may_stop = |c: char, tracker: &Tracker| {
            !tracker.in_string() && stop.iter().any(|marker| marker.starts_with(c))
        };
        if may_stop(next, &tracker) && (scan.at_any(stop).await.is_some() || scan.is_cut(stop)) {
            return false;
        }
        let mut ended = false;
        let mut read = 0;
        for c in scan.rest().chars() {
            if read > 0 && may_stop(c, &tracker) {
                break;
            }
            tracker.write(c, &mut piece);
            read += c.len_utf8();
            ended = tracker.add(c);
            if ended {
                break;
            }
        }
        scan.skip(read);
        if !sink(scan, &piece) || ended {
            return ended;
        }
        piece.clear();
    }
    false
}

/// Reads an object or list as the arguments of the call that has begun, and ends the call. Where one of the markers
/// `stop` shows that brackets are missing, the call is not complete.
pub(crate) async fn arguments(scan: &mut Scan, stop: &[&'static str]) {
    let ended = pass_value(scan, stop, |scan, piece| {
        scan.out.arguments(piece);
        true
    })
    .await;
    scan.out.end_call(ended);
}

/// Reads the rest of a JSON string after its opening quote and decodes it. Text longer than `limit` bytes is a miss.
pub(crate) async fn string(scan: &mut Scan, limit: usize) -> Result<String, Miss> {
    let mut text = String::new();
    loop {
        match decoded(scan).await? {
            Some(c) if text.len() < limit => text.push(c),
            Some(_) => return Err(Miss::Other),
            None => return Ok(text),
        }
    }
}

/// Reads a character of a JSON string; `None` is the closing quote. Unknown escapes stand for their character.
pub(crate) async fn decoded(scan: &mut Scan) -> Result<Option<char>, Miss> {
    match scan.next().await.ok_or(Miss::End)? {
        '"' => Ok(None),
        '\\' => Ok(Some(match scan.next().await.ok_or(Miss::End)? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => unicode(scan).await?,
            c => c,
        })),
        c => Ok(Some(c)),
    }
}

/// The rest of a `\u` escape; two of them if they are a pair of surrogates.
pub(crate) async fn unicode(scan: &mut Scan) -> Result<char, Miss> {
    let high = hex(scan, 4).await?;
    if !(0xd800..0xdc00).contains(&high) || !scan.eat("\\u").await {
        return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    let low = hex(scan, 4).await?;
    let pair = 0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff);
    Ok(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER))
}

/// A number of at most so many hexadecimal digits.
pub(crate) async fn hex(scan: &mut Scan, digits: usize) -> Result<u32, Miss> {
    let mut value = 0;
    for _ in 0..digits {
        match scan.peek().await.ok_or(Miss::End)?.to_digit(16) {
            Some(digit) => value = value << 4 | digit,
            None => break,
        }
        scan.skip(1);
    }
    Ok(value)
}
