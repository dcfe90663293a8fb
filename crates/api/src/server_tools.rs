//! Tools that the server runs itself, in the middle of an answer.

/// What a request wants of the server's own tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTools {
    /// Only the tools of these MCP servers; `None` is all that are up.
    pub servers: Option<Vec<String>>,
    /// Only these tools, by their full or, where that is clear, their own names; `None` is all.
    pub tools: Option<Vec<String>>,
    /// Rounds of calls after which the answer ends, whatever the model wants; at least 1.
    pub max_rounds: usize,
    /// Who lets a call happen.
    pub approval: Approval,
}

/// Who lets a call happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Approval {
    /// Nobody has to: calls are run at once.
    #[default]
    Never,
    /// The client: it gets every call as one of its own, and runs it or not.
    Always,
}

/// News of a call that the server runs. The calls of an answer are numbered from 0 in the order in which they begin,
/// apart from the client's: `Begin`, any number of `Arguments`, `Result`. Several may be on their way at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCallNews {
    /// The model begins a call.
    Begin {
        /// Which call of the answer.
        index: usize,
        /// The call's id.
        id: String,
        /// The MCP server.
        server: String,
        /// The tool's full name.
        name: String,
    },
    /// More of its arguments.
    Arguments {
        /// Which call of the answer.
        index: usize,
        /// JSON text.
        delta: String,
    },
    /// It is done, or will not be.
    Result {
        /// Which call of the answer.
        index: usize,
        /// What the model gets to read.
        output: String,
        /// Whether this is an error: the tool's own, or ours if it could not be run.
        is_error: bool,
    },
}

/// One whole call that the server ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerCall {
    /// Its id.
    pub id: String,
    /// The MCP server.
    pub server: String,
    /// The tool's full name.
    pub name: String,
    /// JSON text; only its beginning if the model broke off.
    pub arguments: String,
    /// What the model got to read; `None` if it came to no result.
    pub output: Option<String>,
    /// Whether that is an error.
    pub is_error: bool,
    /// How many parts of the answer came before it.
    pub after_parts: usize,
}

impl ServerCall {
    /// Takes news into a list of calls; `parts` is how many parts the answer has so far.
    pub fn note(calls: &mut Vec<Self>, news: ServerCallNews, parts: usize) {
        match news {
            ServerCallNews::Begin { id, server, name, .. } => {
                calls.push(Self { id, server, name, after_parts: parts, ..Self::default() });
            }
            ServerCallNews::Arguments { index, delta } => {
                if let Some(call) = calls.get_mut(index) {
                    call.arguments.push_str(&delta);
                }
            }
            ServerCallNews::Result { index, output, is_error } => {
                if let Some(call) = calls.get_mut(index) {
                    (call.output, call.is_error) = (Some(output), is_error);
                }
            }
        }
    }
}
