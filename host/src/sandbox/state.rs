//! What the store of one guest holds.

use wasmtime::component::ResourceTable;

use super::limits::{Limits, Used};
use crate::embedding::{KmsCtx, KmsCtxView, KmsView};

/// The most things that a guest may hold at a time: keys, streams, what it waits for.
const MAX_RESOURCES: usize = 1024;

/// What the store of one guest holds.
pub(super) struct State {
    pub kms: KmsCtx,
    pub used: Used,
    /// Lent keys, and what WASI hands out.
    pub resources: ResourceTable,
    #[cfg(feature = "compile")]
    pub wasi: Option<Box<wasmtime_wasi::WasiCtx>>,
}

impl State {
    pub fn new(kms: KmsCtx, limits: Limits) -> Self {
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MAX_RESOURCES);
        Self {
            kms,
            used: Used::none_of(limits),
            resources,
            #[cfg(feature = "compile")]
            wasi: None,
        }
    }
}

impl KmsView for State {
    fn kms(&mut self) -> KmsCtxView<'_> {
        KmsCtxView { ctx: &mut self.kms, table: &mut self.resources }
    }
}
