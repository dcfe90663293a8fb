//! The Jinja environment that transformers sets up for chat templates.

use jiff::{Zoned, civil::DateTime, fmt::strtime};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, Value, escape_formatter, syntax::SyntaxConfig,
};

use super::{json, operators, python};

/// Instructions a render may take. A conversation of a thousand messages needs less than a million in published
/// templates; the limit leaves room for those that look at all messages for each message.
const FUEL: u64 = 50_000_000;

/// Nesting of blocks and macro calls; fits into a thread's 2 MiB of stack in debug builds, too.
const RECURSION: usize = 100;

/// Carried inside a template error to tell `raise_exception` from a fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) String);

/// An environment without templates.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_debug(false);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    env.set_unknown_method_callback(python::call_method);
    env.set_formatter(print);
    env.add_test("iterable", python::is_iterable);
    env.add_test("sequence", python::is_sequence);
    env.add_filter("tojson", json::tojson);
    env.add_filter(operators::MARKUP, python::markup);
    env.add_filter(operators::FORMAT, python::percent_format);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", |format: &str| strftime(Zoned::now().datetime(), format));
    Ok(env)
}

/// `strftime_now` with the clock stopped.
pub(super) fn strftime_at(now: DateTime) -> Value {
    Value::from_function(move |format: &str| strftime(now, format))
}

/// What `{{ … }}` does: minijinja's way, but floats as in Python.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match python::as_float(value) {
        Some(float) => out.write_str(&python::float_repr(float)).map_err(Error::from),
        None => escape_formatter(out, state, value),
    }
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(message.to_string())))
}

fn strftime(now: DateTime, format: &str) -> Result<String, Error> {
    // Unknown directives stay as they are, as in C and Python.
    let config = strtime::Config::new().lenient(true);
    let mut text = String::new();
    strtime::BrokenDownTime::from(now)
        .format_with_config(&config, format, &mut text)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))?;
    Ok(text)
}
