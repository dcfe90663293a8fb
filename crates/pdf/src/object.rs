//! The values that a PDF file is made of.

use std::{collections::BTreeMap, ops::Range};

/// Names and what they stand for.
pub(crate) type Dict = BTreeMap<Vec<u8>, Object>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    Null,
    Bool(bool),
    Int(i64),
    Real(f64),
    String(Vec<u8>),
    Name(Vec<u8>),
    Array(Vec<Object>),
    Dict(Dict),
    Stream(Stream),
    /// An indirect object by its number; generations are left out of account, because the last one counts.
    Ref(u32),
}

/// A dictionary with bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stream {
    pub(crate) dict: Dict,
    /// Where its bytes lie in the file, filters not yet undone.
    pub(crate) range: Range<usize>,
}

impl Object {
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            // Saturates, so what is out of range stays out of range.
            Self::Real(value) => Some(*value as i64),
            _ => None,
        }
    }

    pub(crate) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Real(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn as_name(&self) -> Option<&[u8]> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Object]> {
        match self {
            Self::Array(list) => Some(list),
            _ => None,
        }
    }

    /// A dictionary, or that of a stream.
    pub(crate) fn as_dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(dict) => Some(dict),
            Self::Stream(stream) => Some(&stream.dict),
            _ => None,
        }
    }

    pub(crate) fn is_name(&self, name: &[u8]) -> bool {
        self.as_name() == Some(name)
    }
}
