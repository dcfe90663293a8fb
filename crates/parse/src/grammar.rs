//! The language that families are described in.

use crate::families::{ReasoningFamily, ToolFamily};

/// Where calls stand: between markers, or on their own.
#[derive(Debug)]
pub(crate) struct Section {
    /// Markers that open it. With [`Section::bare`], text that calls begin with.
    pub(crate) open: &'static [&'static str],
    /// What may stand inside, told apart by how it begins.
    pub(crate) bodies: &'static [Body],
    /// Markers that close it. May be missing in the output.
    pub(crate) close: &'static [&'static str],
    /// The opening text is part of the call and no marker: only what is a call beyond doubt counts, and nothing that
    /// the end of the output cuts off is dropped.
    pub(crate) bare: bool,
}

impl Section {
    /// Adds the texts that it is marked with.
    pub(crate) fn markers(&self, markers: &mut Vec<&'static str>) {
        markers.extend(self.open);
        markers.extend(self.close);
        for body in self.bodies {
            if let Body::Named(form) = body {
                form.markers(markers);
            }
        }
    }
}

/// A form of calls.
#[derive(Debug)]
pub(crate) enum Body {
    /// JSON objects with name and arguments, alone, in a list, or one after the other.
    Json,
    /// JSON objects whose only key is the name: `{"f": {"a": 1}}`.
    Keyed,
    /// Python calls, `f(a=1)`, alone or in a list.
    Python,
    /// The name, then the arguments.
    Named(Named),
}

/// A call whose name stands outside of its arguments.
#[derive(Debug)]
pub(crate) struct Named {
    /// Marker before it; empty if it begins with the name.
    pub(crate) open: &'static str,
    /// How the name is written.
    pub(crate) name: Name,
    /// How the arguments are written.
    pub(crate) arguments: Arguments,
    /// Markers that end it.
    pub(crate) end: &'static [&'static str],
}

impl Named {
    fn markers(&self, markers: &mut Vec<&'static str>) {
        markers.push(self.open);
        markers.extend(self.end);
        match &self.name {
            Name::Until(texts) | Name::Numbered(texts) => markers.extend(*texts),
            Name::After(first, then) => markers.extend(first.iter().chain(*then)),
            Name::Attribute => {}
        }
        match &self.arguments {
            Arguments::Tags(tags) => {
                markers.extend([tags.key, tags.key_end, tags.value, tags.value_end]);
            }
            Arguments::Literal(quotes) => markers.extend(*quotes),
            Arguments::Json => {}
        }
    }
}

/// How a name is written.
#[derive(Debug)]
pub(crate) enum Name {
    /// Up to one of these, or to the beginning or the end of the arguments.
    Until(&'static [&'static str]),
    /// `=f>` or ` name="f">`.
    Attribute,
    /// Like `Until`, but something else comes first that ends with the first of these: a type or an id.
    After(&'static [&'static str], &'static [&'static str]),
    /// `functions.f:0`, up to one of these, and all of it is the id.
    Numbered(&'static [&'static str]),
}

/// How arguments are written.
#[derive(Debug)]
pub(crate) enum Arguments {
    /// A JSON object, perhaps in a code fence.
    Json,
    /// A parameter at a time; or a JSON object.
    Tags(Tags),
    /// `{a:1}` or `(a=1)` with these quotes around strings, besides the common ones.
    Literal(&'static [&'static str]),
}

/// A parameter between markers.
#[derive(Debug)]
pub(crate) struct Tags {
    /// Before the key.
    pub(crate) key: &'static str,
    /// After the key; empty for an XML-like head: `=k>` or ` name="k">`.
    pub(crate) key_end: &'static str,
    /// Before the value, if there is anything.
    pub(crate) value: &'static str,
    /// After the value.
    pub(crate) value_end: &'static str,
    /// A line break at either end of a value isn't part of it.
    pub(crate) trims_line: bool,
}

/// What a marker in the text means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// Calls.
    Section(&'static Section),
    /// Reasoning begins.
    Open,
    /// Reasoning ends.
    Close,
    /// Shown as something else, mostly as nothing.
    Replace(&'static str),
    /// Calls that no parser looks for: they go to the text with their markers, up to this one.
    Pass(&'static str),
}

/// The markers to look for.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The markers; a parallel list to `actions`.
    pub(crate) markers: Vec<&'static str>,
    actions: Vec<Action>,
    first: String,
}

impl Table {
    fn add(&mut self, markers: &[&'static str], action: Action) {
        for marker in markers {
            // The first one to claim a marker has it.
            if !self.markers.contains(marker) {
                self.markers.push(marker);
                self.actions.push(action);
                self.first.extend(marker.chars().next().filter(|c| !self.first.contains(*c)));
            }
        }
    }

    /// What a marker means.
    pub(crate) fn action(&self, marker: &str) -> Option<Action> {
        self.markers.iter().zip(&self.actions).find(|(known, _)| **known == marker).map(|(_, action)| *action)
    }

    /// How many bytes of the text surely hold no marker's beginning.
    pub(crate) fn plain(&self, text: &str) -> usize {
        text.find(|c| self.first.contains(c)).unwrap_or(text.len())
    }
}

/// What to look for in an output.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) text: Table,
    pub(crate) reasoning: Table,
    /// Reasoning may begin in the middle of a line, and its markers are never text.
    pub(crate) opens_anywhere: bool,
}

impl Plan {
    pub(crate) fn new(tool: Option<&ToolFamily>, reasoning: Option<&ReasoningFamily>) -> Self {
        let mut plan = Self {
            text: Table::default(),
            reasoning: Table::default(),
            opens_anywhere: reasoning.is_some_and(|family| family.opens_anywhere),
        };
        if let Some(family) = reasoning {
            plan.add_reasoning(family, tool.is_none());
        }
        for section in tool.into_iter().flat_map(|family| family.sections) {
            plan.text.add(section.open, Action::Section(section));
            if !section.bare {
                plan.reasoning.add(section.open, Action::Section(section));
            }
        }
        for (marker, shown) in tool.into_iter().flat_map(|family| family.replace) {
            plan.text.add(&[marker], Action::Replace(shown));
        }
        plan
    }

    fn add_reasoning(&mut self, family: &ReasoningFamily, no_tools: bool) {
        for table in [&mut self.text, &mut self.reasoning] {
            table.add(family.open, Action::Open);
            table.add(family.close, Action::Close);
            table.add(family.drop, Action::Replace(""));
        }
        if no_tools && let Some((open, close)) = family.calls {
            self.reasoning.add(&[open], Action::Pass(close));
        }
    }
}
