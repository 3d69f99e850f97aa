use half::bf16;

use super::*;

/// Shapes with odd and even sizes: fewer rows than a tile and more, columns that fill no panel, and
/// k that ends within a pair or exceeds a block.
const SHAPES: [(usize, usize, usize); 17] = [
    (1, 1, 1),
    (1, 33, 2),
    (2, 16, 7),
    (5, 31, 64),
    (13, 40, 33),
    (14, 32, 32),
    (15, 65, 31),
    (29, 17, 100),
    (16, 576, 130),
    (150, 300, 66),
    (3, 35, 4201),
    (20, 48, 1024),
    (8, 30, 4200),
    (33, 43, 600),
    (300, 290, 530),
    (64, 14, 4200),
    (65, 29, 1024),
];

fn random(seed: u64, count: usize) -> Vec<bf16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bf16::from_f32((state >> 40) as f32 / (1u32 << 23) as f32 - 1.0)
    };
    (0..count).map(|_| next()).collect()
}

/// Computes a sum in f32 with the kernels of an instruction set.
fn sum_f32_for(isa: Isa, shape: (usize, usize), onto: Option<&[f32]>, terms: &[Term<'_>]) -> Vec<f32> {
    isa.limiting(|| sum_f32(shape, onto, terms))
}

/// Operands of a sum of two products, the first with a right factor to be transposed if
/// `transposed`.
struct Case {
    shape: (usize, usize, usize),
    left: Vec<bf16>,
    right: Vec<bf16>,
    low_left: Vec<bf16>,
    low_right: Vec<bf16>,
    transposed: bool,
}

/// Length of k of the second product.
const LOW: usize = 4;

impl Case {
    fn new(shape @ (m, n, k): (usize, usize, usize), transposed: bool) -> Self {
        let seed = (m * 1000 + n * 100 + k) as u64;
        Self {
            shape,
            left: random(seed, m * k),
            right: random(seed + 1, n * k),
            low_left: random(seed + 2, m * LOW),
            low_right: random(seed + 3, n * LOW),
            transposed,
        }
    }

    fn terms(&self) -> [Term<'_>; 2] {
        let (_, n, k) = self.shape;
        let right = if self.transposed {
            Right::Transposed(Operand::new(&self.right, k))
        } else {
            Right::Plain(Operand::new(&self.right, n))
        };
        let low_right = if self.transposed {
            Right::Transposed(Operand::new(&self.low_right, LOW))
        } else {
            Right::Plain(Operand::new(&self.low_right, n))
        };
        [
            Term { left: Operand::new(&self.left, k), right, k },
            Term { left: Operand::new(&self.low_left, LOW), right: low_right, k: LOW },
        ]
    }

    /// Returns element (i, j) and the sum of the magnitudes of its terms.
    fn element(&self, i: usize, j: usize) -> (f64, f64) {
        let (_, n, k) = self.shape;
        let products = (0..k).map(|x| {
            let right = if self.transposed { self.right[j * k + x] } else { self.right[x * n + j] };
            f64::from(self.left[i * k + x]) * f64::from(right)
        });
        let low = (0..LOW).map(|x| {
            let right = if self.transposed { self.low_right[j * LOW + x] } else { self.low_right[x * n + j] };
            f64::from(self.low_left[i * LOW + x]) * f64::from(right)
        });
        products.chain(low).fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
    }
}

#[test]
fn sums_are_exact_within_the_rounding_of_their_type() {
    // Miri is too slow for large products.
    let possible = |(m, n, k): &(usize, usize, usize)| !cfg!(miri) || m * n * k < 2000;
    for shape @ (m, n, k) in SHAPES.into_iter().filter(possible) {
        for transposed in [false, true] {
            let case = Case::new(shape, transposed);
            let onto: Vec<f32> = random(7, m * n).iter().map(|x| x.to_f32()).collect();
            for isa in Isa::of_this_machine() {
                let plain = sum_f32_for(isa, (m, n), None, &case.terms());
                let added = sum_f32_for(isa, (m, n), Some(&onto), &case.terms());
                let rounded = isa.limiting(|| sum_bf16((m, n), &case.terms()));
                for (index, onto) in onto.iter().enumerate() {
                    let (exact, size) = case.element(index / n, index % n);
                    // Every addition rounds a partial sum, none of which exceeds the magnitudes.
                    let bound = (k + LOW + 2) as f64 * f64::from(f32::EPSILON) / 2.0 * (size + 1.0);
                    let what = format!("{isa:?} {shape:?} {transposed} at {index}");
                    assert!((f64::from(plain[index]) - exact).abs() <= bound, "{what}");
                    let exact_added = exact + f64::from(*onto);
                    assert!((f64::from(added[index]) - exact_added).abs() <= bound, "{what}, added");
                    let bound = bound + exact.abs() * 2f64.powi(-8);
                    assert!((f64::from(rounded[index]) - exact).abs() <= bound, "{what}, rounded");
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for shape @ (m, n, _) in SHAPES {
        let case = Case::new(shape, true);
        for isa in Isa::of_this_machine() {
            let bits = |threads: usize| -> Vec<u32> {
                let sums = isa.limiting_on(threads, || sum_f32((m, n), None, &case.terms()));
                sums.iter().map(|sum| sum.to_bits()).collect()
            };
            let one = bits(1);
            assert!([2, 3, 16].into_iter().all(|threads| bits(threads) == one), "{isa:?} {shape:?}");
        }
    }
}

#[test]
fn parts_of_larger_matrices_are_multiplied_in_place() {
    let (m, n, k, stride) = (17, 20, 24, 60);
    let (left, right) = (random(1, (m + 2) * stride), random(2, (n + 2) * stride));
    let part = |data| Operand { data, at: 3 + stride, stride };
    let terms = [Term { left: part(&left), right: Right::Transposed(part(&right)), k }];
    let start: Vec<f32> = random(3, m * stride).iter().map(|x| x.to_f32()).collect();
    let mut target = start.clone();
    into_f32((&mut target, 5, stride), Target::AddTo, (m, n), &terms, Threads::One);
    for (index, (after, before)) in target.iter().zip(&start).enumerate() {
        let (row, column) = (index / stride, (index % stride).wrapping_sub(5));
        let exact = if column < n {
            (0..k)
                .map(|x| {
                    let at = |line: usize| 3 + stride + line * stride + x;
                    f64::from(left[at(row)]) * f64::from(right[at(column)])
                })
                .sum()
        } else {
            0.0
        };
        assert!((f64::from(*after) - f64::from(*before) - exact).abs() < 1e-4, "{row} {column}");
    }
}

#[test]
fn empty_products_are_zero() {
    for isa in Isa::of_this_machine() {
        assert_eq!(sum_f32_for(isa, (2, 3), None, &[]), [0.0; 6]);
        let none = Term { left: Operand::new(&[], 0), right: Right::Plain(Operand::new(&[], 3)), k: 0 };
        assert_eq!(sum_f32_for(isa, (2, 3), Some(&[1.0; 6]), &[none]), [1.0; 6]);
        assert!(isa.limiting(|| sum_bf16((0, 3), &[])).is_empty());
    }
}

#[test]
fn rows_of_a_sum_do_not_depend_on_other_rows() {
    const ROWS: usize = 150;
    for (n, k) in [(1, 64), (8, 33), (64, 600), (300, 66), (35, 4201), (35, 4200), (15, 1024)] {
        let case = Case::new((ROWS, n, k), true);
        let right = Right::Transposed(Operand::new(&case.right, k));
        for isa in Isa::of_this_machine() {
            let rows = |first: usize, count: usize| {
                let left = Operand { data: &case.left, at: first * k, stride: k };
                sum_f32_for(isa, (count, n), None, &[Term { left, right, k }])
            };
            let all = rows(0, ROWS);
            let parts = [
                (0, 1),
                (149, 1),
                (7, 2),
                (11, 5),
                (4, 8),
                (9, 9),
                (8, 17),
                (5, 25),
                (31, 33),
                (3, 60),
                (20, 130),
            ];
            for (first, count) in parts {
                let expected = &all[first * n..(first + count) * n];
                assert_eq!(rows(first, count), expected, "{isa:?}: {count} rows, {n} columns, {k} terms");
            }
        }
    }
}
