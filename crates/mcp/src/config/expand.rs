//! `${VAR}` and `${VAR:-default}` in a configuration.

/// Puts variables in their places; says too whether there were any, because then the text is to be kept secret.
///
/// # Errors
/// What is wrong with a reference, or which variable isn't set.
pub(super) fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, bool), String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        whole.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        let end = inner.find('}').ok_or("a `${` has no `}`; write ${NAME}")?;
        whole.push_str(&value(&inner[..end], lookup)?);
        rest = &inner[end + 1..];
    }
    let expanded = rest.len() < text.len();
    whole.push_str(rest);
    Ok((whole, expanded))
}

fn value(reference: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    // `${env:NAME}` is how some editors write it.
    let reference = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !valid {
        return Err("a `${…}` holds no name of a variable; write ${NAME} or ${NAME:-default}".into());
    }
    lookup(name).or_else(|| default.map(str::to_owned)).ok_or_else(|| {
        format!("the environment variable `{name}` is not set; set it, or write ${{{name}:-default}}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_expand(text: &str) -> Result<(String, bool), String> {
        expand(text, &|name| (name == "USER_1").then(|| "me ${X}".to_owned()))
    }

    #[test]
    fn variables_take_their_places_once() {
        for (text, whole, expanded) in [
            ("plain $USER_1 {}", "plain $USER_1 {}", false),
            ("a${USER_1}b${env:USER_1}", "ame ${X}bme ${X}", true),
            ("${NO:-x y}${NO:-}", "x y", true),
            ("é${USER_1:-other}", "éme ${X}", true),
        ] {
            assert_eq!(try_expand(text).unwrap(), (whole.to_owned(), expanded), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("${NO}", "`NO` is not set"),
            ("${USER_1", "no `}`"),
            ("${}", "no name"),
            ("${1A}", "no name"),
            ("${a b}", "no name"),
        ] {
            let problem = try_expand(text).unwrap_err();
            assert!(problem.contains(word), "{text}: {problem}");
        }
    }
}
