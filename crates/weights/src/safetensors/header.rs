//! Reading and checking a safetensors header.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{Dtype, Result, WeightsError};

/// Longest JSON header that is accepted, in bytes; the limit of the reference implementation.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// No real tensor has more dimensions; bounds the work a hostile header can cause.
const MAX_RANK: usize = 8;

/// Where one tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Position in the file, in bytes from its start.
    pub range: Range<usize>,
}

/// A checked header: every range lies in the file, fits its shape and dtype, and no two overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Tensors in the order of their bytes.
    pub entries: Vec<Entry>,
}

impl Header {
    /// Reads the header of a whole file's bytes; `file` is its name for error messages.
    ///
    /// # Errors
    /// The file is truncated, its header is no valid JSON or too long, an entry's offsets don't fit its shape and
    /// dtype, two entries overlap or have one name, or bytes belong to no tensor.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        let (json, data_start) = split(file, bytes)?;
        let raw: RawHeader = serde_json::from_slice(json)
            .map_err(|e| WeightsError::bad_file(file, format!("its header is not valid ({e})")))?;
        let mut entries = Vec::with_capacity(raw.0.len());
        let mut names = HashSet::with_capacity(raw.0.len());
        for (name, entry) in raw.0 {
            if !names.insert(name.clone()) {
                return Err(bad(file, &name, "it is listed twice".into()));
            }
            entries.push(check_entry(file, name, &entry, data_start)?);
        }
        entries.sort_by_key(|e| (e.range.start, e.range.end));
        check_layout(file, &entries, data_start, bytes.len())?;
        Ok(Self { entries })
    }
}

/// The JSON part, and where the data begin.
fn split<'a>(file: &str, bytes: &'a [u8]) -> Result<(&'a [u8], usize)> {
    let truncated =
        |expected: u64| WeightsError::Truncated { file: file.into(), expected, actual: bytes.len() as u64 };
    let prefix: [u8; 8] = bytes.first_chunk().copied().ok_or_else(|| truncated(8))?;
    let length = u64::from_le_bytes(prefix);
    if length > MAX_HEADER_BYTES {
        let problem = format!(
            "its header claims {length} bytes, more than {MAX_HEADER_BYTES}, so it is probably no safetensors file"
        );
        return Err(WeightsError::bad_file(file, problem));
    }
    let end = 8 + length as usize;
    let json = bytes.get(8..end).ok_or_else(|| truncated(end as u64))?;
    Ok((json, end))
}

fn check_entry(file: &str, name: String, raw: &RawEntry, data_start: usize) -> Result<Entry> {
    let Some(dtype) = Dtype::from_name(&raw.dtype) else {
        return Err(bad(file, &name, format!("dtype {:?} is unknown", clip(&raw.dtype))));
    };
    if raw.shape.len() > MAX_RANK {
        return Err(bad(file, &name, format!("it has {} dimensions, more than {MAX_RANK}", raw.shape.len())));
    }
    let needed = raw
        .shape
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim))
        .and_then(|count| dtype.bytes(count));
    let [begin, end] = raw.data_offsets;
    let stored = end.checked_sub(begin);
    if needed.is_none() || needed != stored {
        let problem = format!("offsets {begin}..{end} do not fit shape {:?} of {dtype}", raw.shape);
        return Err(bad(file, &name, problem));
    }
    let place = |offset: u64| usize::try_from(offset).ok().and_then(|o| o.checked_add(data_start));
    let dims: Option<Vec<usize>> = raw.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    match (place(begin), place(end), dims) {
        (Some(begin), Some(end), Some(shape)) => Ok(Entry { name, dtype, shape, range: begin..end }),
        _ => Err(bad(file, &name, "it is larger than this machine can address".into())),
    }
}

/// Sorted entries must cover the data exactly: no overlap, no hole, no end beyond the file's.
fn check_layout(file: &str, entries: &[Entry], data_start: usize, file_len: usize) -> Result<()> {
    let mut at = data_start;
    for entry in entries {
        if entry.range.start != at {
            let what = if entry.range.start < at { "overlaps" } else { "leaves a hole after" };
            return Err(bad(file, &entry.name, format!("its data {what} the tensor before it")));
        }
        at = entry.range.end;
    }
    if at > file_len {
        return Err(WeightsError::Truncated {
            file: file.into(),
            expected: at as u64,
            actual: file_len as u64,
        });
    }
    if at < file_len {
        let problem = format!("{} bytes at its end belong to no tensor", file_len - at);
        return Err(WeightsError::bad_file(file, problem));
    }
    Ok(())
}

fn bad(file: &str, tensor: &str, problem: String) -> WeightsError {
    WeightsError::BadTensor { file: file.into(), tensor: clip(tensor), problem }
}

/// The start of a text that came from a file, short enough for an error message.
fn clip(text: &str) -> String {
    text.chars().take(200).collect()
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// All pairs of the header object, so that a name that comes twice is seen (a map would hide it).
struct RawHeader(Vec<(String, RawEntry)>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
                let mut pairs = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        pairs.push((name, map.next_value()?));
                    }
                }
                Ok(RawHeader(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
