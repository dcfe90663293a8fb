//! The families: how each kind of model writes calls and reasoning.
//!
//! The formats are facts of the models' own chat templates and of what the models are seen to write.

mod common;
mod json_like;
mod named;
mod reasoning;
mod xml_like;

use crate::CallShape;
use crate::ParseError;
use crate::grammar::Section;
use crate::harmony;

/// How a family writes calls.
#[derive(Debug)]
pub(crate) struct ToolFamily {
    /// Names, the usual one first.
    pub(crate) names: &'static [&'static str],
    /// Where calls stand.
    pub(crate) sections: &'static [Section],
    /// Marks that are shown as something else, mostly as nothing.
    pub(crate) replace: &'static [(&'static str, &'static str)],
    /// Ids are nine letters and digits.
    pub(crate) short_ids: bool,
    /// The whole output is in the harmony format.
    pub(crate) harmony: bool,
    /// How its models write calls, the newest first; empty if that can't be said in a [`CallShape`].
    pub(crate) writes: &'static [CallShape],
}

impl ToolFamily {
    /// Adds the texts that its format is marked with.
    pub(crate) fn markers(&self, markers: &mut Vec<&'static str>) {
        self.sections.iter().for_each(|section| section.markers(markers));
        markers.extend(self.replace.iter().map(|(marker, _)| marker));
        if self.harmony {
            markers.extend(harmony::MARKS);
        }
    }
}

/// A family of which only names and sections are to be said.
const PLAIN: ToolFamily =
    ToolFamily { names: &[], sections: &[], replace: &[], short_ids: false, harmony: false, writes: &[] };

/// How a family writes reasoning.
#[derive(Debug)]
pub(crate) struct ReasoningFamily {
    /// Names, the usual one first.
    pub(crate) names: &'static [&'static str],
    /// Markers that begin it.
    pub(crate) open: &'static [&'static str],
    /// What else the prompt may end with to begin it.
    pub(crate) prompt_open: &'static [&'static str],
    /// Markers that end it: those of `open`, in their order, then others.
    pub(crate) close: &'static [&'static str],
    /// Marks that mean nothing to a reader.
    pub(crate) drop: &'static [&'static str],
    /// It may begin without a marker, because templates write that one.
    pub(crate) implicit: bool,
    /// Its markers are beyond doubt (special tokens), so they count in the middle of a line too.
    pub(crate) opens_anywhere: bool,
    /// Markers of calls that this family writes inside of reasoning too.
    pub(crate) calls: Option<(&'static str, &'static str)>,
    /// The whole output is in the harmony format.
    pub(crate) harmony: bool,
}

impl ReasoningFamily {
    /// Adds the texts that its format is marked with.
    pub(crate) fn markers(&self, markers: &mut Vec<&'static str>) {
        for list in [self.open, self.prompt_open, self.close, self.drop] {
            markers.extend(list);
        }
        markers.extend(self.calls.iter().flat_map(|(open, close)| [open, close]));
        if self.harmony {
            markers.extend(harmony::MARKS);
        }
    }
}

/// All families of calls, as `(name, other names)`.
pub fn tool_parsers() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    TOOLS.iter().filter_map(|family| family.names.split_first()).map(|(name, others)| (*name, others))
}

/// All families of reasoning, as `(name, other names)`.
pub fn reasoning_parsers() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    reasoning::ALL
        .iter()
        .filter_map(|family| family.names.split_first())
        .map(|(name, others)| (*name, others))
}

/// The family of calls of this name.
pub(crate) fn tool(name: Option<&str>) -> Result<Option<&'static ToolFamily>, ParseError> {
    find("tool-call", name, TOOLS.iter().copied(), |family| family.names)
}

/// The family of reasoning of this name.
pub(crate) fn reasoning(name: Option<&str>) -> Result<Option<&'static ReasoningFamily>, ParseError> {
    find("reasoning", name, reasoning::ALL.iter(), |family| family.names)
}

fn find<F>(
    kind: &'static str,
    name: Option<&str>,
    mut families: impl Iterator<Item = F> + Clone,
    names: impl Fn(&F) -> &'static [&'static str],
) -> Result<Option<F>, ParseError> {
    let Some(name) = name.filter(|name| *name != "none") else { return Ok(None) };
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '.', '_'], "");
    let known = families.clone();
    let found = families.find(|family| names(family).iter().any(|known| plain(known) == plain(name)));
    if found.is_none() {
        let known: Vec<&str> = known.filter_map(|family| names(&family).first().copied()).collect();
        return Err(ParseError::UnknownParser { kind, name: name.to_owned(), known: known.join(", ") });
    }
    Ok(found)
}

const TOOLS: &[&ToolFamily] = &[
    &xml_like::HERMES,
    &xml_like::QWEN3_CODER,
    &xml_like::SEED_OSS,
    &xml_like::MINIMAX_M2,
    &xml_like::DEEPSEEK_V32,
    &xml_like::MUSE,
    &xml_like::GLM,
    &xml_like::HUNYUAN_V3,
    &json_like::LLAMA3,
    &json_like::GRANITE,
    &json_like::XLAM,
    &json_like::NEMOTRON_V2,
    &json_like::MINIMAX_M1,
    &json_like::JAMBA,
    &json_like::PHI4,
    &json_like::COMMAND_R,
    &json_like::APERTUS,
    &json_like::GIGACHAT,
    &json_like::JSON,
    &json_like::PYTHONIC,
    &json_like::LLAMA4,
    &json_like::LFM2,
    &json_like::OLMO3,
    &json_like::AUTO,
    &named::MISTRAL,
    &named::DEEPSEEK,
    &named::KIMI_K2,
    &named::FUNCTIONARY,
    &named::GEMMA4,
    &named::GEMMA3,
    &named::SOLAR,
    &named::HARMONY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_in_any_writing() {
        let mut names: Vec<&str> =
            tool_parsers().flat_map(|(name, others)| [&[name], others].concat()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            assert!(tool(Some(name)).unwrap().unwrap().names.contains(&name), "{name}");
        }
        for name in
            ["qwen3.5", "QWEN3-Coder", "qwen3_xml", "glm-4.5", "glm47", "Phi-4", "gemma-3", "step-3.5"]
        {
            assert!(tool(Some(name)).unwrap().is_some(), "{name}");
        }
        assert!(reasoning(Some("gemma-4")).unwrap().is_some());
        assert!(tool(Some("none")).unwrap().is_none());
        let error = tool(Some("nope")).unwrap_err().to_string();
        assert!(error.contains("`nope`") && error.contains("hermes"), "{error}");
    }

    #[test]
    fn every_section_can_be_entered_and_left() {
        for family in TOOLS {
            assert!(family.harmony || !family.sections.is_empty(), "{}", family.names[0]);
            for section in family.sections {
                assert!(!section.open.is_empty() && !section.bodies.is_empty(), "{}", family.names[0]);
                assert!(section.open.iter().chain(section.close).all(|marker| !marker.is_empty()));
            }
        }
    }
}
