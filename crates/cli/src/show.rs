//! How answers look in a terminal: reasoning dimmed, calls on lines of their own.

use std::io::IsTerminal;

use millrace_api::Part;

/// Escape sequences of ECMA-48: faint, and back to normal.
const FAINT: &str = "\x1b[2m";
const NORMAL: &str = "\x1b[0m";

/// Puts the parts of one answer into text for people.
///
/// Without a terminal there are no colours, and reasoning is left out: a script that reads the answer wants the answer.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
    last: Kind,
}

/// What was shown last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Text,
    Reasoning,
    Call,
}

impl Screen {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self::new(std::io::stdout().is_terminal())
    }

    fn new(terminal: bool) -> Self {
        Self { terminal, last: Kind::Nothing }
    }

    /// The text that shows this part.
    pub(crate) fn show(&mut self, part: &Part) -> String {
        match part {
            Part::Text(text) => self.enter(Kind::Text, "\n\n") + &self.printable(text),
            Part::Reasoning(_) if !self.terminal => String::new(),
            Part::Reasoning(text) => {
                let gap = self.enter(Kind::Reasoning, "\n\n");
                format!("{gap}{FAINT}{}{NORMAL}", self.printable(text))
            }
            Part::ToolCall { name, .. } => {
                let gap = self.enter(Kind::Call, "\n");
                // A call after a call begins a line of its own too.
                format!("{gap}→ {}(", self.printable(name))
            }
            Part::ToolArguments { delta, .. } => self.printable(delta),
            Part::ToolCallEnd { complete: true, .. } => ")".to_owned(),
            Part::ToolCallEnd { complete: false, .. } => "… (broken off)".to_owned(),
        }
    }

    /// On a terminal, without control characters but line breaks and tabs: a model must not steer it.
    fn printable(&self, text: &str) -> String {
        let may_pass = |c: &char| !self.terminal || !c.is_control() || matches!(c, '\n' | '\t');
        text.chars().filter(may_pass).collect()
    }

    /// What stands between the last part and one of this kind.
    fn enter(&mut self, kind: Kind, gap: &str) -> String {
        let last = std::mem::replace(&mut self.last, kind);
        let apart = last != Kind::Nothing && (last != kind || kind == Kind::Call);
        if apart { gap.to_owned() } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: bool, parts: &[Part]) -> String {
        let mut screen = Screen::new(terminal);
        parts.iter().map(|part| screen.show(part)).collect()
    }

    fn call(index: usize, arguments: &[&str], complete: bool) -> Vec<Part> {
        let head = Part::ToolCall { index, id: "x".into(), name: "add".into() };
        let delta = |delta: &&str| Part::ToolArguments { index, delta: (*delta).to_owned() };
        [head]
            .into_iter()
            .chain(arguments.iter().map(delta))
            .chain([Part::ToolCallEnd { index, complete }])
            .collect()
    }

    #[test]
    fn parts_are_told_apart() {
        let said = [Part::Reasoning("Hm".into()), Part::Reasoning(".".into()), Part::Text("See: ".into())];
        let parts = [said.to_vec(), call(0, &["{\"a\": ", "1}"], true), call(1, &["{"], false)].concat();
        assert_eq!(
            shown(true, &parts),
            "\x1b[2mHm\x1b[0m\x1b[2m.\x1b[0m\n\nSee: \n→ add({\"a\": 1})\n→ add({… (broken off)"
        );
        assert_eq!(shown(false, &parts), "See: \n→ add({\"a\": 1})\n→ add({… (broken off)");
    }

    #[test]
    fn a_model_cannot_steer_the_terminal() {
        assert_eq!(shown(true, &[Part::Text("a\x1b[31m\tb\n\u{9b}c".into())]), "a[31m\tb\nc");
        assert_eq!(shown(false, &[Part::Text("a\r\n".into())]), "a\r\n");
    }
}
