//! The four shapes of `prompt`: a text, a list of texts, token ids, a list of token id lists.

use std::fmt;

use millrace_types::TokenId;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::{Int, Prompt};

/// One or more prompts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::openai) struct PromptBody(pub(in crate::openai) Vec<Prompt>);

impl<'de> Deserialize<'de> for PromptBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptVisitor)
    }
}

struct PromptVisitor;

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = PromptBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a list of strings, a list of token ids or a list of lists of token ids")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PromptBody, E> {
        Ok(PromptBody(vec![Prompt::Text(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PromptBody, A::Error> {
        let (mut prompts, mut ids) = (Vec::new(), Vec::new());
        while let Some(element) = seq.next_element()? {
            match element {
                Element::Prompt(prompt) => prompts.push(prompt),
                Element::Id(id) => ids.push(id),
            }
            if !prompts.is_empty() && !ids.is_empty() {
                return Err(de::Error::custom("token ids and prompts can't be mixed in one list"));
            }
        }
        if !ids.is_empty() {
            prompts.push(Prompt::Tokens(ids));
        }
        Ok(PromptBody(prompts))
    }
}

/// An element of the outer list.
enum Element {
    Prompt(Prompt),
    Id(TokenId),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a token id or a list of token ids")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
        Ok(Element::Prompt(Prompt::Text(text.to_owned())))
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Element, E> {
        token_id(Int(id)).map(Element::Id)
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Element, E> {
        self.visit_i64(i64::try_from(id).unwrap_or(i64::MAX))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = seq.next_element()? {
            ids.push(token_id(id)?);
        }
        Ok(Element::Prompt(Prompt::Tokens(ids)))
    }
}

fn token_id<E: de::Error>(id: Int) -> Result<TokenId, E> {
    TokenId::try_from(id.0).map_err(|_| E::custom(format_args!("{} is not a token id", id.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<Vec<Prompt>, serde_json::Error> {
        serde_json::from_value::<PromptBody>(value).map(|body| body.0)
    }

    #[test]
    fn the_four_shapes() {
        let text = |t: &str| Prompt::Text(t.into());
        assert_eq!(read(json!("a")).unwrap(), [text("a")]);
        assert_eq!(read(json!(["a", "b"])).unwrap(), [text("a"), text("b")]);
        assert_eq!(read(json!([1, 2])).unwrap(), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(
            read(json!([[1], [2, 3]])).unwrap(),
            [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]
        );
        assert!(read(json!([])).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_prompt() {
        for bad in [
            json!(3),
            json!({"a": 1}),
            json!([1, "a"]),
            json!(["a", 1]),
            json!([-1]),
            json!([[1.5]]),
            json!([4_294_967_296_u64]),
            json!([[[1]]]),
            json!([null]),
            json!(true),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
