//! A subschema where it stands.

use referencing::{Draft, Resolver};
use serde_json::Value;

/// A subschema, and what its references are relative to.
#[derive(Clone)]
pub(super) struct Node<'r> {
    pub(super) value: &'r Value,
    pub(super) at: Resolver<'r>,
    pub(super) draft: Draft,
}

impl<'r> Node<'r> {
    /// The value of a keyword.
    pub(super) fn get(&self, keyword: &str) -> Option<&'r Value> {
        self.value.get(keyword)
    }

    /// The strings of a list.
    pub(super) fn strings(&self, keyword: &str) -> impl Iterator<Item = &'r str> + use<'r> {
        let list = self.get(keyword).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// A count, if there is one.
    pub(super) fn count(&self, keyword: &str) -> Option<usize> {
        whole(self.get(keyword)?).and_then(|count| usize::try_from(count).ok())
    }

    /// Names the subschema.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self.value).addr()
    }
}

/// Values in a value, long texts counting as several.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        Value::String(text) => 1 + text.len() / 32,
        _ => 1,
    }
}

/// A number without a fraction.
pub(super) fn whole(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e15).contains(n)).map(|n| n as u64))
}
