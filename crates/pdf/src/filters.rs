//! Undoes the filters of a stream.

use miniz_oxide::{
    DataFormat, MZFlush, MZStatus,
    inflate::stream::{InflateState, inflate},
};

use crate::{
    PdfError,
    budget::Budget,
    lexer::is_space,
    object::{Dict, Object},
};

/// Bytes that are unpacked at a time.
const PIECE: usize = 32 << 10;

/// Most filters of one stream.
const MAX_FILTERS: usize = 8;

/// The stream's content; `None` if a filter isn't known, as those of pictures.
///
/// # Errors
/// If it is more than the budget allows. Content that breaks off is returned as far as it goes.
pub(crate) fn decode(dict: &Dict, raw: &[u8], budget: &Budget) -> Result<Option<Vec<u8>>, PdfError> {
    let filters = list(dict.get(&b"Filter"[..]).or_else(|| dict.get(&b"F"[..])));
    let settings = list(dict.get(&b"DecodeParms"[..]).or_else(|| dict.get(&b"DP"[..])));
    if filters.len() > MAX_FILTERS {
        return Err(PdfError::TooMuchData);
    }
    let mut content = None;
    for (index, filter) in filters.iter().enumerate() {
        let from = content.as_deref().unwrap_or(raw);
        let settings = settings.get(index).and_then(Object::as_dict);
        let Some(decoded) = undo(filter, from, settings, budget)? else { return Ok(None) };
        budget.unpack(decoded.len())?;
        content = Some(decoded);
    }
    if content.is_none() {
        budget.unpack(raw.len())?;
    }
    Ok(Some(content.unwrap_or_else(|| raw.to_vec())))
}

/// One object or a list of them.
fn list(object: Option<&Object>) -> &[Object] {
    match object {
        None | Some(Object::Null) => &[],
        Some(Object::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
    }
}

fn undo(
    filter: &Object,
    from: &[u8],
    settings: Option<&Dict>,
    budget: &Budget,
) -> Result<Option<Vec<u8>>, PdfError> {
    let most = budget.room();
    let decoded = match filter.as_name().unwrap_or_default() {
        b"FlateDecode" | b"Fl" => flate(from, most)?,
        b"LZWDecode" | b"LZW" => lzw(from, setting(settings, b"EarlyChange").unwrap_or(1) != 0, most)?,
        b"ASCII85Decode" | b"A85" => return ascii85(from, most).map(Some),
        b"ASCIIHexDecode" | b"AHx" => return Ok(Some(ascii_hex(from))),
        b"RunLengthDecode" | b"RL" => return run_length(from, most).map(Some),
        _ => return Ok(None),
    };
    Ok(Some(without_predictor(decoded, settings)))
}

fn setting(settings: Option<&Dict>, name: &[u8]) -> Option<i64> {
    settings?.get(name)?.as_int()
}

fn flate(from: &[u8], most: usize) -> Result<Vec<u8>, PdfError> {
    let content = unpack(from, DataFormat::Zlib, most)?;
    // Some writers get the two bytes of the header wrong.
    match from.get(2..) {
        Some(bare) if content.is_empty() => unpack(bare, DataFormat::Raw, most),
        _ => Ok(content),
    }
}

/// As far as the bytes make sense.
fn unpack(from: &[u8], format: DataFormat, most: usize) -> Result<Vec<u8>, PdfError> {
    let (mut state, mut piece) = (InflateState::new_boxed(format), vec![0; PIECE]);
    let (mut rest, mut out) = (from, Vec::new());
    loop {
        let step = inflate(&mut state, rest, &mut piece, MZFlush::None);
        out.extend_from_slice(&piece[..step.bytes_written]);
        if out.len() > most {
            return Err(PdfError::TooMuchData);
        }
        rest = &rest[step.bytes_consumed..];
        if step.status != Ok(MZStatus::Ok) || step.bytes_written + step.bytes_consumed == 0 {
            return Ok(out);
        }
    }
}

/// Codes of 9 to 12 bits. A code's string is a piece of what came out before it, so the table holds places.
fn lzw(from: &[u8], early: bool, most: usize) -> Result<Vec<u8>, PdfError> {
    const CLEAR: u32 = 256;
    const END: u32 = 257;
    const CODES: usize = 4096;
    let mut out: Vec<u8> = Vec::new();
    // Places of the codes from 258 on: start and length.
    let mut table: Vec<(usize, usize)> = Vec::new();
    let mut last: Option<(usize, usize)> = None;
    let (mut held, mut bits) = (0_u32, 0);
    let mut input = from.iter();
    loop {
        let next = table.len() + 258 + usize::from(early);
        let width = (usize::BITS - next.leading_zeros()).clamp(9, 12);
        while bits < width {
            let Some(byte) = input.next() else { return Ok(out) };
            held = (held << 8) | u32::from(*byte);
            bits += 8;
        }
        bits -= width;
        let code = (held >> bits) & ((1 << width) - 1);
        held &= (1 << bits) - 1;
        if code == CLEAR {
            table.clear();
            last = None;
            continue;
        }
        if code == END {
            return Ok(out);
        }
        let start = out.len();
        // What the last code stood for and the first byte of this one are a new string.
        if let Some((from, length)) = last
            && table.len() + 258 < CODES
        {
            table.push((from, length + 1));
        }
        if let Ok(byte) = u8::try_from(code) {
            out.push(byte);
        } else {
            let place = usize::try_from(code).ok().and_then(|code| table.get(code - 258));
            let Some(&(from, length)) = place else { return Ok(out) };
            if out.len().saturating_add(length) > most {
                return Err(PdfError::TooMuchData);
            }
            // The newest string may end with its own first byte.
            for at in from..from + length {
                let Some(&byte) = out.get(at) else { return Ok(out) };
                out.push(byte);
            }
        }
        last = Some((start, out.len() - start));
    }
}

fn ascii85(from: &[u8], most: usize) -> Result<Vec<u8>, PdfError> {
    let mut out = Vec::new();
    let (mut group, mut count) = (0_u64, 0);
    for &byte in from.iter().filter(|byte| !is_space(**byte)) {
        match byte {
            b'z' if count == 0 => out.extend([0; 4]),
            b'!'..=b'u' => {
                group = group * 85 + u64::from(byte - b'!');
                count += 1;
                if count == 5 {
                    out.extend(low_bytes(group));
                    (group, count) = (0, 0);
                }
            }
            _ => break,
        }
        if out.len() > most {
            return Err(PdfError::TooMuchData);
        }
    }
    if count > 1 {
        let padded = (count..5).fold(group, |group, _| group * 85 + 84);
        out.extend(low_bytes(padded).into_iter().take(count - 1));
    }
    Ok(out)
}

/// The last four of eight bytes; a group that is too large wraps around.
fn low_bytes(group: u64) -> [u8; 4] {
    let [_, _, _, _, low @ ..] = group.to_be_bytes();
    low
}

fn ascii_hex(from: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = from
        .iter()
        .take_while(|byte| **byte != b'>')
        .filter_map(|byte| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair.get(1).copied().unwrap_or(0)).collect()
}

fn run_length(from: &[u8], most: usize) -> Result<Vec<u8>, PdfError> {
    let mut out = Vec::new();
    let mut rest = from;
    while let [length, tail @ ..] = rest {
        match *length {
            128 => break,
            length @ 0..=127 => {
                let count = (usize::from(length) + 1).min(tail.len());
                out.extend_from_slice(&tail[..count]);
                rest = &tail[count..];
            }
            length => {
                let Some((byte, tail)) = tail.split_first() else { break };
                out.resize(out.len() + 257 - usize::from(length), *byte);
                rest = tail;
            }
        }
        if out.len() > most {
            return Err(PdfError::TooMuchData);
        }
    }
    Ok(out)
}

/// Predictors turn a row into differences; this turns it back. Pictures alone use TIFF's.
fn without_predictor(content: Vec<u8>, settings: Option<&Dict>) -> Vec<u8> {
    let known = |name: &[u8], default: usize| {
        setting(settings, name)
            .map_or(Some(default), |value| usize::try_from(value).ok())
            .filter(|v| *v <= 1 << 16)
    };
    if setting(settings, b"Predictor").unwrap_or(1) < 10 {
        return content;
    }
    let (Some(colors), Some(bits), Some(columns)) =
        (known(b"Colors", 1), known(b"BitsPerComponent", 8), known(b"Columns", 1))
    else {
        return content;
    };
    // At most 2^48: no product overflows.
    let pixel = (colors * bits).div_ceil(8).max(1);
    let row = (colors * bits * columns).div_ceil(8).max(1);
    let mut above: Vec<u8> = Vec::new();
    let mut out = Vec::with_capacity(content.len());
    for line in content.chunks(row.saturating_add(1)) {
        let Some((kind, line)) = line.split_first() else { break };
        let start = out.len();
        for (x, &byte) in line.iter().enumerate() {
            let left = if x >= pixel { out[start + x - pixel] } else { 0 };
            let up = above.get(x).copied().unwrap_or(0);
            let corner = if x >= pixel { above.get(x - pixel).copied().unwrap_or(0) } else { 0 };
            let guess = match kind {
                1 => left,
                2 => up,
                3 => u8::midpoint(left, up),
                4 => paeth(left, up, corner),
                _ => 0,
            };
            out.push(byte.wrapping_add(guess));
        }
        above.clear();
        above.extend_from_slice(&out[start..]);
    }
    out
}

/// PNG's predictor: whichever neighbour is nearest to left + up − corner.
fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, up, corner].map(i16::from);
    let guess = a + b - c;
    let [to_a, to_b, to_c] = [a, b, c].map(|value| (guess - value).abs());
    if to_a <= to_b && to_a <= to_c {
        left
    } else if to_b <= to_c {
        up
    } else {
        corner
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec_zlib;

    use super::*;
    use crate::Limits;

    fn run(filters: &[&str], raw: &[u8]) -> Result<Option<Vec<u8>>, PdfError> {
        let names = filters.iter().map(|name| Object::Name(name.as_bytes().to_vec())).collect();
        let dict = Dict::from([(b"Filter".to_vec(), Object::Array(names))]);
        decode(&dict, raw, &Budget::new(&Limits::default(), raw.len()))
    }

    #[test]
    fn each_filter_is_undone() {
        let text = b"to be or not to be".to_vec();
        let packed = compress_to_vec_zlib(&text, 6);
        assert_eq!(run(&["FlateDecode"], &packed), Ok(Some(text.clone())));
        assert_eq!(run(&["AHx", "Fl"], hex(&packed).as_bytes()), Ok(Some(text)));
        assert_eq!(run(&["ASCII85Decode"], b"87cUR D]j7B~>"), Ok(Some(b"Hello wor"[..8].to_vec())));
        assert_eq!(
            run(&["RunLengthDecode"], &[2, b'a', b'b', b'c', 254, b'x', 128]),
            Ok(Some(b"abcxxx".to_vec()))
        );
        // The example of the standard, 7.4.4.2.
        let codes = [0x80, 0x0b, 0x60, 0x50, 0x22, 0x0c, 0x0c, 0x85, 0x01];
        assert_eq!(run(&["LZWDecode"], &codes), Ok(Some(vec![45, 45, 45, 45, 45, 65, 45, 45, 45, 66])));
        assert_eq!(run(&["DCTDecode"], b"x"), Ok(None));
    }

    #[test]
    fn bombs_are_refused_and_broken_streams_read_as_far_as_they_go() {
        let bomb = compress_to_vec_zlib(&vec![0; 64 << 20], 6);
        assert_eq!(run(&["FlateDecode"], &bomb), Err(PdfError::TooMuchData));
        let twice = compress_to_vec_zlib(&bomb, 6);
        assert_eq!(run(&["FlateDecode", "FlateDecode"], &twice), Err(PdfError::TooMuchData));
        let text: Vec<u8> = (0..5000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = compress_to_vec_zlib(&text, 6);
        let half = run(&["FlateDecode"], &packed[..packed.len() / 2]).unwrap().unwrap();
        assert!(!half.is_empty() && text.starts_with(&half));
    }

    #[test]
    fn rows_of_differences_are_summed_up() {
        let settings = |columns: i64| {
            Dict::from([
                (b"Predictor".to_vec(), Object::Int(12)),
                (b"Columns".to_vec(), Object::Int(columns)),
            ])
        };
        let rows = vec![2, 1, 2, 3, 2, 1, 1, 1, 1, 5, 1, 1];
        assert_eq!(without_predictor(rows, Some(&settings(3))), [1, 2, 3, 2, 3, 4, 5, 6, 7]);
        assert_eq!(without_predictor(vec![2, 1], Some(&settings(-1))), [2, 1]);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + ">"
    }
}
