//! Counts and times of HTTP exchanges.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    buckets,
    histogram::Histogram,
    text::{Labels, TextWriter},
};

/// Route pattern and method; both from small fixed sets, so that clients can't make the table grow.
type Route = (String, &'static str);

/// One lock per exchange, held for two map look-ups.
#[derive(Debug, Default)]
pub(crate) struct HttpMetrics {
    routes: Mutex<BTreeMap<Route, RouteMetrics>>,
}

#[derive(Debug)]
struct RouteMetrics {
    by_status: BTreeMap<u16, u64>,
    duration: Histogram,
}

impl HttpMetrics {
    /// Notes a finished exchange. `handler` is the route's pattern, not the path.
    pub(crate) fn observe(&self, handler: &str, method: &'static str, status: u16, duration: Duration) {
        let mut routes = self.lock();
        let route = routes.entry((handler.to_owned(), method)).or_insert_with(|| RouteMetrics {
            by_status: BTreeMap::new(),
            duration: Histogram::new(buckets::HTTP),
        });
        *route.by_status.entry(status).or_default() += 1;
        route.duration.observe_time(duration);
    }

    pub(super) fn write(&self, writer: &mut TextWriter) {
        let routes = self.lock();
        let name = "http_requests_total";
        writer.family(name, "counter", "HTTP requests by route, method and status.");
        for ((handler, method), route) in &*routes {
            for (status, count) in &route.by_status {
                let status = status.to_string();
                let labels: Labels<'_> = &[("handler", handler), ("method", method), ("status", &status)];
                writer.sample(name, labels, count);
            }
        }
        let name = "http_request_duration_seconds";
        writer.family(name, "histogram", "Time from a request's head to the end of its response.");
        for ((handler, method), route) in &*routes {
            writer.histogram(name, &[("handler", handler), ("method", method)], &route.duration.snapshot());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Route, RouteMetrics>> {
        // A table of counters is fit for use whatever a panicking holder was doing.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
