//! What one instance may use.

use std::time::Duration;

use wasmtime::{PoolingAllocationConfig, ResourceLimiter, Result};

use super::engine_config::MEMORY;
use super::ticker::TICK_MILLISECONDS;

/// What is copied in place of being given back when an instance ends: the built-in component's data, stack and arena. The stacks
/// of host and compiled code stay anyhow: none is given back.
const KEEP_RESIDENT: usize = 256 << 10;

/// The limits of one instance, which serves one exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most bytes of its memories together.
    memory: usize,
    /// The longest time that it may compute, in ticks; waiting for a KMS doesn't count.
    ticks: u32,
    /// Core instances that it may consist of.
    instances: u32,
    /// Memories that it may have.
    memories: u32,
    /// Tables that it may have.
    tables: u32,
    /// Elements of its tables together.
    elements: usize,
}

impl Limits {
    /// Those of the built-in component: a 4 MiB message, spelled as numbers, and what it is read into, fit into 64 MiB; a second is a
    /// thousand times what an exchange takes.
    pub const BUILT_IN: Self = Self { memory: MEMORY, ticks: 100, instances: 16, memories: 4, tables: 8, elements: 20_000 };

    /// Those of another component, as configured: one that holds an interpreter has many parts.
    ///
    /// # Errors
    /// If they are out of their ranges.
    #[cfg(feature = "compile")]
    pub fn of(settings: &crate::config::Component) -> Result<Self, String> {
        settings.check()?;
        let memory = (settings.memory_mib as usize) << 20;
        let ticks = settings.cpu_milliseconds / TICK_MILLISECONDS;
        Ok(Self { memory, ticks, instances: 64, memories: 4, tables: 16, elements: 100_000 })
    }

    /// The longest time that an exchange may compute.
    pub(super) fn time(&self) -> Duration {
        Duration::from_millis((self.ticks * TICK_MILLISECONDS).into())
    }

    pub(super) fn ticks(&self) -> u32 {
        self.ticks
    }

    /// The most bytes of an instance's memories together, which each of them reserves as address space.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// A pool with room for so many instances at a time.
    pub(super) fn pool(&self, count: u32) -> PoolingAllocationConfig {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(count);
        pool.total_core_instances(count.saturating_mul(self.instances.div_ceil(4)));
        pool.total_memories(count);
        pool.total_tables(count.saturating_mul(self.tables.div_ceil(4)));
        pool.total_stacks(count);
        pool.max_memory_size(self.memory);
        pool.table_elements(self.elements);
        pool.linear_memory_keep_resident(KEEP_RESIDENT);
        pool.table_keep_resident(KEEP_RESIDENT);
        pool
    }
}

/// What one instance has used of its [`Limits`].
pub(super) struct Used {
    limits: Limits,
    memory: usize,
    elements: usize,
}

impl Used {
    pub fn none_of(limits: Limits) -> Self {
        Self { limits, memory: 0, elements: 0 }
    }
}

/// Counts what grows, whether or not the system then has it: that ends the instance anyhow.
fn grow(used: &mut usize, by: usize, limit: usize) -> bool {
    let grown = used.saturating_add(by);
    let fits = grown <= limit;
    if fits {
        *used = grown;
    }
    fits
}

impl ResourceLimiter for Used {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(grow(&mut self.memory, desired.saturating_sub(current), self.limits.memory))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(grow(&mut self.elements, desired.saturating_sub(current), self.limits.elements))
    }

    fn instances(&self) -> usize {
        self.limits.instances as usize
    }

    fn memories(&self) -> usize {
        self.limits.memories as usize
    }

    fn tables(&self) -> usize {
        self.limits.tables as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_counted_together() {
        let mut used = Used::none_of(Limits::BUILT_IN);
        let mib = 1 << 20;
        assert!(used.memory_growing(0, 40 * mib, None).unwrap());
        assert!(!used.memory_growing(0, 40 * mib, None).unwrap(), "another memory");
        assert!(used.memory_growing(40 * mib, 64 * mib, None).unwrap());
        assert!(!used.memory_growing(64 * mib, 64 * mib + 1, None).unwrap());
        assert!(!used.memory_growing(0, usize::MAX, None).unwrap());
    }
}
