//! `contains` and `uniqueItems` as alternatives of what stands where in a list.

use serde_json::{Value, json};

use super::{
    apart,
    node::{Node, size},
    reduce::Reducer,
    terms::{any, other_than},
};
use crate::GrammarError;

/// Where in a list an item that must be there is looked for.
const PLACES: usize = 8;

/// The same if several are counted: their places are combined.
const PLACES_OF_MANY: usize = 6;

/// Where in a list an item that must fail may stand.
const PLACES_OF_FAILURE: usize = 4;

/// Lists of different values that are written out.
const MAX_LISTS: usize = 512;

/// Size of the values that these lists are made of.
const MAX_WEIGHT: usize = 2000;

/// `contains` with its counts: which places hold such an item.
pub(super) fn contains<'r>(
    reducer: &mut Reducer<'r>,
    node: &Node<'r>,
) -> Result<Option<Value>, GrammarError> {
    let Some(value) = node.get("contains") else { return Ok(None) };
    let (least, most) = (node.count("minContains").unwrap_or(1), node.count("maxContains"));
    if least == 0 && most.is_none() {
        return Ok(None);
    }
    let inner = reducer.below(node, value)?;
    let wanted = reducer.hold(&inner)?;
    let other = match most {
        Some(_) => any(reducer.deny(&inner)?),
        None => Value::Bool(true),
    };
    // Without a limit, those behind the last counted one may be such items too.
    let mut ways = counted(reducer, &wanted, &other, least, most.unwrap_or(least))?;
    ways.push(other_than(&["array"]));
    Ok(Some(any(ways)))
}

/// Lists with fewer or more such items than they should have.
pub(super) fn deny_contains<'r>(
    reducer: &mut Reducer<'r>,
    node: &Node<'r>,
) -> Result<Vec<Value>, GrammarError> {
    let Some(value) = node.get("contains") else { return Ok(Vec::new()) };
    let (least, most) = (node.count("minContains").unwrap_or(1), node.count("maxContains"));
    let inner = reducer.below(node, value)?;
    let wanted = reducer.hold(&inner)?;
    let mut ways = Vec::new();
    if let Some(most_of_few) = least.checked_sub(1) {
        let other = any(reducer.deny(&inner)?);
        ways.extend(counted(reducer, &wanted, &other, 0, most_of_few)?);
    }
    if let Some(most) = most {
        ways.extend(counted(reducer, &wanted, &Value::Bool(true), most + 1, most + 1)?);
    }
    Ok(ways)
}

/// Lists with `least` to `most` items like `wanted`, among `other` ones.
fn counted(
    reducer: &mut Reducer<'_>,
    wanted: &Value,
    other: &Value,
    least: usize,
    most: usize,
) -> Result<Vec<Value>, GrammarError> {
    let places = if most <= 1 { PLACES } else { PLACES_OF_MANY };
    if least > places {
        return Err(reducer.fail(format!("`contains` with a count of more than {places} is not supported")));
    }
    let mut ways = Vec::new();
    for chosen in 0..1usize << places {
        let count = chosen.count_ones() as usize;
        if !(least..=most).contains(&count) {
            continue;
        }
        let length = (usize::BITS - chosen.leading_zeros()) as usize;
        let prefix: Vec<&Value> =
            (0..length).map(|place| if chosen >> place & 1 == 1 { wanted } else { other }).collect();
        let unsatisfied = prefix.contains(&&Value::Bool(false));
        if !unsatisfied {
            reducer.spend(prefix.iter().copied().chain([other]).map(size).sum())?;
            ways.push(json!({"type": "array", "prefixItems": prefix, "items": other, "minItems": length}));
        }
    }
    Ok(ways)
}

/// `uniqueItems`, of lists whose items have few values: these lists are written out. If they are too many, only those that
/// have the values in the order in which the schema names them.
pub(super) fn unique<'r>(reducer: &mut Reducer<'r>, node: &Node<'r>) -> Result<Option<Value>, GrammarError> {
    let most = node.count("maxItems").unwrap_or(usize::MAX);
    if most <= 1 {
        return Ok(None);
    }
    let prefix = match node.get("prefixItems").or(node.get("items").filter(|items| items.is_array())) {
        Some(Value::Array(list)) => list.as_slice(),
        _ => &[],
    };
    let rest =
        ["additionalItems", "items"].iter().filter_map(|key| node.get(key)).find(|rest| !rest.is_array());
    let mut places = Vec::new();
    for value in prefix {
        places.push(apart::values(reducer, &reducer.below(node, value)?)?);
    }
    let rest = match rest {
        Some(rest) => apart::values(reducer, &reducer.below(node, rest)?)?,
        None => None,
    };
    let lists = Lists { places, rest, least: node.count("minItems").unwrap_or(0), most };
    let found = if lists.weight() > MAX_WEIGHT { None } else { lists.all().or_else(|| lists.ordered()) };
    let Some(found) = found else {
        return Err(reducer.fail(format!(
            "`uniqueItems` is only supported for lists of at most one item, or whose items have few values (`enum`), \
             so that there are at most {MAX_LISTS} such lists in the order of these values"
        )));
    };
    reducer.spend(found.iter().map(size).sum())?;
    Ok(Some(any(vec![other_than(&["array"]), json!({"enum": found})])))
}

/// All lists without an item twice.
struct Lists {
    /// What may stand in the first places; `None` is anything.
    places: Vec<Option<Vec<Value>>>,
    rest: Option<Vec<Value>>,
    least: usize,
    most: usize,
}

impl Lists {
    /// The size of all values, each of which may be in many lists.
    fn weight(&self) -> usize {
        self.places.iter().chain([&self.rest]).flatten().flatten().map(size).sum()
    }

    /// All of them; `None` if they are too many.
    fn all(&self) -> Option<Vec<Value>> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found).then_some(found)
    }

    /// Adds `list` and its continuations; false if there are too many.
    fn collect(&self, list: &mut Vec<Value>, found: &mut Vec<Value>) -> bool {
        if list.len() >= self.least {
            if found.len() == MAX_LISTS {
                return false;
            }
            found.push(Value::Array(list.clone()));
        }
        if list.len() == self.most {
            return true;
        }
        let Some(values) = self.places.get(list.len()).unwrap_or(&self.rest) else { return false };
        for value in values {
            if list.iter().any(|other| apart::equal(other, value)) {
                continue;
            }
            list.push(value.clone());
            let goes_on = self.collect(list, found);
            list.pop();
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// Those with their values in order, if all places have the same; `None` if they are too many.
    fn ordered(&self) -> Option<Vec<Value>> {
        let values = self.rest.as_ref().filter(|_| self.places.is_empty())?;
        let mut lists: Vec<Vec<Value>> = vec![Vec::new()];
        for (index, value) in values.iter().enumerate() {
            if values[..index].iter().any(|other| apart::equal(other, value)) {
                continue;
            }
            let shorter = lists.iter().filter(|list| list.len() < self.most);
            let longer: Vec<_> =
                shorter.map(|list| [list.as_slice(), std::slice::from_ref(value)].concat()).collect();
            lists.extend(longer);
            if lists.len() > MAX_LISTS {
                return None;
            }
        }
        Some(lists.into_iter().filter(|list| list.len() >= self.least).map(Value::Array).collect())
    }
}

/// Lists with an item that doesn't fit.
pub(super) fn deny_items<'r>(
    reducer: &mut Reducer<'r>,
    node: &Node<'r>,
    keyword: &str,
) -> Result<Vec<Value>, GrammarError> {
    let (first, inner) = match node.get(keyword) {
        Some(Value::Array(_)) => (0, reducer.list(node, keyword)?),
        Some(one) => {
            let before = node.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            (before, vec![reducer.below(node, one)?; PLACES_OF_FAILURE])
        }
        None => return Ok(Vec::new()),
    };
    let mut ways = Vec::new();
    for (place, inner) in inner.iter().enumerate().map(|(index, inner)| (first + index, inner)) {
        let denied = any(reducer.deny(inner)?);
        if denied != Value::Bool(false) {
            reducer.spend(place)?;
            let mut prefix = vec![json!(true); place];
            prefix.push(denied);
            ways.push(json!({"type": "array", "prefixItems": prefix, "minItems": place + 1}));
        }
    }
    Ok(ways)
}
