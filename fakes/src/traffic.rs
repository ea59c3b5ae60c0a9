//! What happens to every request: it is recorded, and perhaps disturbed.

use axum::body::{Body, to_bytes};
use axum::extract::{Request as Call, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::faults::{Disturb, FaultPlan, Queue};
use crate::record::Request;
use crate::shared::Shared;

/// Larger than any request that a limit of a service allows, so that the service's own limits are what is met.
const MAX_REQUEST: usize = 1024 * 1024;

/// The requests to a fake, and the faults that disturb them.
#[derive(Clone)]
pub struct Traffic<F>(Shared<Both<F>>);

struct Both<F> {
    faults: Queue<F>,
    requests: Vec<Request>,
}

impl<F: Clone> Traffic<F> {
    pub(crate) fn new() -> Self {
        Self(Shared::new(Both { faults: Queue::new(), requests: Vec::new() }))
    }

    /// Disturbs the next call to the KMS, or what the plan says: see [`FaultPlan`]. Plans form a queue.
    pub fn fault(&self, plan: impl Into<FaultPlan<F>>) {
        self.0.lock().faults.push(plan.into());
    }

    /// Forgets all faults that have not happened yet.
    pub fn clear_faults(&self) {
        self.0.lock().faults.clear();
    }

    /// Every request so far, to all endpoints, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.0.lock().requests.clone()
    }

    /// The requests that reached the KMS, oldest first.
    pub fn kms_requests(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_kms).collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.0.lock().requests.clear();
    }
}

/// The middleware in front of all of a fake's routes.
pub(crate) async fn record_and_disturb<F: Disturb>(State(traffic): State<Traffic<F>>, request: Call, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_REQUEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let fault = {
        let record = Request::of(&parts, &body);
        let mut traffic = traffic.0.lock();
        let fault = traffic.faults.next(record.is_kms());
        traffic.requests.push(record);
        fault
    };
    let request = Call::from_parts(parts, Body::from(body));
    match fault {
        None => next.run(request).await,
        Some(fault) => fault.disturb(next.run(request)).await,
    }
}
