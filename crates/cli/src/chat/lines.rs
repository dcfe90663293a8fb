//! Where the user's lines come from: an editor on a terminal, plain lines from anything else.

use std::io::{BufRead, IsTerminal, Read};

use anyhow::{Context, Result};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

/// Longest line of a script, in bytes.
const MAX_LINE: u64 = 8 << 20;

/// Standard input, line by line.
pub(super) enum Lines {
    /// With a prompt, editing and the lines of this session.
    Terminal(Box<DefaultEditor>),
    /// A script.
    Pipe,
}

impl Lines {
    pub(super) fn open() -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let editor = DefaultEditor::new().context("the terminal cannot be used")?;
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// Whether a person types.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next line; `None` at the end, which is Ctrl-D, or Ctrl-C twice.
    pub(super) fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Terminal(editor) => next_typed(editor),
            Self::Pipe => next_piped(&mut std::io::stdin().lock()),
        }
    }
}

fn next_typed(editor: &mut DefaultEditor) -> Result<Option<String>> {
    let mut interrupted = false;
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                // Without this line's history the chat goes on all the same.
                let _ = editor.add_history_entry(&line);
                return Ok(Some(line));
            }
            Err(ReadlineError::Interrupted) if !interrupted => {
                interrupted = true;
                eprintln!("(Ctrl-C again or Ctrl-D leaves)");
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(None),
            Err(error) => return Err(error).context("the terminal cannot be read"),
        }
    }
}

fn next_piped(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = Vec::new();
    let read =
        input.take(MAX_LINE + 1).read_until(b'\n', &mut line).context("standard input cannot be read")?;
    anyhow::ensure!(read as u64 <= MAX_LINE, "a line of standard input is longer than {MAX_LINE} bytes");
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_read_to_their_end() {
        let mut input: &[u8] = b"one\n\ntwo";
        assert_eq!(next_piped(&mut input).unwrap().as_deref(), Some("one\n"));
        assert_eq!(next_piped(&mut input).unwrap().as_deref(), Some("\n"));
        assert_eq!(next_piped(&mut input).unwrap().as_deref(), Some("two"));
        assert_eq!(next_piped(&mut input).unwrap(), None);
        let long = vec![b'x'; MAX_LINE as usize + 2];
        assert!(next_piped(&mut long.as_slice()).is_err());
    }
}
