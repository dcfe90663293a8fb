//! Sections that several families share.

use crate::grammar::{Arguments, Body, Name, Named, Section, Tags};

/// `<parameter=k>v</parameter>`
pub(super) const PARAMETER: Tags =
    Tags { key: "<parameter", key_end: "", value: "", value_end: "</parameter>", trims_line: true };

/// `<function=f>`, then parameters or a JSON object.
pub(super) const FUNCTION: Body = Body::Named(Named {
    open: "<function",
    name: Name::Attribute,
    arguments: Arguments::Tags(PARAMETER),
    end: &["</function>"],
});

/// `<tool_call>` around JSON or XML.
pub(super) const TOOL_CALL: Section = Section {
    open: &["<tool_call>"],
    bodies: &[Body::Json, FUNCTION],
    close: &["</tool_call>"],
    bare: false,
};

/// `<function=f>` on its own.
pub(super) const LONE_FUNCTION: Section =
    Section { open: &["<function="], bodies: &[FUNCTION], close: &["</tool_call>"], bare: false };

/// A way to show calls in a history without a format of its own, which models copy: `[Calling tool: f({"a": 1})]`.
pub(super) const CALLING: Section = Section {
    open: &["[Calling tool:"],
    bodies: &[Body::Named(Named {
        open: "",
        name: Name::Until(&["("]),
        arguments: Arguments::Json,
        end: &[")"],
    })],
    close: &["]"],
    bare: false,
};

/// `[TOOL_CALLS]` in all its versions: a list of JSON objects, or name and arguments.
pub(super) const TOOL_CALLS: Section = Section {
    open: &["[TOOL_CALLS]"],
    bodies: &[
        Body::Json,
        Body::Named(Named {
            open: "",
            name: Name::Until(&["[ARGS]", "[CALL_ID]"]),
            arguments: Arguments::Json,
            end: &[],
        }),
    ],
    close: &[],
    bare: false,
};

/// `<|python_tag|>` and JSON objects, or the call of a built-in tool.
pub(super) const PYTHON_TAG: Section = Section {
    open: &["<|python_tag|>"],
    bodies: &[Body::Json, Body::Python],
    close: &["<|eom_id|>", "<|eot_id|>"],
    bare: false,
};

/// A JSON object with no markers.
pub(super) const BARE_OBJECT: Section =
    Section { open: &["{"], bodies: &[Body::Json], close: &[], bare: true };

/// A list of JSON objects with no markers.
pub(super) const BARE_LIST: Section = Section { open: &["["], bodies: &[Body::Json], close: &[], bare: true };

/// A list of Python calls with no markers.
pub(super) const BARE_PYTHON: Section =
    Section { open: &["["], bodies: &[Body::Python], close: &[], bare: true };

/// Either of the two.
pub(super) const BARE_BRACKET: Section =
    Section { open: &["["], bodies: &[Body::Json, Body::Python], close: &[], bare: true };

/// JSON in a code fence.
pub(super) const FENCED: Section =
    Section { open: &["```json"], bodies: &[Body::Json], close: &["```"], bare: true };
