//! Python where minijinja differs: methods beyond those that `minijinja-contrib` brings, tests, printing.

use minijinja::{
    Error, ErrorKind, State, Value,
    formatting::{FormatStyle, format},
    value::{Tuple, ValueKind, from_args},
};
use minijinja_contrib::pycompat;

/// Called by the engine for every method that a value doesn't have.
pub(super) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Seq => list_method(value, method, args),
        ValueKind::Map if method == "copy" => from_args::<()>(args).map(|()| Some(value.clone())),
        _ => Ok(None),
    }?;
    match own {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => partition(text, args, str::find::<&str>, false)?,
        "rpartition" => partition(text, args, str::rfind::<&str>, true)?,
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_lowercase())
        }
        "swapcase" => {
            let () = from_args(args)?;
            Value::from(text.chars().map(swap_case).collect::<String>())
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(part) } else { text.rfind(part) };
            let at = at.ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "ljust" | "rjust" | "center" | "zfill" => Value::from(justify(text, method, args)?),
        "isdecimal" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()))
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => from_args::<()>(args).map(|()| Some(list.clone())),
        "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let at = list.try_iter()?.position(|item| item == *wanted);
            at.map(|at| Some(Value::from(at))).ok_or_else(|| invalid("the value is not in the list"))
        }
        _ => Ok(None),
    }
}

fn partition<'a>(
    text: &'a str,
    args: &'a [Value],
    find: fn(&'a str, &'a str) -> Option<usize>,
    from_right: bool,
) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    let parts = match find(text, separator) {
        _ if separator.is_empty() => return Err(invalid("empty separator")),
        Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// `split(separator=None, maxsplit=-1)` from either end; without a separator, runs of white space separate.
fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
    // Python's limit counts splits, Rust's counts parts.
    let parts = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .map_or(usize::MAX, |limit| limit.saturating_add(1));
    let list: Vec<&str> = match separator {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) if from_right => reversed(text.rsplitn(parts, separator)),
        Some(separator) => text.splitn(parts, separator).collect(),
        None if from_right => reversed(words(text, parts, str::trim_end, |text| {
            text.rsplit_once(char::is_whitespace).map(|(rest, word)| (word, rest))
        })),
        None => words(text, parts, str::trim_start, |text| text.split_once(char::is_whitespace)).collect(),
    };
    Ok(list.into_iter().map(Value::from).collect())
}

fn reversed<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut list: Vec<&str> = parts.collect();
    list.reverse();
    list
}

/// Words from one end, at most `parts`, the last with all that is left.
fn words<'a>(
    text: &'a str,
    parts: usize,
    trim: fn(&'a str) -> &'a str,
    cut: fn(&'a str) -> Option<(&'a str, &'a str)>,
) -> impl Iterator<Item = &'a str> {
    let mut rest = trim(text);
    let mut count = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        count += 1;
        let (word, after) = if count < parts { cut(rest).unwrap_or((rest, "")) } else { (rest, "") };
        rest = trim(after);
        Some(word)
    })
}

fn swap_case(c: char) -> char {
    let mut swapped: Box<dyn Iterator<Item = char>> =
        if c.is_uppercase() { Box::new(c.to_lowercase()) } else { Box::new(c.to_uppercase()) };
    swapped.next().unwrap_or(c)
}

fn justify(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    const MAX_WIDTH: usize = 10_000;
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    if width > MAX_WIDTH {
        return Err(invalid("the width is too large"));
    }
    let missing = width.saturating_sub(text.chars().count());
    let fill = |count: usize, default: char| fill.unwrap_or(default).to_string().repeat(count);
    Ok(match method {
        "ljust" => format!("{text}{}", fill(missing, ' ')),
        "rjust" => format!("{}{text}", fill(missing, ' ')),
        // CPython puts the odd space on the left if the width is odd.
        "center" => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill(left, ' '), fill(missing - left, ' '))
        }
        _ => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", fill(missing, '0'))
        }
    })
}

/// The test `is iterable`: `None` isn't, unlike in minijinja.
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// The test `is sequence`: whatever has a length and items, texts and dicts too.
pub(super) fn is_sequence(value: &Value) -> bool {
    value.is_undefined() || matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
}

/// A text with the characters that mean something in HTML replaced, unless it is marked as safe.
pub(super) fn markup(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let mut escaped = String::new();
    for c in value.to_string().chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            c => escaped.push(c),
        }
    }
    Value::from_safe_string(escaped)
}

/// `format % argument`; a tuple stands for several arguments.
pub(super) fn percent_format(text: &str, argument: &Value) -> Result<String, Error> {
    let arguments = if argument.is_tuple() { argument.try_iter()?.collect() } else { vec![argument.clone()] };
    format(FormatStyle::Printf, text, &arguments)
}

/// A number that Python calls a float.
pub(super) fn as_float(value: &Value) -> Option<f64> {
    let float = value.kind() == ValueKind::Number && !value.is_integer();
    if float { f64::try_from(value.clone()).ok() } else { None }
}

/// `repr(float)`: the shortest digits that read back the same, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float_repr(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

#[cfg(test)]
mod tests {
    use super::float_repr;

    #[test]
    fn floats_print_as_in_python() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (123456.789, "123456.789"),
        ] {
            assert_eq!(float_repr(value), text);
        }
    }
}
