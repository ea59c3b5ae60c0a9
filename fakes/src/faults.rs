//! How often faults happen, and to which requests.

use std::collections::VecDeque;

use axum::response::Response;

/// How often a fault happens, and to what. As it is, a fault happens once, to the KMS.
#[derive(Clone, Debug)]
pub struct FaultPlan<F> {
    fault: F,
    /// None: until cleared.
    left: Option<u32>,
    tokens: bool,
}

impl<F> FaultPlan<F> {
    /// It happens to so many requests.
    pub fn times(self, count: u32) -> Self {
        Self { left: Some(count), ..self }
    }

    /// It happens until faults are cleared.
    pub fn until_cleared(self) -> Self {
        Self { left: None, ..self }
    }

    /// It happens to the endpoints that give out tokens, not to the KMS.
    pub fn on_tokens(self) -> Self {
        Self { tokens: true, ..self }
    }
}

impl<F> From<F> for FaultPlan<F> {
    fn from(fault: F) -> Self {
        Self { fault, left: Some(1), tokens: false }
    }
}

/// A fault, for which it can be said how often it happens, and to what.
pub trait Planned: Sized {
    /// It happens to so many requests.
    fn times(self, count: u32) -> FaultPlan<Self> {
        FaultPlan::from(self).times(count)
    }

    /// It happens until faults are cleared.
    fn until_cleared(self) -> FaultPlan<Self> {
        FaultPlan::from(self).until_cleared()
    }

    /// It happens to the endpoints that give out tokens, not to the KMS.
    fn on_tokens(self) -> FaultPlan<Self> {
        FaultPlan::from(self).on_tokens()
    }
}

/// The faults still to happen, the next one first.
pub(crate) struct Queue<F>(VecDeque<FaultPlan<F>>);

impl<F: Clone> Queue<F> {
    pub(crate) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(crate) fn push(&mut self, plan: FaultPlan<F>) {
        if plan.left != Some(0) {
            self.0.push_back(plan);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that happens to this request.
    pub(crate) fn next(&mut self, to_kms: bool) -> Option<F> {
        let index = self.0.iter().position(|plan| plan.tokens != to_kms)?;
        let plan = &mut self.0[index];
        let fault = plan.fault.clone();
        if let Some(left) = &mut plan.left {
            *left -= 1;
            if *left == 0 {
                self.0.remove(index);
            }
        }
        Some(fault)
    }
}

/// A fault of some service.
pub(crate) trait Disturb: Clone + Send + 'static {
    /// Answers with the fault; `answer` is what the service would have said, and happens only if it is needed.
    fn disturb(self, answer: impl Future<Output = Response> + Send) -> impl Future<Output = Response> + Send;
}
