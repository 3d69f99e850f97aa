//! Products of few rows, as in generation, where packing the right matrix takes about as long as the
//! product itself.
//!
//! The factors are exchanged: the left matrix is packed, its rows side by side in the lanes of
//! vectors, and the rows of the right matrix are read in place. Every sum has the terms of the
//! packed kernel in the same order, so results have the same bits.

use std::{
    arch::x86_64::{
        __m256bh, __m256i, __m512bh, __m512i, _mm256_dpbf16_ps, _mm256_loadu_si256, _mm256_set1_epi32,
        _mm256_setzero_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_dpbf16_ps, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_zextps256_ps512,
    },
    mem::transmute,
    ops::Range,
};

use rayon::prelude::*;

use super::{
    COLUMNS, LANES, Left, ROWS, SCRATCH, Segment, copy_lefts, pack, part, tile_place, transposed, write_row,
};
use crate::ops::cpu::{
    mixed::{Place, Right, Term},
    product::Threads,
};

/// Most rows. With more, packing the right matrix is a small part of the product.
const MOST_ROWS: usize = 64;

/// Returns the terms with their factors exchanged, if [`run`] should compute the sum.
///
/// Rows of an odd number of elements end within a pair, so they cannot be read in place.
pub(super) fn exchanged<'a>(m: usize, terms: &[Term<'a>]) -> Option<Vec<Term<'a>>> {
    let exchange = |term: &Term<'a>| match term.right {
        Right::Transposed(right) if term.k.is_multiple_of(2) => {
            Some(Term { left: right, right: Right::Transposed(term.left), k: term.k })
        }
        _ => None,
    };
    if m > MOST_ROWS { None } else { terms.iter().map(exchange).collect() }
}

/// Packed rows that one kernel multiplies at once.
struct Group {
    rows: Range<usize>,
    /// By height of a tile.
    kernels: &'static [TileKernel; ROWS],
    /// Packed pairs of each block.
    blocks: Vec<Vec<u32>>,
}

/// Divides `m` rows so that few lanes are unused.
fn groups(m: usize) -> Vec<(Range<usize>, &'static [TileKernel; ROWS])> {
    let (mut groups, mut first) = (Vec::new(), 0);
    while first < m {
        let (rows, kernels) = match m - first {
            rows @ ..=8 => (rows, &HALF_VECTOR),
            rows @ ..=16 => (rows, &ONE_VECTOR),
            17..=24 => (16, &ONE_VECTOR),
            rows => (rows.min(COLUMNS), &TWO_VECTORS),
        };
        groups.push((first..first + rows, kernels));
        first += rows;
    }
    groups
}

/// Computes a sum of products with exchanged factors. The result has `m` rows and `n` columns.
///
/// # Safety
/// As in `super::run`.
pub(super) unsafe fn run(
    place: Place,
    (m, n): (usize, usize),
    blocks: &[Vec<Segment<'_>>],
    threads: Threads,
) {
    let packed = |(rows, kernels): (Range<usize>, _)| {
        // SAFETY: the operands hold the rows.
        let pack = |block: &Vec<Segment<'_>>| unsafe { pack_rows(block, &rows) };
        Group { kernels, blocks: blocks.iter().map(pack).collect(), rows }
    };
    let groups: Vec<Group> = groups(m).into_iter().map(packed).collect();
    let tiles = n.div_ceil(ROWS);
    let tasks = match threads {
        Threads::One => 1,
        Threads::All => tiles.min(4 * rayon::current_num_threads()),
    };
    let task = |index: usize| {
        SCRATCH.with_borrow_mut(|scratch| {
            for tile in part(tiles, tasks, index) {
                let columns = part(n, tiles, tile);
                for (index, block) in blocks.iter().enumerate() {
                    let weights = copy_lefts(block, columns.start, columns.len(), &mut scratch.rows);
                    for group in &groups {
                        let kernel = group.kernels[columns.len() - 1];
                        let place = tile_place(place, group.rows.start, columns.start, index > 0);
                        // SAFETY: the tile is within the result. Tasks differ in columns.
                        unsafe {
                            kernel(&weights, group.blocks[index].as_ptr(), place, group.rows.len());
                        }
                    }
                }
            }
        });
    };
    match threads {
        Threads::One => task(0),
        Threads::All => (0..tasks).into_par_iter().for_each(task),
    }
}

/// Packs rows of the right matrices of a block into `[pairs, 32]`.
///
/// # Safety
/// As in `super::pack`.
unsafe fn pack_rows(block: &[Segment<'_>], rows: &Range<usize>) -> Vec<u32> {
    let mut packed = vec![0; block.iter().map(|segment| segment.pairs * COLUMNS).sum()];
    let mut rest = packed.as_mut_slice();
    for segment in block {
        let (packed, after) = rest.split_at_mut(segment.pairs * COLUMNS);
        rest = after;
        // SAFETY: guaranteed by the caller.
        unsafe { pack(segment, rows.start, rows.len(), packed) };
    }
    packed
}

/// Computes a tile from rows of the weights and packed rows, and writes it transposed; the last
/// argument is the number of packed rows.
///
/// # Safety
/// The machine must have the instructions. The weights must hold the kernel's height of rows of the
/// pairs, the packed rows all pairs, and the place must be valid for that many columns of the rows.
type TileKernel = unsafe fn(&[Left], *const u32, Place, usize);

/// Returns the kernels of a function by height of the tile.
macro_rules! by_height {
    ($tile:ident $(, $vectors:literal)?) => {
        [
            $tile::<1 $(, $vectors)?>, $tile::<2 $(, $vectors)?>, $tile::<3 $(, $vectors)?>,
            $tile::<4 $(, $vectors)?>, $tile::<5 $(, $vectors)?>, $tile::<6 $(, $vectors)?>,
            $tile::<7 $(, $vectors)?>, $tile::<8 $(, $vectors)?>, $tile::<9 $(, $vectors)?>,
            $tile::<10 $(, $vectors)?>, $tile::<11 $(, $vectors)?>, $tile::<12 $(, $vectors)?>,
            $tile::<13 $(, $vectors)?>, $tile::<14 $(, $vectors)?>,
        ]
    };
}

/// Up to 8 rows. Two products with half a vector take as long as one with a whole one.
static HALF_VECTOR: [TileKernel; ROWS] = by_height!(tile_of_halves);
/// Up to 16 rows.
static ONE_VECTOR: [TileKernel; ROWS] = by_height!(tile, 1);
/// Up to 32 rows.
static TWO_VECTORS: [TileKernel; ROWS] = by_height!(tile, 2);

/// # Safety
/// As in [`TileKernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[expect(clippy::needless_range_loop, reason = "iterators keep the sums in memory")]
unsafe fn tile<const H: usize, const V: usize>(
    weights: &[Left],
    mut packed: *const u32,
    place: Place,
    rows: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); V]; H];
    // SAFETY: guaranteed by the caller. Vectors of pairs and of lanes are the same bits.
    unsafe {
        for weight in weights {
            let mut row_pairs = weight.rows;
            for _ in 0..weight.pairs {
                let mut vectors = [_mm512_setzero_si512(); V];
                for vector in 0..V {
                    vectors[vector] = _mm512_loadu_si512(packed.add(LANES * vector).cast());
                }
                for row in 0..H {
                    let pair = row_pairs.add(row * weight.stride).cast::<i32>().read_unaligned();
                    let pair = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair));
                    for vector in 0..V {
                        let vector_pairs = transmute::<__m512i, __m512bh>(vectors[vector]);
                        sums[row][vector] = _mm512_dpbf16_ps(sums[row][vector], vector_pairs, pair);
                    }
                }
                packed = packed.add(COLUMNS);
                row_pairs = row_pairs.add(2);
            }
        }
        for vector in 0..V {
            let mut columns = [_mm512_setzero_si512(); LANES];
            for row in 0..H {
                columns[row] = _mm512_castps_si512(sums[row][vector]);
            }
            let first = LANES * vector;
            write(&columns, H, tile_place(place, first, 0, false), rows.saturating_sub(first).min(LANES));
        }
    }
}

/// # Safety
/// As in [`TileKernel`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[expect(clippy::needless_range_loop, reason = "iterators keep the sums in memory")]
unsafe fn tile_of_halves<const H: usize>(
    weights: &[Left],
    mut packed: *const u32,
    place: Place,
    rows: usize,
) {
    let mut sums = [_mm256_setzero_ps(); H];
    // SAFETY: as in `tile`.
    unsafe {
        for weight in weights {
            let mut row_pairs = weight.rows;
            for _ in 0..weight.pairs {
                let vector = transmute::<__m256i, __m256bh>(_mm256_loadu_si256(packed.cast()));
                for row in 0..H {
                    let pair = row_pairs.add(row * weight.stride).cast::<i32>().read_unaligned();
                    let pair = transmute::<__m256i, __m256bh>(_mm256_set1_epi32(pair));
                    sums[row] = _mm256_dpbf16_ps(sums[row], vector, pair);
                }
                packed = packed.add(COLUMNS);
                row_pairs = row_pairs.add(2);
            }
        }
        let mut columns = [_mm512_setzero_si512(); LANES];
        for row in 0..H {
            columns[row] = _mm512_castps_si512(_mm512_zextps256_ps512(sums[row]));
        }
        write(&columns, H, place, rows);
    }
}

/// Writes the first `rows` lanes of `height` columns.
///
/// # Safety
/// The machine must have the instructions, and `place` must be valid for the rows and columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn write(columns: &[__m512i; LANES], height: usize, place: Place, rows: usize) {
    for (row, sums) in transposed(columns).into_iter().enumerate().take(rows) {
        // SAFETY: guaranteed by the caller.
        unsafe { write_row(_mm512_castsi512_ps(sums), height, tile_place(place, row, 0, false)) };
    }
}
