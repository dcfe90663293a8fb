//! What a parser says, and how it adds up to an answer.

/// News from the model's output, in order. Deltas are never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// More of the answer's text.
    Text(String),
    /// More of the reasoning.
    Reasoning(String),
    /// A call begins. Its arguments follow before the next call begins.
    ToolCall {
        /// Counts calls from 0.
        index: usize,
        /// The id that the model wrote, if its format has one; otherwise made up.
        id: String,
        /// The function's name as the model wrote it: not necessarily one of the request's tools.
        name: String,
    },
    /// More of a call's arguments: the deltas of a call joined so far are a prefix of its JSON.
    ToolArguments {
        /// Which call.
        index: usize,
        /// JSON text.
        delta: String,
    },
    /// A call ends.
    ToolCallEnd {
        /// Which call.
        index: usize,
        /// Whether its arguments came to their end. If not, the output broke off inside of them, and running
        /// the call would be wrong.
        complete: bool,
    },
    /// The output has ended; nothing follows.
    Done {
        /// How many calls are complete.
        calls: usize,
    },
}

/// The events of one output, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The text, empty if there is none.
    pub content: String,
    /// The reasoning, empty if there is none.
    pub reasoning: String,
    /// All calls in order; those that broke off too.
    pub calls: Vec<Call>,
}

/// A call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// The function.
    pub name: String,
    /// JSON text, if `complete`; otherwise the beginning of one. Broken JSON from the model stays as it is where
    /// its format carries JSON.
    pub arguments: String,
    /// See [`Event::ToolCallEnd`].
    pub complete: bool,
}

impl Answer {
    /// Adds an event.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Text(delta) => self.content.push_str(delta),
            Event::Reasoning(delta) => self.reasoning.push_str(delta),
            Event::ToolCall { id, name, .. } => {
                self.calls.push(Call { id: id.clone(), name: name.clone(), ..Call::default() });
            }
            Event::ToolArguments { index, delta } => {
                if let Some(call) = self.calls.get_mut(*index) {
                    call.arguments.push_str(delta);
                }
            }
            Event::ToolCallEnd { index, complete } => {
                if let Some(call) = self.calls.get_mut(*index) {
                    call.complete = *complete;
                }
            }
            Event::Done { .. } => {}
        }
    }

    /// The calls that may be run.
    pub fn complete_calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.complete)
    }
}

impl<'a> FromIterator<&'a Event> for Answer {
    fn from_iter<I: IntoIterator<Item = &'a Event>>(events: I) -> Self {
        let mut answer = Self::default();
        events.into_iter().for_each(|event| answer.push(event));
        answer
    }
}
