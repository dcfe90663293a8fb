//! An engine's commands as they come, and what they say about its end.

use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError};

use crate::Command;

/// How far an engine is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Serving,
    /// No new requests; ends when the open ones are done.
    Draining,
    /// Ends now.
    Stopping,
}

/// The engine's end of the channel.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: UnboundedReceiver<Command>,
    mode: Mode,
}

impl Inbox {
    pub(crate) fn new(commands: UnboundedReceiver<Command>) -> Self {
        Self { commands, mode: Mode::Serving }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The next command but those that end the engine, which change the mode. `None` if there is none now; with
    /// `wait`, one is waited for while the engine serves.
    pub(crate) fn next(&mut self, wait: bool) -> Option<Command> {
        let mut wait = wait;
        loop {
            let command = if std::mem::take(&mut wait) && self.mode == Mode::Serving {
                self.commands.blocking_recv().ok_or(TryRecvError::Disconnected)
            } else {
                self.commands.try_recv()
            };
            match command {
                Ok(Command::Drain) if self.mode == Mode::Serving => self.mode = Mode::Draining,
                Ok(Command::Drain) => {}
                Ok(Command::Shutdown) => self.mode = Mode::Stopping,
                Ok(command) => return Some(command),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    // All handles and streams are gone: nobody is left to answer.
                    self.mode = Mode::Stopping;
                    return None;
                }
            }
        }
    }
}
