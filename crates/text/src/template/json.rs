//! JSON to template values, and back as Python's `json.dumps` writes it.

use std::fmt::Write;

use minijinja::{
    Error, ErrorKind, Value as Jinja,
    value::{Kwargs, ValueKind},
};
use serde_json::Value;

use super::python;

/// Nesting that `tojson` follows; requests are parsed with a smaller limit.
const MAX_DEPTH: usize = 256;

/// A template value; objects keep their order.
pub(super) fn to_jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Jinja::from(value),
            (_, Some(value)) => Jinja::from(value),
            _ => Jinja::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Jinja::from(text.as_str()),
        Value::Array(items) => items.iter().map(to_jinja).collect(),
        Value::Object(entries) => {
            Jinja::from_pairs(entries.iter().map(|(key, value)| (key.as_str(), to_jinja(value))))
        }
    }
}

/// The `tojson` filter of transformers: `json.dumps`, without the escapes for HTML of Jinja's own filter, whose
/// first positional argument (the indentation) templates use, too.
// The engine hands keyword arguments over by value.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn tojson(value: &Jinja, indent: Option<&Jinja>, options: Kwargs) -> Result<String, Error> {
    let by_name: Option<Jinja> = options.get("indent")?;
    let indent = by_name.or_else(|| indent.cloned()).filter(is_given);
    let indent = indent.map(|indent| indent_text(&indent)).transpose()?;
    let separators: Option<Jinja> = options.get("separators")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let sort: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;

    let (item, key) = match separators.filter(is_given) {
        Some(pair) => separator_pair(&pair)?,
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let (ascii, sort) = (ascii.unwrap_or(false), sort.unwrap_or(false));
    let mut writer = Writer { out: String::new(), indent, item, key, ascii, sort, depth: 0 };
    writer.value(value)?;
    Ok(writer.out)
}

fn is_given(value: &Jinja) -> bool {
    !value.is_none() && !value.is_undefined()
}

fn separator_pair(value: &Jinja) -> Result<(String, String), Error> {
    let pair: Vec<Jinja> = value.try_iter()?.collect();
    match pair.as_slice() {
        [item, key] => Ok((item.to_string(), key.to_string())),
        _ => Err(invalid("tojson: separators must be a pair of strings")),
    }
}

/// Spaces for a number, the text itself for a string.
fn indent_text(indent: &Jinja) -> Result<String, Error> {
    const MAX: usize = 64;
    match (indent.as_str(), indent.as_i64()) {
        (Some(text), _) if text.len() <= MAX => Ok(text.to_owned()),
        (None, Some(width)) if width <= MAX as i64 => Ok(" ".repeat(usize::try_from(width).unwrap_or(0))),
        _ => Err(invalid("tojson: indent must be a small number or a short string")),
    }
}

struct Writer {
    out: String,
    /// One level of indentation; `None` keeps everything on one line.
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
    depth: usize,
}

impl Writer {
    fn value(&mut self, value: &Jinja) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq => self.list(value)?,
            ValueKind::Map => self.object(value)?,
            kind => return Err(invalid(&format!("a value of type {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn list(&mut self, list: &Jinja) -> Result<(), Error> {
        self.open('[')?;
        let mut empty = true;
        for item in list.try_iter()? {
            self.next_item(empty);
            empty = false;
            self.value(&item)?;
        }
        self.close(']', empty);
        Ok(())
    }

    fn object(&mut self, map: &Jinja) -> Result<(), Error> {
        self.open('{')?;
        let mut keys: Vec<Jinja> = map.try_iter()?.collect();
        if self.sort {
            keys.sort();
        }
        for (index, key) in keys.iter().enumerate() {
            self.next_item(index == 0);
            self.object_key(key)?;
            self.out.push_str(&self.key);
            self.value(&map.get_item(key)?)?;
        }
        self.close('}', keys.is_empty());
        Ok(())
    }

    /// Keys that aren't strings become strings, as in Python.
    fn object_key(&mut self, key: &Jinja) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                self.out.push('"');
                self.value(key)?;
                self.out.push('"');
            }
            kind => return Err(invalid(&format!("keys must be strings or numbers, not {kind}"))),
        }
        Ok(())
    }

    fn open(&mut self, bracket: char) -> Result<(), Error> {
        self.depth += 1;
        self.out.push(bracket);
        if self.depth > MAX_DEPTH { Err(invalid("tojson: the value is nested too deeply")) } else { Ok(()) }
    }

    fn close(&mut self, bracket: char, empty: bool) {
        self.depth -= 1;
        if !empty {
            self.line_break();
        }
        self.out.push(bracket);
    }

    fn next_item(&mut self, first: bool) {
        if !first {
            self.out.push_str(&self.item);
        }
        self.line_break();
    }

    fn line_break(&mut self) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..self.depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => self.escape(c),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string can't fail.
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}

fn number(value: &Jinja) -> String {
    match python::as_float(value) {
        Some(float) if float.is_nan() => "NaN".to_owned(),
        Some(float) if float.is_infinite() => if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        Some(float) => python::float_repr(float),
        None => value.to_string(),
    }
}

fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_owned())
}
