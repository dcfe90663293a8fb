//! How a family writes calls, for those who have to make a model write one. The parsers read far more than this: what
//! stands here is the form that a model was trained on.

/// Calls as the texts around names and arguments: `begin`, calls with `separator` between them, `end`. A call is `before`,
/// its name, `between`, its arguments as a JSON object, `after`. Any of them may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallShape {
    /// Before the first call.
    pub begin: &'static str,
    /// Before the name.
    pub before: &'static str,
    /// Between name and arguments.
    pub between: &'static str,
    /// After the arguments.
    pub after: &'static str,
    /// Between two calls.
    pub separator: &'static str,
    /// After the last call.
    pub end: &'static str,
    /// What text before calls can't hold: it opens `begin`, or `before` if that is empty. Empty if calls begin like any
    /// other text.
    pub marker: &'static str,
}

/// `{"name": "f", "arguments": {…}}` in each of a list's places.
const OBJECT: CallShape = CallShape {
    begin: "",
    before: r#"{"name": ""#,
    between: r#"", "arguments": "#,
    after: "}",
    separator: ", ",
    end: "",
    marker: "",
};

impl CallShape {
    /// `<tool_call>`, a line of JSON, `</tool_call>`, and a line break before the next.
    pub(crate) const TAGGED: Self = Self {
        before: "<tool_call>\n{\"name\": \"",
        after: "}\n</tool_call>",
        separator: "\n",
        marker: "<tool_call>",
        ..OBJECT
    };

    /// One object as it is, with Llama's name for the arguments. More than one come with semicolons between them.
    pub(crate) const LLAMA3: Self = Self { between: r#"", "parameters": "#, separator: "; ", ..OBJECT };

    /// A list as it is.
    pub(crate) const LIST: Self = Self::list("", "[", "]");

    /// `[TOOL_CALLS]f[ARGS]{…}`, as Mistral writes since v11.
    pub(crate) const MISTRAL_NAMED: Self = Self {
        begin: "",
        before: "[TOOL_CALLS]",
        between: "[ARGS]",
        after: "",
        separator: "",
        end: "",
        marker: "[TOOL_CALLS]",
    };

    /// DeepSeek's V3.1.
    pub(crate) const DEEPSEEK: Self = Self {
        begin: "<｜tool▁calls▁begin｜>",
        before: "<｜tool▁call▁begin｜>",
        between: "<｜tool▁sep｜>",
        after: "<｜tool▁call▁end｜>",
        separator: "",
        end: "<｜tool▁calls▁end｜>",
        marker: "<｜tool▁calls▁begin｜>",
    };

    /// An object with the function as its only key, in a list.
    pub(crate) const APERTUS: Self = Self {
        before: "{\"",
        between: "\": ",
        ..Self::list("<|tools_prefix|>", "<|tools_prefix|>[", "]<|tools_suffix|>")
    };

    /// Objects between two texts, of which the first begins with `marker`.
    pub(crate) const fn list(marker: &'static str, begin: &'static str, end: &'static str) -> Self {
        Self { begin, end, marker, ..OBJECT }
    }

    /// The same, a line for each.
    pub(crate) const fn lines(marker: &'static str, begin: &'static str, end: &'static str) -> Self {
        Self { separator: "\n", ..Self::list(marker, begin, end) }
    }

    /// All its texts.
    pub fn texts(&self) -> [&'static str; 6] {
        [self.begin, self.before, self.between, self.after, self.separator, self.end]
    }
}
