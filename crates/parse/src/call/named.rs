//! Calls whose name stands outside of the arguments.

use super::{FENCES, begin, begin_empty, name, tagged};
use crate::grammar::{Arguments, Name, Named, Section};
use crate::json;
use crate::literal;
use crate::scan::{Miss, Scan};

/// Mistral puts an id between name and arguments.
const CALL_ID: &str = "[CALL_ID]";

/// Reads a call after its opening marker.
pub(super) async fn call(scan: &mut Scan, form: &Named, section: &Section) -> Result<(), Miss> {
    let (name, id) = head(scan, form).await?;
    let next = scan.skip_blank().await.ok_or(Miss::End)?;
    let stop = if form.end.is_empty() { section.close } else { form.end };
    match (&form.arguments, next) {
        (Arguments::Json, '`') if scan.eat_any(&FENCES).await.is_some() => {
            if scan.skip_blank().await.ok_or(Miss::End)? != '{' {
                return Err(Miss::Other);
            }
            begin(scan, &name, id);
            json::arguments(scan, stop).await;
            if scan.skip_blank().await == Some('`') {
                scan.eat("```").await;
            }
        }
        (Arguments::Json | Arguments::Tags(_), '{') => {
            begin(scan, &name, id);
            json::arguments(scan, stop).await;
        }
        (Arguments::Literal(quotes), '{' | '(') => {
            begin(scan, &name, id);
            literal::arguments(scan, quotes, &name).await;
        }
        (Arguments::Tags(tags), _) if scan.at_any(&[tags.key]).await.is_some() => {
            return tagged::arguments(scan, tags, form, section, &name, id.as_deref()).await;
        }
        _ if !form.end.is_empty() && scan.at_any(form.end).await.is_some() => begin_empty(scan, &name, id),
        _ if scan.at_any(section.close).await.is_some() => begin_empty(scan, &name, id),
        _ => return Err(cut_off(scan, form, section)),
    }
    scan.skip_blank().await;
    scan.eat_any(form.end).await;
    Ok(())
}

/// Whether the text is wrong here, or only incomplete.
fn cut_off(scan: &mut Scan, form: &Named, section: &Section) -> Miss {
    let key = if let Arguments::Tags(tags) = &form.arguments { tags.key } else { "" };
    let rest = scan.rest();
    let expected = form.end.iter().chain(section.close).chain([&key]);
    // Markers are waited for, so what is still only a part of one is the end of the output.
    if !expected.into_iter().any(|marker| marker.starts_with(rest)) {
        return Miss::Other;
    }
    scan.skip(rest.len());
    Miss::End
}

/// The name and what separates it from the arguments.
async fn head(scan: &mut Scan, form: &Named) -> Result<(String, Option<String>), Miss> {
    match &form.name {
        Name::Attribute => Ok((attribute_name(scan).await?, None)),
        Name::Until(ends) => {
            let name = name(scan).await?;
            let id = separator(scan, ends).await?;
            Ok((name, id))
        }
        Name::After(first_ends, ends) => {
            let first = name(scan).await?;
            separator(scan, first_ends).await?;
            if matches!(scan.skip_blank().await.ok_or(Miss::End)?, '{' | '`') {
                return Ok((first, None));
            }
            let name = name(scan).await?;
            separator(scan, ends).await?;
            Ok((name, Some(first).filter(|first| first != "function")))
        }
        Name::Numbered(ends) => {
            let id = name(scan).await?;
            separator(scan, ends).await?;
            Ok((without_number(scan, &id).to_owned(), Some(id)))
        }
    }
}

/// `f` of `functions.f:0`.
fn without_number<'a>(scan: &Scan, id: &'a str) -> &'a str {
    if scan.tools.is_offered(id) {
        return id;
    }
    let name = id.strip_prefix("functions.").unwrap_or(id);
    match name.rsplit_once(':') {
        Some((name, number)) if number.chars().all(|c| c.is_ascii_digit()) => name,
        _ => name,
    }
}

/// What may stand between name and arguments; the id if there is one.
async fn separator(scan: &mut Scan, ends: &[&'static str]) -> Result<Option<String>, Miss> {
    scan.skip_blank().await.ok_or(Miss::End)?;
    if scan.eat_any(ends).await != Some(CALL_ID) {
        return Ok(None);
    }
    let id = name(scan).await?;
    scan.eat_any(ends).await;
    Ok(Some(id))
}

/// The name in a tag such as `<function=f>` or `<invoke name="f">`, from behind its first word on.
async fn attribute_name(scan: &mut Scan) -> Result<String, Miss> {
    let head = tagged::tag_head(scan, ">").await?;
    tagged::attribute(&head, "name").ok_or(Miss::Other)
}
