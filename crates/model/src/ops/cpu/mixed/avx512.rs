//! Products with the dot-product instruction of AVX512-BF16: c += a₀·b₀ + a₁·b₁ in every lane.
//!
//! The right matrix is packed in panels of 32 columns whose elements are pairs along k; the left
//! one is read in place, where a pair is 32 consecutive bits. A tile of 14 × 32 sums stays in
//! registers. Products of few rows exchange the factors: see [`few_rows`]. Machines with AMX multiply
//! the same panels by tile registers: see [`tiles`].

mod few_rows;
mod tiles;

use std::{
    arch::x86_64::{
        __m256bh, __m256i, __m512, __m512bh, __m512i, _mm256_mask_storeu_epi16, _mm512_add_ps,
        _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_epi16, _mm512_maskz_loadu_ps, _mm512_permutex2var_epi16, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512,
        _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    },
    cell::RefCell,
    mem::transmute,
    ops::Range,
};

use half::bf16;
use rayon::prelude::*;

use super::{Operand, Place, Right, Term};
use crate::ops::cpu::product::Threads;

/// Largest number of rows of a tile: 14 × 2 vectors of sums, two of the right matrix and two of the
/// left are the 32 registers.
const ROWS: usize = 14;
/// Columns of a panel: two vectors.
const COLUMNS: usize = 32;
/// Lanes of a vector.
const LANES: usize = 16;
/// Longest part of k whose sums stay in registers. A panel of it is half of a second-level cache of
/// 256 KB.
const DEPTH: usize = 2048;
/// Most panels of a task.
const PANELS: usize = 4;
/// Fewest rows of a task if there are fewer panels than threads.
const MIN_ROWS: usize = 8 * ROWS;

/// Instructions of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// Dot products of pairs in vectors.
    DotProducts,
    /// Products of tile registers.
    Tiles,
}

/// Roles of the factors in a kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Factors {
    AsGiven,
    /// The rows of the right matrix are read in place, those of the left one are packed. Sums are written
    /// transposed.
    Exchanged,
}

/// Returns whether this machine has tile registers for bf16.
pub(in crate::ops::cpu) fn has_tiles() -> bool {
    is_available() && tiles::are_available()
}

/// Returns whether this machine has dot products of pairs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
}

/// Part of the k of one term.
struct Segment<'a> {
    term: &'a Term<'a>,
    k: Range<usize>,
    /// Packed pairs. Those beyond k are zero.
    pairs: usize,
}

impl Segment<'_> {
    /// Returns whether the left matrix must be copied: rows end before the last pair, and rows a
    /// multiple of 2 KB apart share the same few lines of the first-level cache.
    fn copies_left(&self) -> bool {
        self.k.len() < 2 * self.pairs || (self.term.left.stride * size_of::<bf16>()).is_multiple_of(2048)
    }
}

/// Packed panels and copied rows of one thread.
#[derive(Default)]
struct Scratch {
    panels: Vec<u32>,
    rows: Vec<bf16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Divides the k of all terms into blocks of at most about [`DEPTH`], each of which is added to the
/// result at once. The pairs of a segment are a multiple of `unit`.
fn blocks<'a>(terms: &'a [Term<'a>], unit: usize) -> Vec<Vec<Segment<'a>>> {
    let mut blocks: Vec<Vec<Segment<'a>>> = Vec::new();
    let mut depth = usize::MAX;
    for term in terms {
        let step = term.k.div_ceil(term.k.div_ceil(DEPTH).max(1)).next_multiple_of(COLUMNS);
        for first in (0..term.k).step_by(step.max(1)) {
            let k = first..(first + step).min(term.k);
            let length = k.len();
            let segment = Segment { term, k, pairs: length.div_ceil(2).next_multiple_of(unit) };
            match blocks.last_mut() {
                Some(block) if depth + length <= DEPTH => {
                    depth += length;
                    block.push(segment);
                }
                _ => {
                    depth = length;
                    blocks.push(vec![segment]);
                }
            }
        }
    }
    if blocks.is_empty() {
        // An empty sum is written too.
        blocks.push(Vec::new());
    }
    blocks
}

/// Writes the first `count` lanes to the row of a result.
///
/// # Safety
/// The machine must have the instructions, and `place` must be valid for `count` columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn write_row(sums: __m512, count: usize, place: Place) {
    let mask = mask16(count);
    // SAFETY: guaranteed by the caller; masked lanes are not accessed.
    unsafe {
        match place {
            Place::F32 { to, add, .. } => {
                let sums = match add {
                    Some(add) => _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, add)),
                    None => sums,
                };
                _mm512_mask_storeu_ps(to, mask, sums);
            }
            Place::Bf16 { to, .. } => {
                let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums));
                _mm256_mask_storeu_epi16(to.cast(), mask, rounded);
            }
        }
    }
}

/// Computes a sum of products.
///
/// # Safety
/// As in `super::run`; the machine must have the instructions, and all operands must be within
/// their slices.
pub(super) unsafe fn run(
    instructions: Instructions,
    place: Place,
    (m, n): (usize, usize),
    terms: &[Term<'_>],
    threads: Threads,
) {
    let exchanged = few_rows::exchanged(m, terms);
    let factors = if exchanged.is_some() { Factors::Exchanged } else { Factors::AsGiven };
    let unit = if instructions == Instructions::Tiles { tiles::PAIRS } else { 1 };
    let blocks = blocks(exchanged.as_deref().unwrap_or(terms), unit);
    // SAFETY: guaranteed by the caller, if the place is valid.
    let run = |place| unsafe {
        match (instructions, factors) {
            (Instructions::DotProducts, Factors::AsGiven) => run_blocks(place, (m, n), &blocks, threads),
            (Instructions::DotProducts, Factors::Exchanged) => few_rows::run(place, (m, n), &blocks, threads),
            (Instructions::Tiles, factors) => tiles::run(place, (m, n), &blocks, factors, threads),
        }
    };
    if let (Place::Bf16 { to, stride }, 2..) = (place, blocks.len()) {
        // Sums of several blocks are rounded once, at the end.
        let mut sums = vec![0.0; m * n];
        let wide = Place::F32 { to: sums.as_mut_ptr(), add: None, stride: n };
        // `sums` has the shape of the result.
        run(wide);
        for (row, sums) in sums.chunks_exact(n).enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                // SAFETY: within the result, as guaranteed by the caller.
                unsafe { to.add(row * stride + column).write(bf16::from_f32(*sum)) };
            }
        }
        return;
    }
    run(place);
}

/// # Safety
/// As in [`run`].
unsafe fn run_blocks(place: Place, (m, n): (usize, usize), blocks: &[Vec<Segment<'_>>], threads: Threads) {
    let partition = Partition::new(m, n, MIN_ROWS, threads);
    partition.run(|rows, panels| {
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY: guaranteed by the caller; tasks differ in rows or columns.
            unsafe { run_task(place, n, rows, panels, blocks, scratch) };
        });
    });
}

/// Tasks of a product.
struct Partition {
    rows: usize,
    panels: usize,
    /// Panels of a task.
    group: usize,
    /// Parts of the rows.
    row_tasks: usize,
    threads: Threads,
}

impl Partition {
    /// Divides `rows` and `columns` into tasks, of at least `min_rows` where there are few panels.
    fn new(rows: usize, columns: usize, min_rows: usize, threads: Threads) -> Self {
        let panels = columns.div_ceil(COLUMNS);
        let count = match threads {
            Threads::One => 1,
            Threads::All => rayon::current_num_threads(),
        };
        // As many panels as leave no thread idle at the end.
        let fits = |group: &usize| {
            let tasks = panels.div_ceil(*group);
            tasks.is_multiple_of(count) && panels.is_multiple_of(*group) || tasks >= 8 * count
        };
        let group = (1..=PANELS).rev().find(fits).unwrap_or(1);
        let column_tasks = panels.div_ceil(group);
        let row_tasks = if column_tasks < 2 * count { (4 * count).div_ceil(column_tasks) } else { 1 };
        let row_tasks = if count == 1 { 1 } else { row_tasks.min(rows.div_ceil(min_rows)).max(1) };
        Self { rows, panels, group, row_tasks, threads }
    }

    /// Divides the rows alone: for few columns, whose packing is a small part of a task.
    fn of_rows(rows: usize, columns: usize, min_rows: usize, threads: Threads) -> Self {
        let panels = columns.div_ceil(COLUMNS);
        let count = match threads {
            Threads::One => 1,
            Threads::All => 4 * rayon::current_num_threads(),
        };
        let row_tasks = rows.div_ceil(min_rows).clamp(1, count);
        Self { rows, panels, group: panels, row_tasks, threads }
    }

    /// Calls `task` with the rows and panels of each task.
    fn run(&self, task: impl Fn(Range<usize>, Range<usize>) + Sync) {
        let task = |index: usize| {
            let (column_task, row_task) = (index / self.row_tasks, index % self.row_tasks);
            let panels = column_task * self.group..((column_task + 1) * self.group).min(self.panels);
            task(part(self.rows, self.row_tasks, row_task), panels);
        };
        let tasks = self.panels.div_ceil(self.group) * self.row_tasks;
        match self.threads {
            Threads::One => (0..tasks).for_each(task),
            Threads::All => (0..tasks).into_par_iter().for_each(task),
        }
    }
}

/// Returns part `index` of `0..count`, divided into `parts` as evenly as possible.
fn part(count: usize, parts: usize, index: usize) -> Range<usize> {
    index * count / parts..(index + 1) * count / parts
}

/// Computes the rows `rows` of the panels `panels`.
///
/// # Safety
/// As in [`run`].
unsafe fn run_task(
    place: Place,
    n: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    blocks: &[Vec<Segment<'_>>],
    scratch: &mut Scratch,
) {
    let Scratch { panels: packed, rows: copied } = scratch;
    for (index, block) in blocks.iter().enumerate() {
        // SAFETY: the operands hold these columns.
        let size = unsafe { pack_panels(block, n, panels.clone(), packed) };
        let tiles = rows.len().div_ceil(ROWS);
        for tile in 0..tiles {
            let tile = part(rows.len(), tiles, tile);
            let (first, height) = (rows.start + tile.start, tile.len());
            let lefts = copy_lefts(block, first, height, copied);
            for (panel, packed) in panels.clone().zip(packed.chunks_exact(size)) {
                let valid = COLUMNS.min(n - panel * COLUMNS);
                let kernel = KERNELS[height - 1][valid.div_ceil(LANES) - 1];
                let place = tile_place(place, first, panel * COLUMNS, index > 0);
                // SAFETY: the tile is within the result, and the panel has all pairs of the block.
                unsafe { kernel(&lefts, packed.as_ptr(), place, valid) };
            }
        }
    }
}

/// Packs the panels of a block of the right matrices, which have `n` columns, and returns the size of
/// each.
///
/// # Safety
/// As in [`run`].
unsafe fn pack_panels(block: &[Segment<'_>], n: usize, panels: Range<usize>, packed: &mut Vec<u32>) -> usize {
    let pairs: usize = block.iter().map(|segment| segment.pairs).sum();
    let size = (pairs * COLUMNS).max(1);
    packed.resize(packed.len().max(size * panels.len()), 0);
    for (panel, packed) in panels.zip(packed.chunks_exact_mut(size)) {
        let (first, mut rest) = (panel * COLUMNS, packed);
        for segment in block {
            let (packed, after) = rest.split_at_mut(segment.pairs * COLUMNS);
            rest = after;
            // SAFETY: guaranteed by the caller.
            unsafe { pack(segment, first, COLUMNS.min(n - first), packed) };
        }
    }
    size
}

/// Returns the place of the tile from `row` and `column`. Blocks after the first add to the result.
fn tile_place(place: Place, row: usize, column: usize, again: bool) -> Place {
    match place {
        Place::F32 { to, add, stride } => {
            let offset = row * stride + column;
            let to = to.wrapping_add(offset);
            let add = if again { Some(to.cast_const()) } else { add.map(|add| add.wrapping_add(offset)) };
            Place::F32 { to, add, stride }
        }
        Place::Bf16 { to, stride } => Place::Bf16 { to: to.wrapping_add(row * stride + column), stride },
    }
}

/// Rows of the left matrix of one segment.
#[derive(Clone, Copy)]
struct Left {
    rows: *const bf16,
    stride: usize,
    pairs: usize,
}

/// Most segments of a block: terms of one product.
const SEGMENTS: usize = 4;

/// Returns the left rows of every segment, copied if they cannot be read in place.
fn copy_lefts(block: &[Segment<'_>], first: usize, height: usize, copied: &mut Vec<bf16>) -> Vec<Left> {
    let widths =
        block.iter().filter(|segment| segment.copies_left()).map(|segment| 2 * segment.pairs + COLUMNS);
    let size = widths.sum::<usize>() * height;
    copied.resize(copied.len().max(size), bf16::ZERO);
    let mut rest = copied.as_mut_slice();
    let mut lefts = Vec::with_capacity(SEGMENTS);
    for segment in block {
        let (Operand { data, at, stride }, pairs) = (segment.term.left, segment.pairs);
        let start = at + first * stride + segment.k.start;
        if !segment.copies_left() {
            lefts.push(Left { rows: data[start..].as_ptr(), stride, pairs });
            continue;
        }
        let width = 2 * pairs + COLUMNS;
        let (rows, after) = rest.split_at_mut(width * height);
        rest = after;
        for (row, copy) in rows.chunks_exact_mut(width).enumerate() {
            let length = segment.k.len();
            copy[..length].copy_from_slice(&data[start + row * stride..][..length]);
            copy[length..2 * pairs].fill(bf16::ZERO);
        }
        lefts.push(Left { rows: rows.as_ptr(), stride: width, pairs });
    }
    lefts
}

/// Packs the `valid` columns of a panel from `first` on into `[pairs, 32]`, with zeros beyond k.
///
/// # Safety
/// The machine must have the instructions, and the operand must hold the columns.
unsafe fn pack(segment: &Segment<'_>, first: usize, valid: usize, packed: &mut [u32]) {
    let k = segment.k.len();
    packed[k.div_ceil(2) * COLUMNS..].fill(0);
    match segment.term.right {
        Right::Plain(right) => {
            let from = right.as_ptr().wrapping_add(segment.k.start * right.stride + first);
            // SAFETY: guaranteed by the caller.
            unsafe { pack_rows(from, right.stride, k, valid, packed.as_mut_ptr()) };
        }
        Right::Transposed(right) => {
            let from = right.as_ptr().wrapping_add(first * right.stride + segment.k.start);
            // SAFETY: guaranteed by the caller.
            unsafe { pack_columns(from, right.stride, k, valid, packed.as_mut_ptr()) };
        }
    }
}

/// Returns a mask of the first `count` of 32 lanes.
fn mask32(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}

/// Returns a mask of the first `count` of 16 lanes.
fn mask16(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

/// Packs `[k, valid]`: interleaves pairs of rows.
///
/// # Safety
/// As in [`pack`]; `to` has room for `[⌈k/2⌉, 32]`.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_rows(from: *const bf16, stride: usize, k: usize, valid: usize, to: *mut u32) {
    let interleave: [[u16; 32]; 2] = std::array::from_fn(|half| {
        std::array::from_fn(|lane| (16 * half + lane / 2 + 32 * (lane % 2)) as u16)
    });
    let mask = mask32(valid);
    // SAFETY: masked lanes are not read, and rows beyond k are not either.
    unsafe {
        let low = _mm512_loadu_si512(interleave[0].as_ptr().cast());
        let high = _mm512_loadu_si512(interleave[1].as_ptr().cast());
        for pair in 0..k.div_ceil(2) {
            let even = _mm512_maskz_loadu_epi16(mask, from.add(2 * pair * stride).cast());
            let odd = if 2 * pair + 1 < k {
                _mm512_maskz_loadu_epi16(mask, from.add((2 * pair + 1) * stride).cast())
            } else {
                _mm512_setzero_si512()
            };
            let to = to.add(pair * COLUMNS);
            _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi16(even, low, odd));
            _mm512_storeu_si512(to.add(LANES).cast(), _mm512_permutex2var_epi16(even, high, odd));
        }
    }
}

/// Packs the transpose of `[valid, k]`, 16 × 16 pairs at a time.
///
/// # Safety
/// As in [`pack`]; `to` has room for `[⌈k/2⌉, 32]`.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack_columns(from: *const bf16, stride: usize, k: usize, valid: usize, to: *mut u32) {
    // The second vector is not read if it has no valid columns.
    for first_column in (0..valid).step_by(LANES) {
        for first in (0..k).step_by(2 * LANES) {
            let mask = mask32(k - first);
            let mut block = [_mm512_setzero_si512(); LANES];
            for (lane, pairs) in block.iter_mut().enumerate().take(valid.saturating_sub(first_column)) {
                let from = from.wrapping_add((first_column + lane) * stride + first);
                // SAFETY: the column exists, and lanes beyond k are not read.
                *pairs = unsafe { _mm512_maskz_loadu_epi16(mask, from.cast()) };
            }
            let block = transposed(&block);
            for (pair, lanes) in block.iter().enumerate().take((k - first).div_ceil(2)) {
                // SAFETY: there are ⌈k/2⌉ pairs.
                unsafe {
                    _mm512_storeu_si512(to.add((first / 2 + pair) * COLUMNS + first_column).cast(), *lanes);
                }
            }
        }
    }
}

/// Transposes 16 × 16 pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = *rows;
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    // Lane group l of quads[4·g + c] has column 4·l + c of rows 4·g to 4·g + 3.
    let mut quads = pairs;
    for i in 0..4 {
        quads[4 * i] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
        quads[4 * i + 2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        quads[4 * i + 3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
    }
    let mut columns = quads;
    for c in 0..4 {
        let (first, second) = ((quads[c], quads[c + 4]), (quads[c + 8], quads[c + 12]));
        let even = [
            _mm512_shuffle_i32x4::<0x88>(first.0, first.1),
            _mm512_shuffle_i32x4::<0x88>(second.0, second.1),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(first.0, first.1),
            _mm512_shuffle_i32x4::<0xdd>(second.0, second.1),
        ];
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        columns[c + 4] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        columns[c + 8] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        columns[c + 12] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    columns
}

/// Computes a tile from the left rows of all segments and a packed panel; the last argument is the
/// number of columns that exist.
type TileKernel = unsafe fn(&[Left], *const u32, Place, usize);

/// Kernels by number of rows and of vectors.
const KERNELS: [[TileKernel; 2]; ROWS] = [
    [tile::<1, 1>, tile::<1, 2>],
    [tile::<2, 1>, tile::<2, 2>],
    [tile::<3, 1>, tile::<3, 2>],
    [tile::<4, 1>, tile::<4, 2>],
    [tile::<5, 1>, tile::<5, 2>],
    [tile::<6, 1>, tile::<6, 2>],
    [tile::<7, 1>, tile::<7, 2>],
    [tile::<8, 1>, tile::<8, 2>],
    [tile::<9, 1>, tile::<9, 2>],
    [tile::<10, 1>, tile::<10, 2>],
    [tile::<11, 1>, tile::<11, 2>],
    [tile::<12, 1>, tile::<12, 2>],
    [tile::<13, 1>, tile::<13, 2>],
    [tile::<14, 1>, tile::<14, 2>],
];

/// # Safety
/// The machine must have the instructions. The left rows must hold `M` rows of the pairs, the panel
/// all pairs, and `place` must be valid for `M` rows of `valid` columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[expect(clippy::needless_range_loop, reason = "iterators keep the sums in memory")]
unsafe fn tile<const M: usize, const V: usize>(
    lefts: &[Left],
    mut panel: *const u32,
    place: Place,
    valid: usize,
) {
    // Sums stay in registers only where everything is in this function.
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    // SAFETY: guaranteed by the caller; masked lanes are not accessed. Vectors of pairs and of
    // lanes are the same 512 bits.
    unsafe {
        for left in lefts {
            let mut row_pairs = left.rows;
            for _ in 0..left.pairs {
                let mut right = [_mm512_setzero_si512(); V];
                for vector in 0..V {
                    right[vector] = _mm512_loadu_si512(panel.add(LANES * vector).cast());
                }
                for row in 0..M {
                    let pair = row_pairs.add(row * left.stride).cast::<i32>().read_unaligned();
                    let pair = transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair));
                    for vector in 0..V {
                        sums[row][vector] = _mm512_dpbf16_ps(
                            sums[row][vector],
                            pair,
                            transmute::<__m512i, __m512bh>(right[vector]),
                        );
                    }
                }
                panel = panel.add(COLUMNS);
                row_pairs = row_pairs.add(2);
            }
        }
        match place {
            Place::F32 { to, add: None, stride } => {
                for row in 0..M {
                    for vector in 0..V {
                        let mask = mask16(valid - LANES * vector);
                        _mm512_mask_storeu_ps(to.add(row * stride + LANES * vector), mask, sums[row][vector]);
                    }
                }
            }
            Place::F32 { to, add: Some(add), stride } => {
                for row in 0..M {
                    for vector in 0..V {
                        let (mask, at) = (mask16(valid - LANES * vector), row * stride + LANES * vector);
                        let sum = _mm512_add_ps(sums[row][vector], _mm512_maskz_loadu_ps(mask, add.add(at)));
                        _mm512_mask_storeu_ps(to.add(at), mask, sum);
                    }
                }
            }
            Place::Bf16 { to, stride } => {
                for row in 0..M {
                    for vector in 0..V {
                        let mask = mask16(valid - LANES * vector);
                        let rounded = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sums[row][vector]));
                        _mm256_mask_storeu_epi16(to.add(row * stride + LANES * vector).cast(), mask, rounded);
                    }
                }
            }
        }
    }
}
