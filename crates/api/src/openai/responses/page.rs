//! `GET /v1/responses/{id}/input_items`.

use serde::Serialize;

use super::{record::Record, types::Item};
use crate::{ApiError, error::shorten};

/// Items of a page, if the client doesn't say.
const DEFAULT_LIMIT: usize = 20;

/// Most items of a page.
const MAX_LIMIT: usize = 100;

/// Which items a client wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemsQuery {
    limit: Option<usize>,
    ascending: bool,
    after: Option<String>,
    before: Option<String>,
}

/// A page of items.
#[derive(Debug, Serialize)]
pub struct ItemsPage {
    object: &'static str,
    data: Vec<Item>,
    first_id: String,
    last_id: String,
    has_more: bool,
}

impl ItemsQuery {
    /// Reads the parameters of a URL.
    ///
    /// # Errors
    /// A 400 for a parameter that is unknown or out of range.
    pub fn read(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => match value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)) {
                    Some(limit) => query.limit = Some(limit),
                    None => {
                        let message = format!("`limit` must be a number from 1 to {MAX_LIMIT}.");
                        return Err(ApiError::invalid("limit", message));
                    }
                },
                "order" if value == "asc" || value == "desc" => query.ascending = value == "asc",
                "order" => return Err(ApiError::invalid("order", "`order` must be 'asc' or 'desc'.")),
                "after" => query.after = Some(value),
                "before" => query.before = Some(value),
                // Nothing that could be included is ever left out.
                "include" | "include[]" => {}
                _ => {
                    let name = shorten(&name, 80);
                    return Err(ApiError::invalid(&name, format!("There is no parameter `{name}`.")));
                }
            }
        }
        Ok(query)
    }
}

impl ItemsPage {
    /// The items of a stored question that the query asks for. `after` and `before` mean the order in which the items
    /// are listed.
    ///
    /// # Errors
    /// A 400 for an item that isn't in the list.
    pub fn new(record: &Record, query: &ItemsQuery) -> Result<Self, ApiError> {
        let mut items: Vec<&Item> = record.input().iter().collect();
        if !query.ascending {
            items.reverse();
        }
        let place = |id: &Option<String>, name: &str| {
            let Some(id) = id else { return Ok(None) };
            let found = items.iter().position(|item| item.id() == id);
            found.map(Some).ok_or_else(|| {
                ApiError::invalid(name, format!("There is no item with the id '{}'.", shorten(id, 80)))
            })
        };
        let start = place(&query.after, "after")?.map_or(0, |place| place + 1);
        let end = place(&query.before, "before")?.unwrap_or(items.len()).max(start);
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
        let (shown, has_more) = match &query.before {
            // Backwards from there: the nearest ones.
            Some(_) => (end.saturating_sub(limit).max(start)..end, end - start > limit),
            None => (start..end.min(start + limit), end - start > limit),
        };
        let data: Vec<Item> = items[shown].iter().map(|item| (*item).clone()).collect();
        let id = |item: Option<&Item>| item.map(|item| item.id().to_owned()).unwrap_or_default();
        Ok(Self { object: "list", first_id: id(data.first()), last_id: id(data.last()), has_more, data })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(query: &[(&str, &str)]) -> Result<(String, bool), String> {
        let item = |n: usize| json!({"type": "message", "id": n.to_string(), "status": "completed", "role": "user", "content": []});
        let items: Vec<_> = (0..5).map(item).collect();
        let record = json!({"owner": "", "previous": null, "input": items, "response": {}});
        let record: Record = serde_json::from_value(record).unwrap();
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let page = ItemsQuery::read(pairs.collect()).and_then(|query| ItemsPage::new(&record, &query));
        let page = page.map_err(|error| error.param.unwrap_or_default())?;
        let ids: String = page.data.iter().map(Item::id).collect();
        assert!(ids.starts_with(&page.first_id) && ids.ends_with(&page.last_id));
        Ok((ids, page.has_more))
    }

    #[test]
    fn pages_go_both_ways() {
        for (query, ids, more) in [
            (&[][..], "43210", false),
            (&[("order", "asc")], "01234", false),
            (&[("order", "asc"), ("limit", "2")], "01", true),
            (&[("order", "asc"), ("limit", "2"), ("after", "1")], "23", true),
            (&[("order", "asc"), ("limit", "2"), ("after", "3")], "4", false),
            (&[("limit", "3"), ("after", "4")], "321", true),
            (&[("order", "asc"), ("limit", "2"), ("before", "3")], "12", true),
            (&[("order", "asc"), ("after", "1"), ("before", "4")], "23", false),
            (&[("order", "asc"), ("after", "4")], "", false),
            (&[("order", "asc"), ("after", "4"), ("before", "0")], "", false),
        ] {
            assert_eq!(page(query), Ok((ids.to_owned(), more)), "{query:?}");
        }
        for (query, param) in [
            (("limit", "0"), "limit"),
            (("limit", "x"), "limit"),
            (("order", "up"), "order"),
            (("after", "9"), "after"),
            (("other", "1"), "other"),
        ] {
            assert_eq!(page(&[query]), Err(param.to_owned()));
        }
    }
}
