//! Families whose calls are JSON objects, or Python calls.

use super::common::{
    BARE_BRACKET, BARE_LIST, BARE_OBJECT, BARE_PYTHON, CALLING, FENCED, LONE_FUNCTION, PYTHON_TAG, TOOL_CALL,
    TOOL_CALLS,
};
use super::xml_like::MINIMAX;
use super::{PLAIN, ToolFamily};
use crate::CallShape;
use crate::grammar::{Body, Section};

/// A section of JSON objects.
macro_rules! json_between {
    ($open:expr, $close:expr) => {
        Section { open: $open, bodies: &[Body::Json], close: $close, bare: false }
    };
}

/// `<tool_calls>` around a list, or a line for each call.
pub(super) const TOOL_CALLS_TAG: Section = json_between!(&["<tool_calls>"], &["</tool_calls>"]);

/// `{"name": "f", "parameters": {"a": 1}}`, after `<|python_tag|>` or not.
pub(super) const LLAMA3: ToolFamily = ToolFamily {
    names: &["llama3_json", "llama", "llama3", "llama3.1", "llama3.2", "llama3.3"],
    sections: &[PYTHON_TAG, LONE_FUNCTION, BARE_OBJECT],
    writes: &[CallShape::LLAMA3],
    ..PLAIN
};

/// `<|tool_call|>[{"name": …}]` (3.x), `<tool_call>` as Hermes (4.0).
pub(super) const GRANITE: ToolFamily = ToolFamily {
    names: &["granite", "granite3", "granite4"],
    sections: &[json_between!(&["<|tool_call|>"], &[]), TOOL_CALL],
    writes: &[CallShape::list("<|tool_call|>", "<|tool_call|>[", "]")],
    ..PLAIN
};

/// A list, with one of several things around it or with nothing.
pub(super) const XLAM: ToolFamily = ToolFamily {
    names: &["xlam"],
    sections: &[TOOL_CALLS, TOOL_CALL, FENCED, BARE_LIST, BARE_OBJECT],
    writes: &[CallShape::LIST],
    ..PLAIN
};

/// `<TOOLCALL>[{"name": …}]</TOOLCALL>` of Nemotron Nano 2; later ones write Qwen's XML.
pub(super) const NEMOTRON_V2: ToolFamily = ToolFamily {
    names: &["nemotron_v2", "nemotron_nano_v2", "nemotron_json"],
    sections: &[json_between!(&["<TOOLCALL>"], &["</TOOLCALL>"])],
    writes: &[CallShape::list("<TOOLCALL>", "<TOOLCALL>[", "]</TOOLCALL>")],
    ..PLAIN
};

/// A JSON object on each line between `<tool_calls>`.
pub(super) const MINIMAX_M1: ToolFamily = ToolFamily {
    names: &["minimax_m1"],
    sections: &[TOOL_CALLS_TAG],
    writes: &[CallShape::lines("<tool_calls>", "<tool_calls>\n", "\n</tool_calls>")],
    ..PLAIN
};

/// A list between `<tool_calls>`.
pub(super) const JAMBA: ToolFamily = ToolFamily {
    names: &["jamba", "apriel"],
    sections: &[TOOL_CALLS_TAG],
    writes: &[CallShape::list("<tool_calls>", "<tool_calls>[", "]</tool_calls>")],
    ..PLAIN
};

/// `functools[{"name": …}]`, or a list between `<|tool_call|>`.
pub(super) const PHI4: ToolFamily = ToolFamily {
    names: &["phi4", "phi4_mini_json", "phi4_mini", "firefunction"],
    sections: &[json_between!(&["functools"], &[]), json_between!(&["<|tool_call|>"], &["<|/tool_call|>"])],
    writes: &[CallShape::list("functools", "functools[", "]")],
    ..PLAIN
};

/// `<|START_ACTION|>[{"tool_name": …, "parameters": …}]<|END_ACTION|>`, `Action:` in the first models.
pub(super) const COMMAND_R: ToolFamily = ToolFamily {
    names: &["command_r", "cohere", "command_r7b", "cohere2"],
    sections: &[
        json_between!(&["<|START_ACTION|>"], &["<|END_ACTION|>"]),
        json_between!(&["Action: ```json", "Action:\n```json"], &["```"]),
    ],
    replace: &[
        ("<|START_RESPONSE|>", ""),
        ("<|END_RESPONSE|>", ""),
        ("<|START_TEXT|>", ""),
        ("<|END_TEXT|>", ""),
    ],
    writes: &[CallShape::COMMAND_R],
    ..PLAIN
};

/// `<|tools_prefix|>[{"f": {"a": 1}}]<|tools_suffix|>`
pub(super) const APERTUS: ToolFamily = ToolFamily {
    names: &["apertus"],
    sections: &[Section {
        open: &["<|tools_prefix|>"],
        bodies: &[Body::Keyed],
        close: &["<|tools_suffix|>"],
        bare: false,
    }],
    writes: &[CallShape::APERTUS],
    ..PLAIN
};

/// `<|function_call|>{"name": …}`
pub(super) const GIGACHAT: ToolFamily = ToolFamily {
    names: &["gigachat", "gigachat3"],
    sections: &[json_between!(&["<|function_call|>", "function call<|role_sep|>"], &["<|message_sep|>"])],
    writes: &[CallShape::list("<|function_call|>", "<|function_call|>", "")],
    ..PLAIN
};

/// JSON objects as they come.
pub(super) const JSON: ToolFamily = ToolFamily {
    names: &["json"],
    sections: &[FENCED, BARE_LIST, BARE_OBJECT],
    writes: &[CallShape::LIST],
    ..PLAIN
};

/// `[f(a=1), g(b="x")]`
pub(super) const PYTHONIC: ToolFamily =
    ToolFamily { names: &["pythonic"], sections: &[BARE_PYTHON], writes: &[CallShape::PYTHON], ..PLAIN };

/// The same, between markers or not.
pub(super) const LLAMA4: ToolFamily = ToolFamily {
    names: &["llama4_pythonic", "llama4", "llama4_json"],
    sections: &[
        Section {
            open: &["<|python_start|>"],
            bodies: &[Body::Python, Body::Json],
            close: &["<|python_end|>", "<|eom|>", "<|eot|>"],
            bare: false,
        },
        PYTHON_TAG,
        BARE_BRACKET,
        BARE_OBJECT,
    ],
    writes: &[CallShape::PYTHON],
    ..PLAIN
};

/// The same between markers; JSON where the prompt asks for it.
pub(super) const LFM2: ToolFamily = ToolFamily {
    names: &["lfm2", "lfm2.5"],
    sections: &[Section {
        open: &["<|tool_call_start|>"],
        bodies: &[Body::Json, Body::Python],
        close: &["<|tool_call_end|>"],
        bare: false,
    }],
    writes: &[CallShape::python("<|tool_call_start|>", "<|tool_call_start|>[", ", ", "]<|tool_call_end|>")],
    ..PLAIN
};

/// A Python call on each line.
pub(super) const OLMO3: ToolFamily = ToolFamily {
    names: &["olmo3"],
    sections: &[Section {
        open: &["<function_calls>"],
        bodies: &[Body::Python, Body::Json],
        close: &["</function_calls>"],
        bare: false,
    }],
    writes: &[CallShape::python("<function_calls>", "<function_calls>\n", "\n", "\n</function_calls>")],
    ..PLAIN
};

/// Whatever looks like a call: for models of which nothing is known.
pub(super) const AUTO: ToolFamily = ToolFamily {
    names: &["auto", "generic", "generic_fallback"],
    sections: &[
        TOOL_CALLS,
        CALLING,
        TOOL_CALL,
        TOOL_CALLS_TAG,
        LONE_FUNCTION,
        MINIMAX,
        PYTHON_TAG,
        FENCED,
        BARE_BRACKET,
        BARE_OBJECT,
    ],
    writes: &[CallShape::LIST],
    ..PLAIN
};
