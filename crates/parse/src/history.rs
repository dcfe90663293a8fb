//! How a template wants the calls of earlier turns.

/// What `tool_calls[].function.arguments` has to be when a conversation is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentsForm {
    /// A mapping: the template goes through its items, or makes JSON of it (a string would be quoted twice).
    Object,
    /// JSON text: the template joins it to other text, which fails with a mapping.
    Text,
}

/// Decides by what the template does with the arguments. Templates that take both get an object, as they do from
/// `transformers`.
///
/// Sound guesses for the templates of today, and all that text can tell: where it matters, render a conversation.
pub fn arguments_form(template: &str) -> ArgumentsForm {
    let mut is_text = false;
    for (start, word) in template.match_indices("arguments") {
        let before = template[..start].trim_end_matches(['\'', '"', '[', '.']);
        let after = template[start + word.len()..].trim_start_matches(['\'', '"', ']']).trim_start();
        // Only what is taken from something: `function.arguments`, `call['arguments']`, not prose nor keys of JSON.
        let taken =
            before.len() < start && before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ']');
        if !taken {
            continue;
        }
        if after.starts_with("is string")
            || after.starts_with("is not string")
            || after.starts_with("is mapping")
        {
            return ArgumentsForm::Object;
        }
        if after.starts_with("| tojson") || after.starts_with("|tojson") || after.starts_with("|items") {
            return ArgumentsForm::Object;
        }
        // `… + arguments + …`
        is_text |= after.starts_with('+') || before_is_sum(&template[..start]) && after.starts_with("}}");
    }
    if is_text { ArgumentsForm::Text } else { ArgumentsForm::Object }
}

/// Whether the expression before is `… + tool`.
fn before_is_sum(before: &str) -> bool {
    let expression = before.rsplit("{{").next().unwrap_or_default();
    !expression.contains("}}") && expression.contains('+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_the_arguments_decides() {
        for (template, form) in [
            ("{{ call.arguments | tojson }}", ArgumentsForm::Object),
            ("{% for k, v in call.arguments|items %}", ArgumentsForm::Object),
            ("{{ '\\n' + tool['function']['arguments'] + '\\n' }}", ArgumentsForm::Text),
            ("{{ '{\"' + call.name + '\": ' + call.arguments }}", ArgumentsForm::Text),
            ("{% if f.arguments is string %}{{ f.arguments + '' }}{% endif %}", ArgumentsForm::Object),
            ("{{ 'a json object with name and arguments within' + x }}", ArgumentsForm::Object),
            ("{{ '\"arguments\": ' + x }}", ArgumentsForm::Object),
            ("", ArgumentsForm::Object),
        ] {
            assert_eq!(arguments_form(template), form, "{template}");
        }
    }
}
