//! Names of the fields that a type reads, as its `Deserialize` tells them. The documentation is held against them.

use serde::{
    Deserializer,
    de::{DeserializeOwned, Visitor, value::Error},
    forward_to_deserialize_any,
};

/// The fields of a struct with a derived `Deserialize`; none for other types.
pub(crate) fn field_names<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names = Vec::new();
    // It never gets a value: the names are all that is wanted.
    let _ = T::deserialize(Listener(&mut names));
    names
}

/// Hears which struct is asked for, and gives nothing.
struct Listener<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(nothing())
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(nothing())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn nothing() -> Error {
    serde::de::Error::custom("there is no value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_wire() {
        #[derive(serde::Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        #[allow(dead_code, reason = "only the names matter")]
        struct Body {
            plain: Option<u8>,
            #[serde(rename = "type")]
            kind: String,
        }
        assert_eq!(field_names::<Body>(), ["plain", "type"]);
        assert!(field_names::<u8>().is_empty());
    }
}
