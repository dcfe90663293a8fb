//! Ids of answers and items. An item's id holds that of its answer, so that a reference to an item says where it is
//! stored.

/// Digits that make an answer unique: a UUID without its dashes.
const DIGITS: usize = 32;

/// The ids of one answer.
#[derive(Debug, Clone)]
pub struct ResponseId(String);

impl ResponseId {
    /// `unique`: 32 hexadecimal digits.
    pub fn new(unique: impl Into<String>) -> Self {
        Self(unique.into())
    }

    /// The answer's id.
    pub fn name(&self) -> String {
        format!("resp_{}", self.0)
    }

    /// Item `index` of the output; `kind` is `msg`, `rs` or `fc`.
    pub(super) fn output(&self, kind: &str, index: usize) -> String {
        format!("{kind}_{}{index:x}", self.0)
    }

    /// Item `index` of the input.
    pub(super) fn input(&self, kind: &str, index: usize) -> String {
        format!("{kind}_{}i{index:x}", self.0)
    }
}

/// The answer that an item of this id belongs to; `None` if this server never gave out such an id.
pub(super) fn response_of(item: &str) -> Option<String> {
    let (_, rest) = item.split_once('_')?;
    let (digits, index) = rest.split_at_checked(DIGITS)?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let index = index.strip_prefix('i').unwrap_or(index);
    (plain(digits) && plain(index) && !index.is_empty()).then(|| format!("resp_{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_leads_to_its_answer() {
        let id = ResponseId::new("0123456789abcdef0123456789abcdef");
        for item in [id.output("msg", 0), id.output("rs", 300), id.input("fco", 17)] {
            assert_eq!(response_of(&item), Some(id.name()), "{item}");
        }
        for other in ["", "msg_", "msg_12", &id.name(), "msg_é", &format!("{}x", id.output("msg", 0))] {
            assert_eq!(response_of(other), None, "{other}");
        }
    }
}
