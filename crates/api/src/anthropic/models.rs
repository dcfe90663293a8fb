//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde::Serialize;

use crate::{ApiError, openai::models::ModelCard};

/// Models of a page, if `limit` doesn't say.
const DEFAULT_LIMIT: usize = 20;

/// Most models of a page.
const MAX_LIMIT: usize = 1000;

/// One served name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// `model`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The name that requests use.
    pub id: String,
    /// The same.
    pub display_name: String,
    /// Since when it is offered (RFC 3339, UTC).
    pub created_at: String,
    /// `active`.
    pub lifecycle: &'static str,
    /// Prompt and output together, in tokens; null as long as it isn't known.
    pub max_input_tokens: Option<usize>,
    /// Output alone: the same, because nothing else bounds it.
    pub max_tokens: Option<usize>,
}

impl From<ModelCard> for ModelInfo {
    fn from(card: ModelCard) -> Self {
        Self {
            kind: "model",
            display_name: card.id.clone(),
            id: card.id,
            created_at: rfc3339(card.created),
            lifecycle: "active",
            max_input_tokens: card.max_model_len,
            max_tokens: card.max_model_len,
        }
    }
}

/// A page of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelPage {
    /// One per served name.
    pub data: Vec<ModelInfo>,
    /// Whether more follow, in the direction that was asked for.
    pub has_more: bool,
    /// The first one's id.
    pub first_id: Option<String>,
    /// The last one's id.
    pub last_id: Option<String>,
}

/// Which models to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// Those behind this one.
    pub after_id: Option<String>,
    /// The last ones before this one.
    pub before_id: Option<String>,
    /// From 1 to 1000; 20 if not said.
    pub limit: Option<String>,
}

impl ModelPage {
    /// A page of `cards`.
    ///
    /// # Errors
    /// A 400 if the limit is out of range or an id isn't one of the models'.
    pub fn new(cards: Vec<ModelCard>, query: &PageQuery) -> Result<Self, ApiError> {
        let limit = query.limit()?;
        let place = |id: &Option<String>, name: &str| {
            let place = |id: &String| {
                let place = cards.iter().position(|card| card.id == *id);
                place.ok_or_else(|| ApiError::invalid(name, format!("{name}: There is no such model.")))
            };
            id.as_ref().map(place).transpose()
        };
        let after = place(&query.after_id, "after_id")?.map_or(0, |place| place + 1);
        let before = place(&query.before_id, "before_id")?;
        let range = after.min(before.unwrap_or(cards.len()))..before.unwrap_or(cards.len());
        let has_more = range.len() > limit;
        let surplus = range.len().saturating_sub(limit);
        let skip = range.start + if before.is_some() { surplus } else { 0 };
        let count = range.len().min(limit);
        let data: Vec<ModelInfo> = cards.into_iter().skip(skip).take(count).map(ModelInfo::from).collect();
        let id = |model: Option<&ModelInfo>| model.map(|model| model.id.clone());
        Ok(Self { has_more, first_id: id(data.first()), last_id: id(data.last()), data })
    }
}

impl PageQuery {
    fn limit(&self) -> Result<usize, ApiError> {
        let Some(limit) = &self.limit else { return Ok(DEFAULT_LIMIT) };
        let limit = limit.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        let refusal = || ApiError::invalid("limit", format!("limit: The range is 1 to {MAX_LIMIT}."));
        limit.ok_or_else(refusal)
    }
}

/// Unix seconds as a date and time in UTC, as RFC 3339 writes them.
pub fn rfc3339(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`, for days from 1970 on).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Counted from March, so that the leap day is the last one.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn pages_go_both_ways() {
        let page = |query: PageQuery| {
            let cards = ["a", "b", "c", "d"].map(|id| ModelCard::new(id, "/", 0, Some(8))).to_vec();
            ModelPage::new(cards, &query).map(|page| {
                let ids: String = page.data.iter().map(|model| model.id.as_str()).collect();
                (ids, page.has_more)
            })
        };
        let query = |after: &str, before: &str, limit: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            PageQuery { after_id: given(after), before_id: given(before), limit: given(limit) }
        };
        assert_eq!(page(query("", "", "")).unwrap(), ("abcd".into(), false));
        assert_eq!(page(query("", "", "3")).unwrap(), ("abc".into(), true));
        assert_eq!(page(query("c", "", "3")).unwrap(), ("d".into(), false));
        assert_eq!(page(query("", "d", "2")).unwrap(), ("bc".into(), true));
        assert_eq!(page(query("c", "b", "")).unwrap(), (String::new(), false));
        for bad in [query("x", "", ""), query("", "", "0"), query("", "", "1001"), query("", "", "many")] {
            assert!(page(bad).is_err());
        }
    }
}
