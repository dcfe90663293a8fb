//! Routes that are remembered, so that the documentation can be held against them.

use std::sync::Arc;

use axum::{Router, routing::MethodRouter};

use super::App;

/// A router and its paths.
pub(super) struct Routes {
    pub(super) router: Router<Arc<App>>,
    #[cfg(test)]
    pub(super) paths: Vec<&'static str>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self {
            router: Router::new(),
            #[cfg(test)]
            paths: Vec::new(),
        }
    }

    /// As [`Router::route`].
    pub(super) fn route(self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        Self {
            router: self.router.route(path, methods),
            #[cfg(test)]
            paths: [self.paths, vec![path]].concat(),
        }
    }

    /// These and others.
    pub(super) fn and(self, others: Self) -> Self {
        Self {
            router: self.router.merge(others.router),
            #[cfg(test)]
            paths: [self.paths, others.paths].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::{
        body::Body,
        extract::Request,
        http::{Method, StatusCode, header::ALLOW},
    };
    use millrace_api::{anthropic, openai};
    use serde_json::Value;
    use tower::Service;

    use super::*;
    use crate::{Registry, ServerConfig, http, router};

    fn document() -> Value {
        serde_json::from_str(http::routes::OPENAPI).unwrap()
    }

    /// What the router answers to, by the paths as OpenAPI writes them.
    async fn routed() -> BTreeMap<String, BTreeSet<String>> {
        let app = App::new(Registry::new(Vec::new()), ServerConfig::default());
        let mut router = router(app).unwrap();
        let mut routed = BTreeMap::new();
        for path in [http::protected(), http::ollama(), http::administration(), http::open()]
            .into_iter()
            .flat_map(|r| r.paths)
        {
            let method = Method::from_bytes(b"BREW").unwrap();
            let concrete = path.replace(['{', '}', '*'], "");
            let request = Request::builder().method(method).uri(concrete).body(Body::empty()).unwrap();
            let response = router.call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            let allowed = response.headers()[ALLOW].to_str().unwrap().to_lowercase();
            let methods = allowed.split(',').filter(|method| *method != "head").map(str::to_owned);
            routed.insert(path.replace("{*", "{"), methods.collect());
        }
        routed
    }

    #[tokio::test]
    async fn every_route_is_documented_and_no_other() {
        let documented: BTreeMap<String, BTreeSet<String>> = document()["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().cloned().collect()))
            .collect();
        assert_eq!(documented, routed().await, "left: docs/openapi.json; right: the router");
    }

    #[test]
    fn the_version_is_this_one() {
        assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    /// The names of a schema's properties, of those included that it is put together from.
    fn properties(document: &Value, name: &str) -> BTreeSet<String> {
        fn gather(document: &Value, schema: &Value, names: &mut BTreeSet<String>) {
            if let Some(reference) = schema["$ref"].as_str() {
                let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
                return gather(document, schema, names);
            }
            for part in schema["allOf"].as_array().into_iter().flatten() {
                gather(document, part, names);
            }
            names.extend(
                schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().cloned()),
            );
        }
        let mut names = BTreeSet::new();
        gather(document, &document["components"]["schemas"][name], &mut names);
        names
    }

    #[test]
    fn documented_fields_are_those_that_are_read() {
        let document = document();
        for (schema, read) in [
            ("ChatRequest", openai::chat::fields()),
            ("CompletionRequest", openai::completions::fields()),
            ("TokenizeRequest", openai::tokenize::tokenize_fields()),
            ("DetokenizeRequest", openai::tokenize::detokenize_fields()),
            ("EmbeddingRequest", openai::pooling::embedding_fields()),
            ("RerankRequest", openai::pooling::rerank_fields()),
            ("ScoreRequest", openai::pooling::score_fields()),
            ("ClassifyRequest", openai::pooling::classify_fields()),
            ("PoolingRequest", openai::pooling::pooling_fields()),
            ("MessagesRequest", anthropic::fields()),
            ("CountTokensRequest", anthropic::fields()),
        ] {
            let documented = properties(&document, schema);
            let read: BTreeSet<String> = read.into_iter().map(str::to_owned).collect();
            let missing: Vec<_> = read.difference(&documented).collect();
            let unknown: Vec<_> = documented.difference(&read).collect();
            assert!(
                missing.is_empty() && unknown.is_empty(),
                "docs/openapi.json, {schema}: add {missing:?}, remove {unknown:?}"
            );
        }
    }

    #[test]
    fn every_field_is_explained() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for (name, schema) in schemas.iter().filter(|(name, _)| name.ends_with("Request")) {
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{name}: {field}");
            }
        }
    }

    #[test]
    fn documented_limits_are_the_real_ones() {
        let limits = millrace_api::Limits::default();
        let document = document();
        let schemas = &document["components"]["schemas"];
        let common = &schemas["CommonRequest"]["properties"];
        let template = &schemas["TemplateRequest"]["properties"];
        for (documented, real) in [
            (&common["n"]["maximum"], limits.max_sequences),
            (&common["bad_words"]["maxItems"], limits.max_bad_words),
            (&common["allowed_token_ids"]["maxItems"], limits.max_token_ids),
            (&common["stop_token_ids"]["maxItems"], limits.max_token_ids),
            (&common["stop"]["oneOf"][1]["maxItems"], limits.max_stop),
            (&common["stop"]["oneOf"][0]["maxLength"], limits.max_stop_chars),
            (&template["messages"]["maxItems"], limits.max_messages),
            (&template["tools"]["maxItems"], limits.max_tools),
            (&schemas["MessagesRequest"]["properties"]["stop_sequences"]["maxItems"], limits.max_stop),
            (&schemas["RerankRequest"]["allOf"][1]["properties"]["documents"]["maxItems"], limits.max_texts),
        ] {
            assert_eq!(documented, real);
        }
        let about = document["info"]["description"].as_str().unwrap();
        for number in [limits.max_json_depth, limits.max_json_values, limits.max_body_bytes >> 20] {
            assert!(about.contains(&number.to_string()), "{number}");
        }
    }
}
