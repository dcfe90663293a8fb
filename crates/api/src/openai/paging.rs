//! Lists in pages, as files and batches have them.

use serde::Serialize;

use crate::{ApiError, error::shorten};

/// Which part of a list a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Most entries of the page; at least 1.
    pub limit: usize,
    /// The oldest first, else the newest.
    pub ascending: bool,
    /// The id of the entry before the page's first one.
    pub after: Option<String>,
    /// Only files of this purpose.
    pub purpose: Option<String>,
}

impl ListQuery {
    /// Reads the parameters of `GET /v1/files`.
    ///
    /// # Errors
    /// A 400 for a parameter that is unknown or out of range.
    pub fn of_files(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        Self::read(pairs, Self::of(10_000, false), 10_000, &["order", "purpose"])
    }

    /// Reads the parameters of `GET /v1/batches`.
    ///
    /// # Errors
    /// As in [`of_files`](Self::of_files).
    pub fn of_batches(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        Self::read(pairs, Self::of(20, false), 100, &[])
    }

    /// Reads the parameters of `GET /v1/chat/completions`, whose lists begin with the oldest, and of their messages.
    ///
    /// # Errors
    /// As in [`of_files`](Self::of_files).
    pub fn of_completions(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        Self::read(pairs, Self::of(20, true), 100, &["order"])
    }

    /// What a client gets that doesn't say.
    fn of(limit: usize, ascending: bool) -> Self {
        Self { limit, ascending, after: None, purpose: None }
    }

    /// `more` are the parameters besides `limit` and `after`.
    fn read(
        pairs: Vec<(String, String)>,
        mut query: Self,
        most: usize,
        more: &[&str],
    ) -> Result<Self, ApiError> {
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => match value.parse().ok().filter(|limit| (1..=most).contains(limit)) {
                    Some(limit) => query.limit = limit,
                    None => {
                        let message = format!("`limit` must be a number from 1 to {most}.");
                        return Err(ApiError::invalid("limit", message));
                    }
                },
                "after" => query.after = Some(value),
                "order" if more.contains(&"order") && (value == "asc" || value == "desc") => {
                    query.ascending = value == "asc";
                }
                "order" if more.contains(&"order") => {
                    return Err(ApiError::invalid("order", "`order` must be 'asc' or 'desc'."));
                }
                "purpose" if more.contains(&"purpose") => query.purpose = Some(value),
                _ => {
                    let name = shorten(&name, 80);
                    return Err(ApiError::invalid(&name, format!("There is no parameter `{name}`.")));
                }
            }
        }
        Ok(query)
    }
}

/// A page.
#[derive(Debug, Serialize)]
pub struct ListBody<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

impl<T> ListBody<T> {
    /// A page with these entries, of which `id` tells the ids; `has_more`: there are others behind them.
    pub fn new(data: Vec<T>, id: impl Fn(&T) -> &str, has_more: bool) -> Self {
        let name = |entry: Option<&T>| entry.map(|entry| id(entry).to_owned());
        Self { object: "list", first_id: name(data.first()), last_id: name(data.last()), data, has_more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], files: bool) -> Result<ListQuery, String> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let query = if files { ListQuery::of_files(pairs) } else { ListQuery::of_batches(pairs) };
        query.map_err(|error| error.param.unwrap_or_default())
    }

    #[test]
    fn parameters_are_read_strictly() {
        let query = read(&[("limit", "3"), ("after", "x"), ("order", "asc"), ("purpose", "batch")], true);
        let expected =
            ListQuery { limit: 3, ascending: true, after: Some("x".into()), purpose: Some("batch".into()) };
        assert_eq!(query, Ok(expected));
        assert_eq!(read(&[], false).map(|query| query.limit), Ok(20));
        for (pair, files) in [
            (("limit", "0"), true),
            (("limit", "101"), false),
            (("order", "up"), true),
            (("order", "asc"), false),
            (("purpose", "batch"), false),
            (("page", "1"), true),
        ] {
            assert_eq!(read(&[pair], files), Err(pair.0.to_owned()));
        }
    }
}
