//! Safetensors bytes for tests, good and bad.
#![allow(dead_code)] // each test file uses its own part

pub(crate) mod hub;

/// A safetensors file with this header and `data_len` bytes of data counting up from 0.
pub(crate) fn raw(header: &str, data_len: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..data_len).map(|i| i as u8));
    bytes
}

/// A file of one-dimensional f32 tensors.
pub(crate) fn vectors(tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let (mut at, mut entries, mut data) = (0, Vec::new(), Vec::new());
    for (name, values) in tensors {
        let end = at + values.len() * 4;
        let length = values.len();
        entries.push(format!(
            r#""{name}": {{"dtype": "F32", "shape": [{length}], "data_offsets": [{at}, {end}]}}"#
        ));
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        at = end;
    }
    let mut bytes = raw(&format!("{{{}}}", entries.join(",")), 0);
    bytes.extend(data);
    bytes
}

/// The header entry of tensor `name`.
pub(crate) fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}": {{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [{begin}, {end}]}}"#)
}
