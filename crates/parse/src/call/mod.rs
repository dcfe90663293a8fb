//! Calls: sections, and the forms that stand in them.

mod json_call;
mod named;
mod python;
mod tagged;

pub(crate) use json_call::KEYS;

use crate::grammar::{Body, Section};
use crate::output::Channel;
use crate::scan::{Miss, Scan};

/// Longest name of a function or parameter, in bytes.
const MAX_NAME: usize = 256;

/// Beginnings of code fences, which many models put around calls.
const FENCES: [&str; 5] = ["```json", "```tool_code", "```tool_call", "```python", "```"];

/// Reads a section that begins at the cursor with a marker of `opening` bytes. What turns out to be no call goes to
/// `channel`. Returns the channel that the following text belongs to.
pub(crate) async fn section(scan: &mut Scan, section: &Section, opening: usize, channel: Channel) -> Channel {
    let before = scan.out.calls();
    scan.mark();
    if !is_part_of_call(section, scan.rest()) {
        scan.skip(opening);
    }
    let outcome = calls(scan, section).await;
    let begun = scan.out.calls() > before;
    let channel = if begun && channel == Channel::Undecided { Channel::Content } else { channel };
    let left = scan.marked().to_owned();
    scan.unmark();
    match outcome {
        Ok(()) => {}
        Err(Miss::End) if !section.bare && (!begun || is_part_of_call(section, left.trim_start())) => {
            // The output was cut off before anything could be said of this call.
            scan.out.markup();
        }
        Err(_) => scan.out.text(channel, &left),
    }
    channel
}

/// Whether what opens the section is read as the beginning of its first call.
fn is_part_of_call(section: &Section, rest: &str) -> bool {
    let opens =
        |body: &Body| matches!(body, Body::Named(n) if !n.open.is_empty() && rest.starts_with(n.open));
    (section.bare && !rest.starts_with("```")) || section.bodies.iter().any(opens)
}

/// Reads calls until the section ends. What was read since the mark is no call if this fails.
async fn calls(scan: &mut Scan, section: &Section) -> Result<(), Miss> {
    let mut list = List::None;
    let mut count = 0;
    scan.skip_blank().await;
    let mut fenced = scan.eat_any(&FENCES).await.is_some();
    loop {
        let Some(next) = scan.skip_blank().await else {
            return if count > 0 { Ok(()) } else { Err(Miss::End) };
        };
        if count > 0 && scan.at_any(section.open).await.is_some() {
            return Ok(());
        }
        if scan.eat_any(section.close).await.is_some() {
            // Nothing at all between the markers is a mistake that readers should see; an empty list is none.
            return if count > 0 || (list == List::Closed && !section.bare) {
                Ok(())
            } else {
                Err(Miss::Other)
            };
        }
        if fenced && count > 0 && scan.eat("```").await {
            fenced = false;
            scan.mark();
            continue;
        }
        match (next, list) {
            ('[', List::None) if count == 0 => list = List::Open,
            (']', List::Open) => {
                list = List::Closed;
                scan.skip(1);
                scan.mark();
                continue;
            }
            (_, List::Closed) => return Err(Miss::Other),
            (',' | ';', _) if count > 0 => {}
            _ => {
                body(scan, section, count).await?;
                count += 1;
                scan.mark();
                continue;
            }
        }
        scan.skip(next.len_utf8());
    }
}

/// The brackets around calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    Open,
    Closed,
}

/// Reads one call, after `count` others. A name alone begins only the first: after that it would be text.
async fn body(scan: &mut Scan, section: &Section, count: usize) -> Result<(), Miss> {
    let next = scan.peek().await.ok_or(Miss::End)?;
    for body in section.bodies {
        match body {
            Body::Json if next == '{' => return json_call::call(scan, section).await,
            Body::Keyed if next == '{' => return json_call::keyed(scan, section).await,
            Body::Python if is_name(next) => return python::call(scan, section).await,
            Body::Named(form) if form.open.is_empty() && is_name(next) && count == 0 => {
                return named::call(scan, form, section).await;
            }
            Body::Named(form) if !form.open.is_empty() => {
                if scan.eat(form.open).await {
                    return named::call(scan, form, section).await;
                }
                if scan.is_cut(&[form.open]) {
                    scan.skip(form.open.len());
                    return Err(Miss::End);
                }
            }
            _ => {}
        }
    }
    Err(Miss::Other)
}

/// A call is certain: its text isn't kept any more.
fn begin(scan: &mut Scan, name: &str, id: Option<String>) {
    scan.unmark();
    scan.out.begin_call(name, id.filter(|id| !id.is_empty()));
}

/// A call without arguments.
fn begin_empty(scan: &mut Scan, name: &str, id: Option<String>) {
    begin(scan, name, id);
    scan.out.arguments("{}");
    scan.out.end_call(true);
}

/// Characters of names. Some formats put ids and namespaces into them.
fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@' | '$')
}

/// Reads a name.
async fn name(scan: &mut Scan) -> Result<String, Miss> {
    let mut name = String::new();
    loop {
        match scan.peek().await {
            Some(c) if is_name(c) && name.len() < MAX_NAME => {
                name.push(c);
                scan.skip(c.len_utf8());
            }
            Some(_) if !name.is_empty() => return Ok(name),
            Some(_) => return Err(Miss::Other),
            None => return Err(Miss::End),
        }
    }
}
