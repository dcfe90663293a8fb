//! What a line of the chat means.

/// A line that was typed or piped in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing.
    Empty,
    /// For the model.
    Say(String),
    /// New instructions (none if empty); starts over.
    System(String),
    /// Forget the conversation.
    Reset,
    /// Write the conversation to a file.
    Save(String),
    /// Explain the commands.
    Help,
    /// Leave.
    Quit,
    /// A command that doesn't exist, or lacks its argument; what to tell.
    Wrong(String),
}

/// Told by `/help`.
pub(super) const HELP: &str = "\
/system TEXT   set the instructions and start over
/reset         forget the conversation
/save FILE     write the conversation as JSON
/help          show this
/quit          leave (also Ctrl-D)
Ctrl-C         stop the answer";

/// Reads a line. A line that begins with `//` is text that begins with `/`.
pub(super) fn parse(line: &str) -> Input {
    let line = line.trim();
    if line.is_empty() {
        return Input::Empty;
    }
    if let Some(text) = line.strip_prefix("//") {
        return Input::Say(format!("/{text}"));
    }
    let Some(command) = line.strip_prefix('/') else { return Input::Say(line.to_owned()) };
    let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let argument = argument.trim();
    match name {
        "system" => Input::System(argument.to_owned()),
        "reset" => Input::Reset,
        "save" if argument.is_empty() => Input::Wrong("/save needs the name of a file".into()),
        "save" => Input::Save(argument.to_owned()),
        "help" => Input::Help,
        "quit" | "exit" => Input::Quit,
        _ => Input::Wrong(format!("there is no command /{name}; /help lists them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_or_commands() {
        assert_eq!(parse("  "), Input::Empty);
        assert_eq!(parse(" Hello! \n"), Input::Say("Hello!".into()));
        assert_eq!(parse("//etc is a folder"), Input::Say("/etc is a folder".into()));
        assert_eq!(parse("/system Be  brief."), Input::System("Be  brief.".into()));
        assert_eq!(parse("/system"), Input::System(String::new()));
        assert_eq!(parse("/save my talk.json"), Input::Save("my talk.json".into()));
        assert_eq!(
            (parse("/reset"), parse("/help"), parse("/quit")),
            (Input::Reset, Input::Help, Input::Quit)
        );
        assert!(matches!(parse("/save"), Input::Wrong(_)));
        assert_eq!(parse("/etc"), Input::Wrong("there is no command /etc; /help lists them".into()));
    }
}
