//! Changes of an input that leave it JSON. A fuzzer's own changes mostly break the syntax, and then only the syntax is
//! tested.

use std::{collections::BTreeSet, sync::OnceLock};

use serde_json::{Map, Value, json};

use crate::input::SEPARATOR;

/// Words that mean something: the names of fields and the words of enumerations.
fn words() -> &'static [String] {
    static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let page: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let mut words = BTreeSet::new();
        gather(&page, &mut words);
        words.into_iter().collect()
    })
}

fn gather(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| gather(value, words)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if let ("properties", Some(properties)) = (name.as_str(), value.as_object()) {
                    words.extend(properties.keys().cloned());
                }
                if let ("enum", Some(list)) = (name.as_str(), value.as_array()) {
                    words.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                gather(value, words);
            }
        }
        _ => {}
    }
}

/// A changed input of at most `most` bytes; `None` if it has no JSON, or became too long. The JSON stands behind a first
/// line that isn't, if there is one, and before the separator.
pub fn mutate(input: &[u8], most: usize, seed: u32) -> Option<Vec<u8>> {
    let end = input.iter().position(|byte| *byte == SEPARATOR).unwrap_or(input.len());
    let (front, answer) = input.split_at(end);
    let is_json = front.first().is_some_and(|byte| b"{[".contains(byte));
    let line = front.iter().position(|byte| *byte == b'\n').filter(|_| !is_json).map_or(0, |at| at + 1);
    let (head, body) = front.split_at(line);
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let mut random = Random(u64::from(seed));
    for _ in 0..=random.below(3) {
        let count = count(&value);
        let source = pick(&value, &mut random.below(count)).cloned().unwrap_or_default();
        change(&mut value, &mut random.below(count), &source, &mut random);
    }
    let changed = [head, value.to_string().as_bytes(), answer].concat();
    (changed.len() <= most).then_some(changed)
}

/// Values in a value, itself included.
fn count(value: &Value) -> usize {
    1 + children(value).map(count).sum::<usize>()
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The `place`-th value, counted from the root.
fn pick<'a>(value: &'a Value, place: &mut usize) -> Option<&'a Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    children(value).find_map(|child| pick(child, place))
}

/// Changes the `place`-th value; true once it is done.
fn change(value: &mut Value, place: &mut usize, source: &Value, random: &mut Random) -> bool {
    if *place == 0 {
        match random.below(4) {
            0 => *value = source.clone(),
            1 => *value = leaf(random),
            2 => scale(value, random),
            _ => rearrange(value, source, random),
        }
        return true;
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|child| change(child, place, source, random)),
        Value::Object(fields) => fields.values_mut().any(|child| change(child, place, source, random)),
        _ => false,
    }
}

/// A value without children, with the ones that programs stumble over.
fn leaf(random: &mut Random) -> Value {
    let word = |random: &mut Random| words()[random.below(words().len())].clone();
    match random.below(16) {
        0 => Value::Null,
        1 => true.into(),
        2 => false.into(),
        3 => json!([]),
        4 => json!({}),
        5 => json!(-1),
        6 => json!(u64::MAX),
        7 => json!(1e300),
        8 => json!(0.5),
        9 => json!(""),
        10 => json!("e\u{301}\u{1f980}\u{0}"),
        11 => json!(random.below(300)),
        _ => word(random).into(),
    }
}

/// More or less of what is there.
fn scale(value: &mut Value, random: &mut Random) {
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let scaled = [number + 1.0, number - 1.0, -number, number * 2.0, number / 3.0][random.below(5)];
            *value = json!(scaled);
        }
        Value::String(text) if !text.is_empty() => {
            let from = random.below(text.chars().count());
            *text = match random.below(3) {
                0 => text.repeat(2 + random.below(8)),
                1 => text.chars().skip(from).collect(),
                _ => text.chars().take(from).collect(),
            };
        }
        Value::Array(list) if !list.is_empty() => {
            let item = list[random.below(list.len())].clone();
            list.extend(std::iter::repeat_n(item, 1 + random.below(9)));
        }
        other => *other = leaf(random),
    }
}

/// Children come, go and change their names.
fn rearrange(value: &mut Value, source: &Value, random: &mut Random) {
    match value {
        Value::Array(list) => match random.below(3) {
            0 => list.insert(random.below(list.len() + 1), source.clone()),
            1 if !list.is_empty() => drop(list.remove(random.below(list.len()))),
            _ => list.reverse(),
        },
        Value::Object(fields) => {
            let name = words()[random.below(words().len())].clone();
            match random.below(3) {
                0 => drop(fields.insert(name, source.clone())),
                1 => drop(fields.insert(name, leaf(random))),
                _ => drop_or_rename(fields, name, random),
            }
        }
        other => *other = json!([other.take()]),
    }
}

fn drop_or_rename(fields: &mut Map<String, Value>, name: String, random: &mut Random) {
    let Some(old) = fields.keys().nth(random.below(fields.len().max(1))).cloned() else { return };
    let value = fields.shift_remove(&old).unwrap_or_default();
    if random.below(2) == 0 {
        fields.insert(name, value);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// A number below `bound`, which isn't 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_leave_json_between_path_and_answer() {
        let input = b"/v1/x\n{\"a\": [1, \"b\", {\"c\": null}]}\x1eanswer";
        let mut different = 0;
        for seed in 0..500 {
            let changed = mutate(input, 1 << 16, seed).unwrap();
            let body = changed.strip_prefix(b"/v1/x\n").unwrap().strip_suffix(b"\x1eanswer").unwrap();
            let value: Value = serde_json::from_slice(body).unwrap();
            different += usize::from(value != json!({"a": [1, "b", {"c": null}]}));
        }
        assert!(different > 400, "{different}");
    }

    #[test]
    fn what_is_no_json_or_too_long_is_left_to_the_fuzzer() {
        assert_eq!(mutate(b"/v1/x\n{\"a\":", 100, 1), None);
        assert_eq!(mutate(b"{\"aaaaaaaaaaaaaaaaaaaaaa\": 1}", 1, 1), None);
    }
}
