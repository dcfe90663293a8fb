//! Arguments as a parameter at a time between markers, whose types only the tool's schema knows.

use super::{MAX_NAME, begin};
use crate::grammar::{Named, Section, Tags};
use crate::json;
use crate::literal;
use crate::scalar::{MAX_SCALAR, scalar};
use crate::scan::{Miss, Scan, is_sequence};
use crate::tools::Kinds;

/// Reads parameters from the first key on, and begins and ends the call. A miss means that no call was begun.
pub(super) async fn arguments(
    scan: &mut Scan,
    tags: &Tags,
    form: &Named,
    section: &Section,
    name: &str,
    id: Option<&str>,
) -> Result<(), Miss> {
    let ends = Ends::new(tags, form, section);
    let mut begun = false;
    let complete = loop {
        if scan.skip_blank().await.is_none() {
            break false;
        }
        if scan.eat(tags.key).await {
            let (key, kinds) = match head(scan, tags, name).await {
                Ok(head) => head,
                Err(miss) if !begun => return Err(miss),
                Err(_) => break false,
            };
            if !begun {
                begin(scan, name, id.map(str::to_owned));
            }
            scan.out.arguments(if begun { ", " } else { "{" });
            begun = true;
            scan.out.arguments(&json::quoted(&key));
            scan.out.arguments(": ");
            if !value(scan, tags, &ends, kinds).await {
                break false;
            }
        } else if scan.eat_any(form.end).await.is_some()
            || scan.at_any(section.close).await.is_some()
            || scan.at_any(section.open).await.is_some()
        {
            scan.out.arguments("}");
            break true;
        } else if !scan.eat(tags.value_end).await {
            break false;
        }
    };
    scan.out.end_call(complete);
    Ok(())
}

/// The key of a parameter, and the types that its value may have.
async fn head(scan: &mut Scan, tags: &Tags, tool: &str) -> Result<(String, Kinds), Miss> {
    let end = if tags.key_end.is_empty() { ">" } else { tags.key_end };
    let head = tag_head(scan, end).await?;
    let key = match tags.key_end.is_empty() {
        true => attribute(&head, "name").ok_or(Miss::Other)?,
        false => head.trim().to_owned(),
    };
    let kinds = match attribute(&head, "string").as_deref() {
        Some("true") => Kinds::STRING,
        Some("false") => Kinds::ANY_BUT_STRING,
        _ => scan.tools.kinds(tool, &key),
    };
    if !tags.value.is_empty() {
        scan.skip_blank().await.ok_or(Miss::End)?;
        if !scan.eat(tags.value).await {
            return Err(if scan.is_cut(&[tags.value]) { Miss::End } else { Miss::Other });
        }
    }
    Ok((key, kinds))
}

/// The text up to a marker, which is read too. It has to be short and one line.
pub(super) async fn tag_head(scan: &mut Scan, end: &'static str) -> Result<String, Miss> {
    let mut head = String::new();
    while !scan.eat(end).await {
        match scan.next().await {
            Some(c) if c != '\n' && head.len() < MAX_NAME => head.push(c),
            Some(_) => return Err(Miss::Other),
            None => return Err(Miss::End),
        }
    }
    Ok(head)
}

/// The value of an attribute in ` name="f" string="true"`. The name may also stand as `=f`.
pub(super) fn attribute(head: &str, key: &str) -> Option<String> {
    let value = match head.strip_prefix('=') {
        Some(value) => (key == "name").then_some(value)?,
        None => {
            let start = head.find(&format!(" {key}="))? + key.len() + 2;
            let value = &head[start..];
            match value.strip_prefix('"') {
                Some(quoted) => quoted.split('"').next()?,
                None => value.split(char::is_whitespace).next()?,
            }
        }
    };
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// What ends a value: its marker, but only where the format goes on behind it, so that a value may speak of markers;
/// or, if that one was forgotten, the end of the call and of the section.
struct Ends {
    marker: &'static str,
    follow: Vec<&'static str>,
    call: &'static str,
    section: &'static [&'static str],
}

impl Ends {
    fn new(tags: &Tags, form: &Named, section: &Section) -> Self {
        let markers = form.end.iter().chain(section.close).chain(section.open).copied();
        Self {
            marker: tags.value_end,
            follow: [tags.key].into_iter().chain(markers).collect(),
            call: form.end.first().copied().unwrap_or_default(),
            section: section.close,
        }
    }

    /// Whether the value ends at the cursor.
    async fn here(&self, scan: &mut Scan, may_be_forgotten: bool) -> bool {
        scan.decide(|rest, ended| self.begin(rest, ended, may_be_forgotten)).await == Some(true)
    }

    fn begin(&self, rest: &str, ended: bool, may_be_forgotten: bool) -> Option<bool> {
        if !rest.is_empty() && !rest.starts_with(self.marker.chars().next()?) {
            return Some(false);
        }
        if is_sequence(rest, ended, self.marker, &self.follow, true)? {
            return Some(true);
        }
        if !may_be_forgotten || self.call.is_empty() || self.section.is_empty() {
            return Some(false);
        }
        is_sequence(rest, ended, self.call, self.section, false)
    }
}

/// Reads a value and writes it as JSON; says whether it ended.
async fn value(scan: &mut Scan, tags: &Tags, ends: &Ends, kinds: Kinds) -> bool {
    if tags.trims_line && scan.peek().await == Some('\n') {
        scan.skip(1);
    }
    if kinds.is_unknown() || kinds.is_string() {
        return string(scan, tags, ends, "").await;
    }
    let first = |rest: &str, _: bool| rest.chars().find(|c| !c.is_whitespace());
    if kinds.has(Kinds::CONTAINER) && matches!(scan.decide(first).await, Some('{' | '[')) {
        scan.skip_blank().await;
        literal::value(scan, &[ends.marker]).await;
        return end(scan, ends).await;
    }
    let mut held = String::new();
    while held.len() <= MAX_SCALAR {
        if ends.here(scan, true).await {
            let line = held.strip_suffix('\n').filter(|_| tags.trims_line).unwrap_or(&held);
            scan.out.arguments(&scalar(line, kinds));
            return end(scan, ends).await;
        }
        match scan.next().await {
            Some(c) => held.push(c),
            None => return false,
        }
    }
    string(scan, tags, ends, &held).await
}

/// Reads the text of a value up to its end, after some that is read already.
///
/// A text may hold whole parameters, such as a document about this format: their ends are not its end.
async fn string(scan: &mut Scan, tags: &Tags, ends: &Ends, read: &str) -> bool {
    let mut piece = "\"".to_owned();
    let mut line_break = false;
    let mut add = |c: char, piece: &mut String| {
        if std::mem::take(&mut line_break) {
            json::escape('\n', piece);
        }
        match c {
            '\n' if tags.trims_line => line_break = true,
            c => json::escape(c, piece),
        }
    };
    read.chars().for_each(|c| add(c, &mut piece));
    let (mut inner, mut any_inner) = (0_usize, false);
    loop {
        scan.out.arguments(&piece);
        piece.clear();
        if inner > 0 {
            inner -= usize::from(scan.at_any(&[ends.marker]).await.is_some());
        } else if ends.here(scan, !any_inner).await {
            scan.out.arguments("\"");
            return end(scan, ends).await;
        } else if scan.decide(|rest, ended| opens_inner(rest, ended, tags)).await == Some(true) {
            (inner, any_inner) = (1, true);
        }
        if scan.is_cut(&[ends.marker]) {
            // What the output ends with may be the beginning of the marker.
            scan.skip(ends.marker.len());
        }
        match scan.next().await {
            Some(c) => add(c, &mut piece),
            None => return false,
        }
    }
}

/// Whether a parameter begins here, which would be one inside of a value: `<parameter=k>`, `<arg_value>`.
fn opens_inner(rest: &str, ended: bool, tags: &Tags) -> Option<bool> {
    let open = if tags.value.is_empty() { tags.key } else { tags.value };
    if !rest.starts_with(open) {
        return if !ended && open.starts_with(rest) { None } else { Some(false) };
    }
    let head = &rest[open.len()..];
    if !tags.value.is_empty() {
        return Some(true);
    }
    match head.find(['>', '<', '\n', '(']) {
        Some(at) => Some(head[at..].starts_with('>') && attribute(&head[..at], "name").is_some()),
        None if ended || head.len() > MAX_SCALAR => Some(false),
        None => None,
    }
}

/// Reads the marker after a value, and what should not be there before it.
async fn end(scan: &mut Scan, ends: &Ends) -> bool {
    while !ends.here(scan, true).await {
        if scan.next().await.is_none() {
            return false;
        }
    }
    scan.eat(ends.marker).await;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found() {
        assert_eq!(attribute("=city", "name").as_deref(), Some("city"));
        assert_eq!(attribute("=\"city\"", "name").as_deref(), Some("city"));
        assert_eq!(attribute(" name=\"a b\" string=\"true\"", "name").as_deref(), Some("a b"));
        assert_eq!(attribute(" name=\"a\" string=\"true\"", "string").as_deref(), Some("true"));
        assert_eq!(attribute(" name=a", "name").as_deref(), Some("a"));
        for none in ["", "=", "s=x", " name=\"\"", "al"] {
            assert_eq!(attribute(none, "name"), None, "{none}");
        }
        assert_eq!(attribute("=string", "string"), None);
    }
}
