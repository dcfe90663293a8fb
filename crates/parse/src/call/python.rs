//! Calls as Python writes them: `f(a=1, b="x")`.

use super::{MAX_NAME, begin, begin_empty, name};
use crate::grammar::Section;
use crate::literal;
use crate::scan::{MAX_GAP, Miss, Scan};

/// What stands behind the opening parenthesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// The closing one.
    Nothing,
    /// `a=`
    Keyword,
    /// An object with all arguments, as some models write.
    Object,
    /// A literal value.
    Value,
    Other,
}

/// Reads a call from its name on. Prose and code look much like calls, so the first argument decides.
pub(super) async fn call(scan: &mut Scan, section: &Section) -> Result<(), Miss> {
    let written = name(scan).await?;
    // Llama's built-in tools are called as `brave_search.call(…)`.
    let name = written.strip_suffix(".call").filter(|_| !scan.tools.is_offered(&written)).unwrap_or(&written);
    if scan.peek().await.ok_or(Miss::End)? != '(' || (section.bare && !scan.tools.may_call(name)) {
        return Err(Miss::Other);
    }
    let has_parameters = !scan.tools.parameters(name).is_empty();
    match scan.decide(|rest, ended| first(rest.get(1..)?, ended)).await.ok_or(Miss::End)? {
        First::Keyword => {
            begin(scan, name, None);
            literal::arguments(scan, &[], name).await;
        }
        First::Value if has_parameters => {
            begin(scan, name, None);
            literal::arguments(scan, &[], name).await;
        }
        First::Object => {
            scan.skip(1);
            scan.skip_blank().await;
            begin(scan, name, None);
            let ended = literal::value(scan, &[]).await;
            scan.out.end_call(ended);
            scan.skip_blank().await;
            scan.eat(")").await;
        }
        First::Nothing => {
            scan.skip(1);
            scan.skip_blank().await;
            scan.skip(1);
            begin_empty(scan, name, None);
        }
        First::Value | First::Other => return Err(Miss::Other),
    }
    Ok(())
}

fn first(rest: &str, ended: bool) -> Option<First> {
    let text = rest.trim_start();
    let Some(c) = text.chars().next() else {
        return if rest.len() > MAX_GAP { Some(First::Other) } else { None };
    };
    match c {
        ')' => return Some(First::Nothing),
        '{' => return Some(First::Object),
        '"' | '\'' | '[' | '-' | '0'..='9' => return Some(First::Value),
        _ => {}
    }
    let after = text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    if after.len() == text.len() || text.len() - after.len() > MAX_NAME {
        return Some(First::Other);
    }
    let mut follows = after.trim_start().chars();
    match (follows.next(), follows.next()) {
        (Some('='), Some('=')) => Some(First::Other),
        (Some('='), Some(_)) => Some(First::Keyword),
        (Some('='), None) | (None, _) if !ended && after.len() <= MAX_GAP => None,
        (Some('='), None) => Some(First::Keyword),
        (None, _) if ended => None,
        _ => Some(First::Other),
    }
}
