//! Products with the tile registers of AMX-BF16: 16 × 16 sums of 16 pairs at once.
//!
//! The left matrix is read in place, 16 rows of 16 pairs at a time, the right one from the packed panels
//! of 32 columns, whose rows of pairs are rows of tiles. Four tiles of sums stay in registers, 32 × 32.
//! Products of few rows exchange the factors, as in [`few_rows`](super::few_rows). Every sum has the same
//! terms in the same order, so results do not depend on the number of rows.

use std::{
    arch::{
        asm,
        x86_64::{__cpuid_count, __m512i, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_setzero_si512},
    },
    ops::Range,
    sync::OnceLock,
};

use super::{
    COLUMNS, Factors, LANES, Left, Partition, SCRATCH, Scratch, Segment, copy_lefts, few_rows, pack_panels,
    tile_place, write_row,
};
use crate::ops::cpu::{mixed::Place, product::Threads};

/// Pairs of a tile. The packed pairs of a term are a multiple of them.
pub(super) const PAIRS: usize = 16;
/// Rows of a tile.
const TILE_ROWS: usize = 16;
/// Rows of sums in registers.
const ROWS: usize = 2 * TILE_ROWS;
/// Fewest rows of a task if there are fewer panels than threads.
const MIN_ROWS: usize = 4 * ROWS;
/// Bytes of a row of a tile.
const TILE_BYTES: usize = 64;
/// Bytes between the rows of sums, and of a panel.
const ROW_BYTES: usize = COLUMNS * size_of::<f32>();

/// Returns whether this machine has the instructions, and the system lets the process use them.
pub(super) fn are_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && is_permitted())
}

fn has_instructions() -> bool {
    /// AMX-BF16 and AMX-TILE, in EDX of leaf 7.
    const BITS: u32 = 1 << 22 | 1 << 24;
    __cpuid_count(7, 0).edx & BITS == BITS
}

/// Asks Linux for the state of the tile registers, which a process has only on request.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let failed: u64;
    // SAFETY: the call grants a permission to this process and writes no memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => failed,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    failed == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Computes a sum of products. The result has `m` rows and `n` columns.
///
/// # Safety
/// As in `super::run`.
pub(super) unsafe fn run(
    place: Place,
    (m, n): (usize, usize),
    blocks: &[Vec<Segment<'_>>],
    factors: Factors,
    threads: Threads,
) {
    let (partition, columns) = match factors {
        Factors::AsGiven => (Partition::new(m, n, MIN_ROWS, threads), n),
        Factors::Exchanged => (Partition::of_rows(n, m, ROWS, threads), m),
    };
    partition.run(|rows, panels| {
        SCRATCH.with_borrow_mut(|scratch| {
            for (index, block) in blocks.iter().enumerate() {
                let place = tile_place(place, 0, 0, index > 0);
                // SAFETY: guaranteed by the caller; tasks differ in rows or columns.
                unsafe { run_block(place, columns, rows.clone(), panels.clone(), block, factors, scratch) };
            }
        });
    });
}

/// Sums in memory, `[32, 32]`.
#[repr(align(64))]
struct Sums([f32; ROWS * COLUMNS]);

/// Computes the rows `rows` of the panels `panels` for one block of k.
///
/// # Safety
/// As in `super::run`.
unsafe fn run_block(
    place: Place,
    columns: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    block: &[Segment<'_>],
    factors: Factors,
    scratch: &mut Scratch,
) {
    let Scratch { panels: packed, rows: copied } = scratch;
    // SAFETY: the operands hold these columns.
    let size = unsafe { pack_panels(block, columns, panels.clone(), packed) };
    let mut sums = Sums([0.0; ROWS * COLUMNS]);
    let mut configured = 0;
    for first in rows.clone().step_by(ROWS) {
        let height = ROWS.min(rows.end - first);
        let lefts = copy_lefts(block, first, height, copied);
        for (panel, packed) in panels.clone().zip(packed.chunks_exact(size)) {
            if configured != height {
                Configuration::of(height).load();
                configured = height;
            }
            let valid = COLUMNS.min(columns - panel * COLUMNS);
            // SAFETY: the tiles are configured, the left rows and the panel have all pairs, and the
            // result has these rows and columns.
            unsafe {
                multiply(&lefts, packed.as_ptr(), height, &mut sums);
                let column = panel * COLUMNS;
                match factors {
                    Factors::AsGiven => write(&sums, height, tile_place(place, first, column, false), valid),
                    Factors::Exchanged => {
                        write_transposed(&sums, height, tile_place(place, column, first, false), valid);
                    }
                }
            }
        }
    }
    // SAFETY: no tile is in use.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Shapes of the tile registers, as the machine reads them.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// Returns the configuration for `height` rows of sums: 0 to 3 are sums, 4 and 5 left factors, 6
    /// and 7 right ones.
    fn of(height: usize) -> Self {
        let (top, bottom) = (height.min(TILE_ROWS), height.saturating_sub(TILE_ROWS));
        let heights = [top, top, bottom, bottom, top, bottom, PAIRS, PAIRS];
        let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
        for (tile, height) in heights.into_iter().enumerate().filter(|(_, height)| *height > 0) {
            row_bytes[tile] = TILE_BYTES as u16;
            rows[tile] = height as u8;
        }
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }

    fn load(&self) {
        // SAFETY: reads this configuration, which is valid.
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) self,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
    }
}

/// Computes `height` rows of a panel.
///
/// # Safety
/// The tiles must be configured for the height, and the left rows and the panel must have all pairs.
unsafe fn multiply(lefts: &[Left], mut panel: *const u32, height: usize, sums: &mut Sums) {
    // SAFETY: guaranteed by the caller. Tile registers keep their values between the blocks of
    // assembly, since nothing else uses them.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem));
        if height > TILE_ROWS {
            asm!("tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
        }
        for left in lefts {
            let (steps, stride) = (left.pairs / PAIRS, left.stride * size_of::<u16>());
            if steps == 0 {
                continue;
            }
            if height > TILE_ROWS {
                asm!(
                    "2:",
                    "tileloadd tmm6, [{right} + {row}*1]",
                    "tileloadd tmm4, [{top} + {stride}*1]",
                    "tileloadd tmm7, [{right} + {row}*1 + 64]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{bottom} + {stride}*1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {top}, 64",
                    "add {bottom}, 64",
                    "add {right}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    top = inout(reg) left.rows => _,
                    bottom = inout(reg) left.rows.add(TILE_ROWS * left.stride) => _,
                    right = inout(reg) panel => _,
                    steps = inout(reg) steps => _,
                    stride = in(reg) stride,
                    row = in(reg) ROW_BYTES,
                    options(nostack, readonly),
                );
            } else {
                asm!(
                    "2:",
                    "tileloadd tmm6, [{right} + {row}*1]",
                    "tileloadd tmm4, [{top} + {stride}*1]",
                    "tileloadd tmm7, [{right} + {row}*1 + 64]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {top}, 64",
                    "add {right}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    top = inout(reg) left.rows => _,
                    right = inout(reg) panel => _,
                    steps = inout(reg) steps => _,
                    stride = in(reg) stride,
                    row = in(reg) ROW_BYTES,
                    options(nostack, readonly),
                );
            }
            panel = panel.add(left.pairs * COLUMNS);
        }
        let top = sums.0.as_mut_ptr();
        asm!(
            "tilestored [{to} + {row}*1], tmm0",
            "tilestored [{to} + {row}*1 + 64], tmm1",
            to = in(reg) top,
            row = in(reg) ROW_BYTES,
            options(nostack),
        );
        if height > TILE_ROWS {
            asm!(
                "tilestored [{to} + {row}*1], tmm2",
                "tilestored [{to} + {row}*1 + 64], tmm3",
                to = in(reg) top.add(TILE_ROWS * COLUMNS),
                row = in(reg) ROW_BYTES,
                options(nostack),
            );
        }
    }
}

/// Writes `valid` columns of `height` rows of sums.
///
/// # Safety
/// The machine must have AVX512-BF16, and `place` must be valid for the rows and columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn write(sums: &Sums, height: usize, place: Place, valid: usize) {
    for (row, sums) in sums.0.chunks_exact(COLUMNS).enumerate().take(height) {
        for (first, sums) in (0..valid).step_by(LANES).zip(sums.chunks_exact(LANES)) {
            let place = tile_place(place, row, first, false);
            // SAFETY: guaranteed by the caller; there is a vector of sums.
            unsafe { write_row(_mm512_loadu_ps(sums.as_ptr()), (valid - first).min(LANES), place) };
        }
    }
}

/// Writes `valid` columns of `height` rows of sums as rows of `height` columns.
///
/// # Safety
/// As in [`write`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn write_transposed(sums: &Sums, height: usize, place: Place, valid: usize) {
    for top in (0..height).step_by(LANES) {
        for first in (0..valid).step_by(LANES) {
            let count = (height - top).min(LANES);
            let mut columns: [__m512i; LANES] = [_mm512_setzero_si512(); LANES];
            for (row, vector) in columns.iter_mut().enumerate().take(count) {
                // SAFETY: a vector of the sums.
                *vector =
                    unsafe { _mm512_loadu_si512(sums.0[(top + row) * COLUMNS + first..].as_ptr().cast()) };
            }
            let place = tile_place(place, first, top, false);
            // SAFETY: guaranteed by the caller.
            unsafe { few_rows::write(&columns, count, place, (valid - first).min(LANES)) };
        }
    }
}
