//! The description of the API, for programs and for people.

use std::sync::LazyLock;

use axum::{
    http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    response::IntoResponse,
};

/// The document, written by hand; tests hold it against the routes and against the fields that requests may have.
pub(crate) const OPENAPI: &str = include_str!("../../../../../docs/openapi.json");

/// A page that brings its style, its script and the document with it.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    // Inside of a script element only this could end it; JSON has another way to write it.
    include_str!("../docs.html").replace("@DOCUMENT@", &OPENAPI.replace("</", "<\\/"))
});

/// The page loads nothing from anywhere.
const POLICY: &str =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'";

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

/// `GET /docs`.
pub(crate) async fn docs() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, POLICY)], PAGE.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_the_document_and_asks_nobody() {
        let (before, rest) = PAGE.split_once("<script type=\"application/json\" id=\"document\">").unwrap();
        let (document, after) = rest.split_once("</script>").unwrap();
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        assert_eq!(document, serde_json::from_str::<serde_json::Value>(OPENAPI).unwrap());
        for text in [before, after] {
            assert!(!text.contains("http") && !text.contains("fetch("));
        }
    }
}
