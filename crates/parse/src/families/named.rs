//! Families that write the name before the arguments.

use super::common::{BARE_BRACKET, BARE_LIST, FENCED, LONE_FUNCTION, PYTHON_TAG, TOOL_CALLS};
use super::{PLAIN, ToolFamily};
use crate::CallShape;
use crate::grammar::{Arguments, Body, Name, Named, Section};

/// `[TOOL_CALLS][{"name": …}]` up to v7, `[TOOL_CALLS]f[ARGS]{"a": 1}` since v11.
pub(super) const MISTRAL: ToolFamily = ToolFamily {
    names: &["mistral", "devstral"],
    sections: &[TOOL_CALLS],
    short_ids: true,
    writes: &[CallShape::MISTRAL_NAMED, CallShape::list("[TOOL_CALLS]", "[TOOL_CALLS][", "]")],
    ..PLAIN
};

/// `function<｜tool▁sep｜>f` and a code fence (V3, R1), `f<｜tool▁sep｜>` and JSON (V3.1), between markers.
pub(super) const DEEPSEEK: ToolFamily = ToolFamily {
    names: &["deepseek_v3", "deepseek", "deepseek_r1", "deepseek_v31", "deepseek_v3.1"],
    sections: &[Section {
        open: &["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"],
        bodies: &[Body::Named(Named {
            open: "<｜tool▁call▁begin｜>",
            name: Name::After(&["<｜tool▁sep｜>"], &[]),
            arguments: Arguments::Json,
            end: &["<｜tool▁call▁end｜>"],
        })],
        close: &["<｜tool▁calls▁end｜>"],
        bare: false,
    }],
    writes: &[CallShape::DEEPSEEK],
    ..PLAIN
};

/// `<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>` in a section.
pub(super) const KIMI_K2: ToolFamily = ToolFamily {
    names: &["kimi_k2", "kimi", "moonshot"],
    sections: &[Section {
        open: &["<|tool_calls_section_begin|>", "<|tool_call_begin|>"],
        bodies: &[Body::Named(Named {
            open: "<|tool_call_begin|>",
            name: Name::Numbered(&["<|tool_call_argument_begin|>"]),
            arguments: Arguments::Json,
            end: &["<|tool_call_end|>"],
        })],
        close: &["<|tool_calls_section_end|>"],
        bare: false,
    }],
    writes: &[CallShape::KIMI_K2],
    ..PLAIN
};

/// `<|recipient|>f<|content|>{"a": 1}` (2), `<function=f>{"a": 1}</function>` (3.1), `>>>f` and a line of JSON (3.2).
pub(super) const FUNCTIONARY: ToolFamily = ToolFamily {
    names: &["functionary", "meetkai"],
    sections: &[
        Section {
            open: &["<|recipient|>", ">>>"],
            bodies: &[Body::Named(Named {
                open: "",
                name: Name::Until(&["<|content|>"]),
                arguments: Arguments::Json,
                end: &["<|stop|>"],
            })],
            close: &[],
            bare: false,
        },
        PYTHON_TAG,
        LONE_FUNCTION,
        FENCED,
        BARE_LIST,
    ],
    // Messages to everybody are text.
    replace: &[
        ("<|from|>assistant\n", ""),
        ("<|recipient|>all\n<|content|>", ""),
        (">>>all\n", ""),
        ("<|stop|>", ""),
    ],
    writes: &[CallShape::FUNCTIONARY],
    ..PLAIN
};

/// Gemma's quotes.
const QUOTES: &[&str] = &["<|\"|>", "<escape>"];

/// `call:f{a:<|"|>x<|"|>}`
const CALL: Body = Body::Named(Named {
    open: "call:",
    name: Name::Until(&[]),
    arguments: Arguments::Literal(QUOTES),
    end: &[],
});

/// `tool_code = f(a=1)`, which Gemma falls back to, and the same in a code fence.
const TOOL_CODE: Section = Section {
    open: &["tool_code = ", "tool_code\nprint(", "```tool_code"],
    bodies: &[Body::Python],
    close: &["print(tool_code)", "```"],
    bare: false,
};

/// `<|tool_call>call:f{a:<|"|>x<|"|>}<tool_call|>`, and FunctionGemma's.
pub(super) const GEMMA4: ToolFamily = ToolFamily {
    names: &["gemma4", "functiongemma"],
    sections: &[
        Section {
            open: &["<|tool_call>", "<start_function_call>"],
            bodies: &[CALL],
            close: &["<tool_call|>", "<end_function_call>", "<|tool_response>", "<start_function_response>"],
            bare: false,
        },
        TOOL_CODE,
    ],
    writes: &[CallShape::GEMMA4, CallShape::FUNCTIONGEMMA],
    ..PLAIN
};

/// What prompts make of Gemma 3, which has no format of its own: Python in a fence or a list, or JSON.
pub(super) const GEMMA3: ToolFamily = ToolFamily {
    names: &["gemma3", "gemma"],
    sections: &[TOOL_CODE, FENCED, BARE_BRACKET],
    writes: &[CallShape::LIST],
    ..PLAIN
};

/// `<|tool_call:begin|>ID<|tool_call:name|>f<|tool_call:args|>{"a": 1}<|tool_call:end|>`
pub(super) const SOLAR: ToolFamily = ToolFamily {
    names: &["solar_open", "solar"],
    sections: &[Section {
        open: &["<|tool_calls|>", "<|tool_call:begin|>"],
        bodies: &[Body::Named(Named {
            open: "<|tool_call:begin|>",
            name: Name::After(&["<|tool_call:name|>"], &["<|tool_call:args|>"]),
            arguments: Arguments::Json,
            end: &["<|tool_call:end|>"],
        })],
        close: &["<|calls|>"],
        bare: false,
    }],
    writes: &[CallShape::SOLAR],
    ..PLAIN
};

/// gpt-oss.
pub(super) const HARMONY: ToolFamily =
    ToolFamily { names: &["harmony", "gpt_oss", "openai"], harmony: true, ..PLAIN };
