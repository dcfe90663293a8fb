//! System messages in the middle of a conversation. Agents send them to tell the model what has changed; many templates
//! know them at the head only, and refuse or drop them elsewhere.

use millrace_text::{ChatTemplate, TemplateInput};
use serde_json::{Value, json};

/// Whether a template shows what a system message after a user's says.
pub(crate) fn knows_late_system(template: &ChatTemplate) -> bool {
    const TEXT: &str = "MILLRACE-PROBE";
    let messages = [json!({"role": "user", "content": "x"}), json!({"role": "system", "content": TEXT})];
    let input =
        TemplateInput { messages: &messages, add_generation_prompt: true, ..TemplateInput::default() };
    template.render(&input).is_ok_and(|prompt| prompt.contains(TEXT))
}

/// Makes system messages after the first message part of the user's turn in which they stand. One turn, because some
/// templates insist that user and assistant take turns.
pub(super) fn fold(messages: Vec<Value>) -> Vec<Value> {
    let mut folded: Vec<Value> = Vec::with_capacity(messages.len());
    // Whether the last message is a user's turn that holds a system message.
    let mut mixed = false;
    for mut message in messages {
        let late = message["role"] == "system" && !folded.is_empty();
        let user = message["role"] == "user";
        let after_user = folded.last().is_some_and(|last| last["role"] == "user");
        if after_user && (late || user && mixed) {
            append(folded.last_mut(), &message);
            mixed = true;
            continue;
        }
        if late {
            message["role"] = "user".into();
        }
        mixed = late;
        folded.push(message);
    }
    folded
}

fn append(turn: Option<&mut Value>, message: &Value) {
    if let (Some(Value::String(text)), Some(more)) =
        (turn.and_then(|turn| turn.get_mut("content")), message["content"].as_str())
    {
        text.push_str("\n\n");
        text.push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(roles: &str) -> String {
        let role = |letter| match letter {
            's' => "system",
            'u' => "user",
            't' => "tool",
            _ => "assistant",
        };
        let message =
            |(index, letter): (usize, char)| json!({"role": role(letter), "content": index.to_string()});
        let shown = |message: &Value| {
            let text = message["content"].as_str().unwrap().replace("\n\n", "+");
            format!("{}{text}", &message["role"].as_str().unwrap()[..1])
        };
        fold(roles.chars().enumerate().map(message).collect()).iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn late_system_messages_join_the_users_turn() {
        assert_eq!(folded("suau"), "s0 u1 a2 u3");
        assert_eq!(folded("us"), "u0+1");
        assert_eq!(folded("suasu"), "s0 u1 a2 u3+4");
        assert_eq!(folded("uatssua"), "u0 a1 t2 u3+4+5 a6");
        assert_eq!(folded("uu"), "u0 u1");
        assert_eq!(folded(""), "");
    }
}
