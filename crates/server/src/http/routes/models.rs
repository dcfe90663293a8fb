//! The models on offer, as OpenAI's clients or Anthropic's expect them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use millrace_api::{
    ApiError,
    anthropic::models::{ModelInfo, ModelPage, PageQuery},
    openai::models::{ModelCard, ModelList},
};

use crate::{
    ModelReport,
    http::{App, middleware::speaks_anthropic, reply::Failure},
};

/// `GET /v1/models`.
pub(crate) async fn list_models(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let cards = cards(&app);
    if speaks_anthropic(&headers) {
        return Ok(Json(ModelPage::new(cards, &page_query(query.0))?).into_response());
    }
    Ok(Json(ModelList::new(cards)).into_response())
}

/// `GET /v1/models/{id}`.
pub(crate) async fn get_model(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let card = cards(&app).into_iter().find(|card| card.id == id);
    let card = card.ok_or_else(|| Failure(ApiError::model_not_found(&id)))?;
    Ok(if speaks_anthropic(&headers) {
        Json(ModelInfo::from(card)).into_response()
    } else {
        Json(card).into_response()
    })
}

/// Cards of the models that the caller may use.
fn cards(app: &App) -> Vec<ModelCard> {
    app.service.reports().iter().flat_map(ModelReport::cards).collect()
}

/// Other parameters are left alone, as the vendor leaves them.
fn page_query(pairs: Vec<(String, String)>) -> PageQuery {
    let mut query = PageQuery::default();
    for (name, value) in pairs {
        match name.as_str() {
            "after_id" => query.after_id = Some(value),
            "before_id" => query.before_id = Some(value),
            "limit" => query.limit = Some(value),
            _ => {}
        }
    }
    query
}
