//! The models on offer.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use millrace_api::{
    ApiError,
    openai::models::{ModelCard, ModelList},
};

use crate::http::{App, reply::Failure};

/// `GET /v1/models`.
pub(crate) async fn list_models(State(app): State<Arc<App>>) -> Json<ModelList> {
    Json(ModelList::new(app.service.models().cards()))
}

/// `GET /v1/models/{id}`.
pub(crate) async fn get_model(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ModelCard>, Failure> {
    let card = app.service.models().cards().into_iter().find(|card| card.id == id);
    card.map(Json).ok_or_else(|| Failure(ApiError::model_not_found(&id)))
}
