//! Tools that the server runs itself, in the middle of an answer.

use serde_json::Value;

/// What a request wants of the server's own tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTools {
    /// Only the tools of these MCP servers; `None` is all that are up.
    pub servers: Option<Vec<String>>,
    /// Only these tools, by their full or, where that is clear, their own names; `None` is all.
    pub tools: Option<Vec<String>>,
    /// Rounds of calls after which the answer ends, whatever the model wants; at least 1.
    pub max_rounds: usize,
    /// Calls of the whole answer, beyond which none is run.
    pub max_calls: Option<usize>,
    /// Who lets a call happen.
    pub approval: Approval,
    /// What the request says of each of `servers`. If there are any, the client gets lists of tools and wishes for
    /// approval as news.
    pub rules: Vec<ServerRule>,
    /// Calls that the client has approved: they are run before the model speaks.
    pub approved: Vec<ApprovedCall>,
    /// What the model has to call first.
    pub choice: Option<ServerChoice>,
}

/// A server's tool that has to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerChoice {
    /// The MCP server.
    pub server: String,
    /// Its own name for the tool; `None` is any of its tools.
    pub tool: Option<String>,
}

/// What a request wants of one MCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRule {
    /// Its name.
    pub server: String,
    /// Only these of its tools, by its own names for them; `None` is all.
    pub tools: Option<Vec<String>>,
    /// None of these.
    pub hidden: Vec<String>,
    /// Which calls wait for the client.
    pub ask: Ask,
    /// The client wants to be told its tools.
    pub list: bool,
    /// Where it is, if the request brings it; else it is one of the operator's.
    pub remote: Option<RemoteServer>,
}

/// An MCP server that a request brings with it.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteServer {
    /// `http` or `https`; not checked yet. May hold secrets.
    pub url: String,
    /// Headers of every request to it, secrets among them.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for RemoteServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteServer").field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}

/// Which calls of a server wait for the client's approval, by the server's own names for its tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// None.
    Never,
    /// All.
    Always,
    /// Those of these tools.
    Only(Vec<String>),
    /// Those of all tools but these.
    AllBut(Vec<String>),
}

/// A call that the client has approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedCall {
    /// The id under which it was asked for, which is also that of the call in the conversation.
    pub id: String,
    /// The MCP server.
    pub server: String,
    /// The server's own name for the tool.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

/// A tool as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTool {
    /// The server's own name for it.
    pub name: String,
    /// In the server's words.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

impl ServerTools {
    /// Whether the request lets the model use this tool of this server.
    pub fn offers(&self, server: &str, own_name: &str) -> bool {
        let in_rule = |rule: &ServerRule| {
            rule.tools.as_ref().is_none_or(|tools| has(tools, own_name)) && !has(&rule.hidden, own_name)
        };
        self.rules.iter().find(|rule| rule.server == server).is_none_or(in_rule)
    }

    /// Whether a call of this tool waits for the client's approval.
    pub fn asks(&self, server: &str, own_name: &str) -> bool {
        let rule = self.rules.iter().find(|rule| rule.server == server);
        rule.is_some_and(|rule| match &rule.ask {
            Ask::Never => false,
            Ask::Always => true,
            Ask::Only(tools) => has(tools, own_name),
            Ask::AllBut(tools) => !has(tools, own_name),
        })
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
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

/// Whether somebody has to let a call happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallApproval {
    /// Nobody.
    NotNeeded,
    /// The client, which is asked: the call is not run in this answer.
    Wanted,
    /// The client has, under this id.
    Given(String),
}

/// News of a call that the server runs. The calls of an answer are numbered from 0 in the order in which they begin,
/// apart from the client's: `Begin`, any number of `Arguments`, `Complete`, `Result`; without `Complete` if the model broke
/// off, without `Result` if the client is asked first. Several may be on their way at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerCallNews {
    /// The tools of a server whose request wants to be told.
    Listed {
        /// The MCP server.
        server: String,
        /// What the model may call of it.
        tools: Vec<ListedTool>,
    },
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
        /// The server's own name for the tool.
        own_name: String,
        /// Whether somebody has to let it happen.
        approval: CallApproval,
    },
    /// More of its arguments.
    Arguments {
        /// Which call of the answer.
        index: usize,
        /// JSON text.
        delta: String,
    },
    /// Its arguments are whole.
    Complete {
        /// Which call of the answer.
        index: usize,
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
    /// The server's own name for the tool.
    pub own_name: String,
    /// JSON text; only its beginning if the model broke off.
    pub arguments: String,
    /// What the model got to read; `None` if it came to no result.
    pub output: Option<String>,
    /// Whether that is an error.
    pub is_error: bool,
    /// How many parts of the answer came before it.
    pub after_parts: usize,
    /// Calls of one round run together; results come before the next round's calls.
    pub round: usize,
}

impl ServerCall {
    /// Takes news into a list of calls; `parts` is how many parts the answer has so far.
    pub fn note(calls: &mut Vec<Self>, news: ServerCallNews, parts: usize) {
        match news {
            ServerCallNews::Listed { .. } | ServerCallNews::Complete { .. } => {}
            ServerCallNews::Begin { id, server, name, own_name, .. } => {
                let round = calls.last().map_or(0, |last| last.round + usize::from(last.output.is_some()));
                calls.push(Self { id, server, name, own_name, after_parts: parts, round, ..Self::default() });
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
