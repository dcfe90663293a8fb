//! An answer as it comes, from wherever.

use std::collections::VecDeque;

use millrace_api::{ChatEvent, Part};
use millrace_server::Generation;

use super::remote::RemoteAnswer;
use crate::run::reason_name;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// More of what the model says.
    Part(Part),
    /// The end, with the finish reason.
    End(String),
    /// It failed; why.
    Failed(String),
}

/// A running answer. Dropping it stops it.
pub(super) enum Answer {
    /// From this process.
    Local(Box<Local>),
    /// From a server.
    Remote(RemoteAnswer),
}

/// The one choice of a generation.
pub(super) struct Local {
    generation: Generation,
    ready: VecDeque<Part>,
    reason: &'static str,
}

impl Answer {
    /// From this process.
    pub(super) fn local(generation: Generation) -> Self {
        Self::Local(Box::new(Local { generation, ready: VecDeque::new(), reason: "stop" }))
    }

    /// The next piece; the last one is `End` or `Failed`.
    pub(super) async fn next(&mut self) -> Piece {
        let piece = match self {
            Self::Local(local) => local.next().await,
            Self::Remote(answer) => answer.next().await,
        };
        piece.unwrap_or_else(|| Piece::Failed("the answer has no end".into()))
    }
}

impl Local {
    async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Some(Piece::Part(part));
            }
            match self.generation.next().await? {
                ChatEvent::Start(_) => {}
                ChatEvent::Delta(delta) => {
                    if let Some(end) = &delta.end {
                        self.reason = reason_name(end.reason);
                    }
                    self.ready.extend(delta.parts);
                }
                ChatEvent::Done(_) => return Some(Piece::End(self.reason.into())),
                ChatEvent::Error(error) => return Some(Piece::Failed(error.message)),
            }
        }
    }
}
