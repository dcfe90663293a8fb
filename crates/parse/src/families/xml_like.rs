//! Families whose calls stand in tags, or that put parameters into tags.

use super::common::{CALLING, FUNCTION, LONE_FUNCTION, TOOL_CALL};
use super::{PLAIN, ToolFamily};
use crate::CallShape;
use crate::grammar::{Arguments, Body, Name, Named, Section, Tags};

/// JSON in `<tool_call>`: Hermes, Qwen 2.5 and 3, and most small models since. They slip into Qwen's XML at times.
pub(super) const HERMES: ToolFamily = ToolFamily {
    names: &["hermes", "nous", "qwen", "qwen2", "qwen2.5", "qwen3", "smollm3", "mimo"],
    sections: &[TOOL_CALL, LONE_FUNCTION, CALLING],
    replace: &[("<tool_call_reasoning>", "(Reasoning: "), ("</tool_call_reasoning>", ")\n")],
    writes: &[CallShape::TAGGED],
    ..PLAIN
};

/// `<tool_call><function=f><parameter=a>1</parameter></function></tool_call>`
pub(super) const QWEN3_CODER: ToolFamily = ToolFamily {
    names: &["qwen3_coder", "qwen3_xml", "qwen3.5", "nemotron", "nemotron3", "step3p5", "step3.5", "step"],
    sections: &[TOOL_CALL, LONE_FUNCTION],
    writes: &[CallShape::FUNCTION],
    ..PLAIN
};

/// As Qwen's XML with another tag around it.
pub(super) const SEED_OSS: ToolFamily = ToolFamily {
    names: &["seed_oss", "seed"],
    sections: &[
        Section {
            open: &["<seed:tool_call>"],
            bodies: &[FUNCTION, Body::Json],
            close: &["</seed:tool_call>"],
            bare: false,
        },
        LONE_FUNCTION,
    ],
    writes: &[CallShape::SEED_OSS],
    ..PLAIN
};

/// A section of `<invoke name="f"><parameter name="a">1</parameter></invoke>` with a prefix to each word.
macro_rules! invokes {
    ($section:literal, $prefix:literal, $trims_line:literal) => {
        Section {
            open: &[concat!("<", $section, ">"), concat!("<", $prefix, "invoke name=")],
            bodies: &[Body::Named(Named {
                open: concat!("<", $prefix, "invoke"),
                name: Name::Attribute,
                arguments: Arguments::Tags(Tags {
                    key: concat!("<", $prefix, "parameter"),
                    key_end: "",
                    value: "",
                    value_end: concat!("</", $prefix, "parameter>"),
                    trims_line: $trims_line,
                }),
                end: &[concat!("</", $prefix, "invoke>")],
            })],
            close: &[concat!("</", $section, ">")],
            bare: false,
        }
    };
}

/// `<minimax:tool_call><invoke name="f"><parameter name="a">1</parameter></invoke></minimax:tool_call>`
pub(super) const MINIMAX: Section = invokes!("minimax:tool_call", "", false);

pub(super) const MINIMAX_M2: ToolFamily = ToolFamily {
    names: &["minimax_m2", "minimax"],
    sections: &[MINIMAX],
    writes: &[CallShape::MINIMAX_M2],
    ..PLAIN
};

/// DeepSeek's markup language since V3.2; parameters say whether they are strings.
pub(super) const DEEPSEEK_V32: ToolFamily = ToolFamily {
    names: &["deepseek_v32", "deepseek_v3.2", "deepseek_v4"],
    sections: &[
        invokes!("｜DSML｜function_calls", "｜DSML｜", false),
        invokes!("｜DSML｜tool_calls", "｜DSML｜", false),
    ],
    writes: &[CallShape::DEEPSEEK_V32],
    ..PLAIN
};

/// Muse's `<atem:invoke>`, each in a message of its own.
pub(super) const MUSE: ToolFamily = ToolFamily {
    names: &["muse"],
    sections: &[invokes!("atem:function_calls", "atem:", false)],
    writes: &[CallShape::MUSE],
    ..PLAIN
};

/// `f<arg_key>a</arg_key><arg_value>1</arg_value>` in `<tool_call>`.
pub(super) const GLM: ToolFamily = ToolFamily {
    names: &[
        "glm45",
        "glm4",
        "glm47",
        "glm4.5",
        "glm4.7",
        "glm-45",
        "glm_4.5",
        "glm_4.7",
        "poolside_v1",
        "poolside",
        "ling3",
        "spark",
    ],
    sections: &[Section {
        open: &["<tool_call>"],
        bodies: &[
            Body::Json,
            Body::Named(Named {
                open: "",
                name: Name::Until(&[]),
                arguments: Arguments::Tags(Tags {
                    key: "<arg_key>",
                    key_end: "</arg_key>",
                    value: "<arg_value>",
                    value_end: "</arg_value>",
                    trims_line: false,
                }),
                end: &[],
            }),
        ],
        close: &["</tool_call>"],
        bare: false,
    }],
    writes: &[CallShape::GLM],
    ..PLAIN
};

/// As GLM's with a suffix to each word, and with a list of JSON objects in the earlier models.
pub(super) const HUNYUAN_V3: ToolFamily = ToolFamily {
    names: &["hunyuan", "hunyuan_a13b", "hunyuan_v3", "hy3"],
    sections: &[
        Section {
            open: &["<tool_calls:opensource>", "<tool_call:opensource>"],
            bodies: &[Body::Named(Named {
                open: "<tool_call:opensource>",
                name: Name::Until(&["<tool_sep:opensource>"]),
                arguments: Arguments::Tags(Tags {
                    key: "<arg_key:opensource>",
                    key_end: "</arg_key:opensource>",
                    value: "<arg_value:opensource>",
                    value_end: "</arg_value:opensource>",
                    trims_line: false,
                }),
                end: &["</tool_call:opensource>"],
            })],
            close: &["</tool_calls:opensource>"],
            bare: false,
        },
        super::json_like::TOOL_CALLS_TAG,
    ],
    writes: &[CallShape::HUNYUAN],
    ..PLAIN
};
