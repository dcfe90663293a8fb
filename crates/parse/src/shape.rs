//! How a family writes calls, for those who have to make a model write one. The parsers read far more than this: what
//! stands here is the form that a model was trained on.

/// Calls as the texts around names and arguments: `begin`, calls with `separator` between them, `end`. A call is `before`,
/// its name, `between`, its arguments, `after`. Any of them may be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallShape {
    /// Before the first call.
    pub begin: &'static str,
    /// Before the name.
    pub before: &'static str,
    /// What each call is numbered or called by.
    pub id: CallId,
    /// Between name and arguments.
    pub between: &'static str,
    /// How arguments are written.
    pub arguments: ArgumentsShape,
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

/// Where a call has an id of its own, as a regular expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallId {
    /// Nowhere.
    None,
    /// After `before`: the id, then this text.
    BeforeName(&'static str, &'static str),
    /// After the name: this text, then the id.
    AfterName(&'static str, &'static str),
}

/// How arguments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentsShape {
    /// A JSON object.
    Json,
    /// One parameter after the other.
    Members(MemberShape),
}

/// A parameter: `before`, its name, `between`, its value, `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberShape {
    /// Before the name.
    pub before: &'static str,
    /// Between the name and a string.
    pub between: &'static str,
    /// Between the name and a value that is no string.
    pub between_others: &'static str,
    /// After the value.
    pub after: &'static str,
    /// Between two parameters.
    pub separator: &'static str,
    /// How values are written.
    pub values: ValueShape,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueShape {
    /// Strings as they are, the rest as JSON. None of these stands in a string: it would end there.
    Plain(&'static [&'static str]),
    /// Strings between these quotes, without escapes, the rest as JSON.
    Quoted(&'static str),
    /// As Python writes them; strings have JSON's escapes, which are Python's too.
    Python,
}

/// What text has to have for the parser to find a call in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSigns {
    /// One of these texts.
    pub marks: Vec<&'static str>,
    /// Or a JSON object whose first key is one of [`CallSigns::KEYS`], with the name of a tool.
    pub objects: bool,
    /// Or `[`, and a tool that is called as in Python.
    pub python: bool,
}

impl CallSigns {
    /// Keys that a call may begin with.
    pub const KEYS: [&'static str; 10] = crate::call::KEYS;
}

/// `{"name": "f", "arguments": {…}}` in each of a list's places.
const OBJECT: CallShape = CallShape {
    begin: "",
    before: r#"{"name": ""#,
    id: CallId::None,
    between: r#"", "arguments": "#,
    arguments: ArgumentsShape::Json,
    after: "}",
    separator: ", ",
    end: "",
    marker: "",
};

/// Texts around name and arguments, and nothing else.
const BARE: CallShape = CallShape { before: "", between: "", after: "", separator: "", ..OBJECT };

/// Parameters in tags with a line for each mark and the value; `never` ends a value.
const fn lines_of_tags(
    before: &'static str,
    between: &'static str,
    after: &'static str,
    never: &'static [&'static str],
) -> ArgumentsShape {
    ArgumentsShape::Members(MemberShape {
        before,
        between,
        between_others: between,
        after,
        separator: "",
        values: ValueShape::Plain(never),
    })
}

/// `f(a=1, b="x")`
const KEYWORDS: ArgumentsShape = ArgumentsShape::Members(MemberShape {
    before: "",
    between: "=",
    between_others: "=",
    after: "",
    separator: ", ",
    values: ValueShape::Python,
});

/// `<parameter=k>`, a line, `</parameter>`
const PARAMETERS: ArgumentsShape = lines_of_tags(
    "<parameter=",
    ">\n",
    "\n</parameter>\n",
    &["<parameter", "</parameter>", "</function>", "</tool_call>"],
);

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
    pub(crate) const MISTRAL_NAMED: Self =
        Self { before: "[TOOL_CALLS]", between: "[ARGS]", marker: "[TOOL_CALLS]", ..BARE };

    /// `<function=f>{…}</function>`, as Functionary writes since 3.1. Its older form begins before the answer does.
    pub(crate) const FUNCTIONARY: Self =
        Self { before: "<function=", between: ">", after: "</function>", marker: "<function=", ..BARE };

    /// DeepSeek's V3.1.
    pub(crate) const DEEPSEEK: Self = Self {
        begin: "<｜tool▁calls▁begin｜>",
        before: "<｜tool▁call▁begin｜>",
        between: "<｜tool▁sep｜>",
        after: "<｜tool▁call▁end｜>",
        end: "<｜tool▁calls▁end｜>",
        marker: "<｜tool▁calls▁begin｜>",
        ..BARE
    };

    /// An object with the function as its only key, in a list.
    pub(crate) const APERTUS: Self = Self {
        before: "{\"",
        between: "\": ",
        ..Self::list("<|tools_prefix|>", "<|tools_prefix|>[", "]<|tools_suffix|>")
    };

    /// Objects with numbers and names of their own, a line for each.
    pub(crate) const COMMAND_R: Self = Self {
        begin: "<|START_ACTION|>[\n    ",
        before: r#"{"tool_call_id": ""#,
        id: CallId::BeforeName(NUMBER, r#"", "tool_name": ""#),
        between: r#"", "parameters": "#,
        separator: ",\n    ",
        end: "\n]<|END_ACTION|>",
        marker: "<|START_ACTION|>",
        ..OBJECT
    };

    /// `functions.f:0`
    pub(crate) const KIMI_K2: Self = Self {
        begin: "<|tool_calls_section_begin|>",
        before: "<|tool_call_begin|>functions.",
        id: CallId::AfterName(":", NUMBER),
        between: "<|tool_call_argument_begin|>",
        after: "<|tool_call_end|>",
        end: "<|tool_calls_section_end|>",
        marker: "<|tool_calls_section_begin|>",
        ..BARE
    };

    /// With an id before the name. What follows on the last call ends the answer, so it isn't said here.
    pub(crate) const SOLAR: Self = Self {
        begin: "<|tool_calls|>",
        before: "<|tool_call:begin|>",
        id: CallId::BeforeName("[a-z0-9]{1,16}", "<|tool_call:name|>"),
        between: "<|tool_call:args|>",
        after: "<|tool_call:end|>",
        marker: "<|tool_calls|>",
        ..BARE
    };

    /// Qwen's XML.
    pub(crate) const FUNCTION: Self = Self {
        before: "<tool_call>\n<function=",
        between: ">\n",
        arguments: PARAMETERS,
        after: "</function>\n</tool_call>",
        separator: "\n",
        marker: "<tool_call>",
        ..BARE
    };

    /// The same in tags of another name.
    pub(crate) const SEED_OSS: Self = Self {
        before: "<seed:tool_call>\n<function=",
        arguments: lines_of_tags(
            "<parameter=",
            ">",
            "</parameter>\n",
            &["<parameter", "</parameter>", "</function>", "</seed:tool_call>"],
        ),
        after: "</function>\n</seed:tool_call>",
        marker: "<seed:tool_call>",
        ..Self::FUNCTION
    };

    /// `f`, then pairs of key and value.
    pub(crate) const GLM: Self = Self {
        before: "<tool_call>",
        between: "\n",
        arguments: lines_of_tags(
            "<arg_key>",
            "</arg_key>\n<arg_value>",
            "</arg_value>\n",
            &["<arg_value>", "</arg_value>", "</tool_call>"],
        ),
        after: "</tool_call>",
        separator: "\n",
        marker: "<tool_call>",
        ..BARE
    };

    /// The same with a suffix to each word.
    pub(crate) const HUNYUAN: Self = Self {
        begin: "<tool_calls:opensource>\n",
        before: "<tool_call:opensource>",
        between: "<tool_sep:opensource>\n",
        arguments: lines_of_tags(
            "<arg_key:opensource>",
            "</arg_key:opensource>\n<arg_value:opensource>",
            "</arg_value:opensource>\n",
            &["<arg_value:opensource>", "</arg_value:opensource>", "</tool_call:opensource>"],
        ),
        after: "</tool_call:opensource>\n",
        end: "</tool_calls:opensource>",
        marker: "<tool_calls:opensource>",
        ..BARE
    };

    /// `<invoke name="f">`
    pub(crate) const MINIMAX_M2: Self = Self {
        begin: "<minimax:tool_call>\n",
        before: "<invoke name=\"",
        between: "\">\n",
        arguments: lines_of_tags(
            "<parameter name=\"",
            "\">",
            "</parameter>\n",
            &["<parameter", "</parameter>", "</invoke>", "</minimax:tool_call>"],
        ),
        after: "</invoke>\n",
        end: "</minimax:tool_call>",
        marker: "<minimax:tool_call>",
        ..BARE
    };

    /// The same with a prefix, a call in each section.
    pub(crate) const MUSE: Self = Self {
        before: "<atem:function_calls>\n<atem:invoke name=\"",
        between: "\">\n",
        arguments: lines_of_tags(
            "<atem:parameter name=\"",
            "\">",
            "</atem:parameter>\n",
            &["<atem:parameter", "</atem:parameter>", "</atem:invoke>", "</atem:function_calls>"],
        ),
        after: "</atem:invoke>\n</atem:function_calls>",
        marker: "<atem:function_calls>",
        ..BARE
    };

    /// The same with another, and parameters say whether they are strings.
    pub(crate) const DEEPSEEK_V32: Self = Self {
        begin: "<｜DSML｜function_calls>\n",
        before: "<｜DSML｜invoke name=\"",
        between: "\">\n",
        arguments: ArgumentsShape::Members(MemberShape {
            before: "<｜DSML｜parameter name=\"",
            between: "\" string=\"true\">",
            between_others: "\" string=\"false\">",
            after: "</｜DSML｜parameter>\n",
            separator: "",
            values: ValueShape::Plain(&[
                "<｜DSML｜parameter",
                "</｜DSML｜parameter>",
                "</｜DSML｜invoke>",
                "</｜DSML｜function_calls>",
            ]),
        }),
        after: "</｜DSML｜invoke>\n",
        end: "</｜DSML｜function_calls>",
        marker: "<｜DSML｜function_calls>",
        ..BARE
    };

    /// `[f(a=1), g()]`
    pub(crate) const PYTHON: Self = Self::python("", "[", ", ", "]");

    /// Gemma 4's.
    pub(crate) const GEMMA4: Self =
        Self::gemma("<|tool_call>", "<|tool_call>call:", "}<tool_call|>", "<|\"|>");

    /// FunctionGemma's.
    pub(crate) const FUNCTIONGEMMA: Self = Self::gemma(
        "<start_function_call>",
        "<start_function_call>call:",
        "}<end_function_call>",
        "<escape>",
    );

    /// Objects between two texts, of which the first begins with `marker`.
    pub(crate) const fn list(marker: &'static str, begin: &'static str, end: &'static str) -> Self {
        Self { begin, end, marker, ..OBJECT }
    }

    /// The same, a line for each.
    pub(crate) const fn lines(marker: &'static str, begin: &'static str, end: &'static str) -> Self {
        Self { separator: "\n", ..Self::list(marker, begin, end) }
    }

    /// Python calls between two texts, of which the first begins with `marker`.
    pub(crate) const fn python(
        marker: &'static str,
        begin: &'static str,
        separator: &'static str,
        end: &'static str,
    ) -> Self {
        Self { begin, between: "(", arguments: KEYWORDS, after: ")", separator, end, marker, ..BARE }
    }

    /// `call:f{a:1}` with quotes of its own.
    const fn gemma(
        marker: &'static str,
        before: &'static str,
        after: &'static str,
        quotes: &'static str,
    ) -> Self {
        let arguments = ArgumentsShape::Members(MemberShape {
            before: "",
            between: ":",
            between_others: ":",
            after: "",
            separator: ",",
            values: ValueShape::Quoted(quotes),
        });
        Self { before, between: "{", arguments, after, marker, ..BARE }
    }

    /// Its texts around names, arguments and parameters.
    pub fn texts(&self) -> [&'static str; 7] {
        let quotes = match self.arguments {
            ArgumentsShape::Members(MemberShape { values: ValueShape::Quoted(quotes), .. }) => quotes,
            _ => "",
        };
        [self.begin, self.before, self.between, self.after, self.separator, self.end, quotes]
    }
}

/// Calls of one answer are counted.
const NUMBER: &str = "0|[1-9][0-9]?";
