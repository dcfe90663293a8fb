//! Template text on its way to the Jinja compiler.

use super::operators;

/// Normalizes line ends, as Jinja does, and turns `{% generation %}` blocks into plain scopes: transformers uses
/// them to find the assistant's tokens for training, and they print what is in them.
pub(super) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut raw = false;
    while let Some(at) = rest.find('{') {
        prepared.push_str(&rest[..at]);
        rest = &rest[at..];
        let (tag, after) = rest.split_at(tag_length(rest, raw));
        match (raw, name(tag)) {
            (true, "endraw") => raw = false,
            // Inside a raw block only its end is a tag: go on behind the brace.
            (true, _) => {
                prepared.push('{');
                rest = &rest[1..];
                continue;
            }
            (false, "raw") => raw = true,
            _ => {}
        }
        match name(tag) {
            word @ "generation" => prepared.push_str(&tag.replacen(word, "with", 1)),
            word @ "endgeneration" => prepared.push_str(&tag.replacen(word, "endwith", 1)),
            _ if tag.starts_with("{#") || tag.len() < 4 => prepared.push_str(tag),
            _ => prepared.push_str(&rewrite_code(tag)),
        }
        rest = after;
    }
    prepared.push_str(rest);
    prepared
}

/// Rewrites what is between the marks of a tag or expression.
fn rewrite_code(tag: &str) -> String {
    let Some(end) = tag.len().checked_sub(2).filter(|end| tag.is_char_boundary(*end)) else {
        return tag.to_owned();
    };
    let (open, code) = tag[..end].split_at(if tag[2..end].starts_with(['-', '+']) { 3 } else { 2 });
    let close = if code.ends_with(['-', '+']) { code.len() - 1 } else { code.len() };
    format!("{open}{}{}{}", operators::rewrite(&code[..close]), &code[close..], &tag[end..])
}

/// The length of the tag, expression or comment that `text` starts with; 1 for a brace that starts none.
fn tag_length(text: &str, raw: bool) -> usize {
    let up_to = |end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    match text.as_bytes().get(1) {
        // Text in a raw block has no string literals that could hide the end.
        Some(b'%') if raw => up_to("%}"),
        Some(b'%') => code_length(text, "%}"),
        Some(b'{') if !raw => code_length(text, "}}"),
        Some(b'#') if !raw => up_to("#}"),
        _ => 1,
    }
}

/// The length of a tag or expression up to its end mark outside of string literals; all there is if it never ends.
fn code_length(code: &str, end: &str) -> usize {
    let bytes = code.as_bytes();
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(end.as_bytes()) => return at + end.len(),
            _ => {}
        }
        at += 1;
    }
    code.len()
}

/// The only word of a `{% word %}` tag; empty for anything else.
fn name(tag: &str) -> &str {
    let Some(inner) = tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}")) else { return "" };
    inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim()
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn generation_becomes_a_scope_and_keeps_its_whitespace_control() {
        let source = "a{%- generation -%}b{% endgeneration +%}c\r\nd";
        assert_eq!(prepare(source), "a{%- with -%}b{% endwith +%}c\nd");
    }

    #[test]
    fn text_strings_comments_and_raw_blocks_are_left_alone() {
        for source in [
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{% set x = '%}{% generation %}' %}",
            "{% raw %}{% generation %} {{ ' {% it's %} {% endraw %}",
            "generation { % generation %} {",
            "{{ 'unclosed",
            "{% generation",
        ] {
            assert_eq!(prepare(source), source);
        }
    }
}
