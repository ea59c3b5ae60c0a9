//! An allocator that starts in static memory.
//!
//! A fresh instance serves each exchange, and growing a memory costs more than the exchange itself. So allocations come from an
//! arena that is part of the initial memory, and memory grows only for messages that are too big for it.

use core::alloc::Layout;
use core::arch::wasm32::memory_grow;
use core::mem::MaybeUninit;

use talc::base::binning::Binning;
use talc::base::{CHUNK_UNIT, Talc};
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Fits an exchange of a few recipients, with the stack, into what the host's pool keeps resident.
const ARENA_SIZE: usize = 22 << 10;
const PAGE_SIZE: usize = 64 << 10;

static mut ARENA: [MaybeUninit<u8>; ARENA_SIZE] = [MaybeUninit::uninit(); ARENA_SIZE];

#[global_allocator]
static ALLOCATOR: TalcSyncCell<ArenaThenGrow, WasmBinning> = TalcSyncCell::new_wasm(ArenaThenGrow { arena_claimed: false });

#[derive(Debug)]
struct ArenaThenGrow {
    arena_claimed: bool,
}

// SAFETY: `acquire` allocates nothing and reaches the allocator only through `talc`.
#[allow(unsafe_code)]
unsafe impl Source for ArenaThenGrow {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let (base, size) = if talc.source.arena_claimed { grow(layout)? } else { ((&raw mut ARENA).cast(), ARENA_SIZE) };
        talc.source.arena_claimed = true;
        // SAFETY: the range is the arena, which nothing else touches and which is claimed once, or pages that were just added.
        unsafe { talc.claim(base, size) }.map(|_| ()).ok_or(())
    }
}

/// Adds pages that hold at least one allocation of `layout`.
fn grow(layout: Layout) -> Result<(*mut u8, usize), ()> {
    let pages = (layout.size() + layout.align() + 4 * CHUNK_UNIT).div_ceil(PAGE_SIZE);
    match memory_grow::<0>(pages) {
        usize::MAX => Err(()),
        before => Ok(((before * PAGE_SIZE) as *mut u8, pages * PAGE_SIZE)),
    }
}
