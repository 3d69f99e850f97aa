//! Linear layers with bf16 weights.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};
use half::bf16;

use super::{Operand, Right, Term, into_f32, rounded, sum_bf16, sum_f32};
use crate::ops::{
    LoraFactors, LoraGradients,
    cpu::{
        Opened, convert,
        product::{Target, Threads},
        tensor,
    },
};

pub(in crate::ops::cpu) fn linear(
    x: &Tensor,
    weight: &Tensor,
    residual: Option<&Tensor>,
    adapter: Option<LoraFactors<'_>>,
    to: DType,
) -> Result<(Tensor, Option<Tensor>)> {
    let x = &convert(x, DType::BF16)?;
    let ((rows, inputs), outputs) = (x.dims2()?, weight.dim(0)?);
    let (x, weight) = (Opened::new(x), Opened::new(weight));
    let x = Operand::new(x.slice()?, inputs);
    let weight = Right::Transposed(Operand::new(weight.slice()?, inputs));
    let base = Term { left: x, right: weight, k: inputs };
    let Some(LoraFactors { a, b, scale }) = adapter else {
        return Ok((sum((rows, outputs), residual, &[base], to)?, None));
    };
    let rank = a.dim(0)?;
    let (a, b) = (Opened::new(a), Opened::new(b));
    let a = Right::Transposed(Operand::new(a.slice()?, inputs));
    let b = Right::Transposed(Operand::new(b.slice()?, rank));
    let mut down = sum_f32((rows, rank), None, &[Term { left: x, right: a, k: inputs }]);
    let saved = rounded(&down);
    for down in &mut down {
        *down *= scale as f32;
    }
    let scaled = rounded(&down);
    let update = Term { left: Operand::new(&scaled, rank), right: b, k: rank };
    let y = sum((rows, outputs), residual, &[base, update], to)?;
    Ok((y, Some(tensor(saved, (rows, rank))?)))
}

/// Returns \[residual +\] Σ left·right in the type `to`.
fn sum(shape: (usize, usize), residual: Option<&Tensor>, terms: &[Term<'_>], to: DType) -> Result<Tensor> {
    match (to, residual) {
        (DType::BF16, None) => tensor(sum_bf16(shape, terms), shape),
        (DType::F32, None) => tensor(sum_f32(shape, None, terms), shape),
        (DType::F32, Some(residual)) => {
            let residual = Opened::new(residual);
            tensor(sum_f32(shape, Some(residual.slice()?), terms), shape)
        }
        _ => bail!("a product of bf16 matrices with a residual is f32, not {to:?}"),
    }
}

pub(in crate::ops::cpu) fn products(onto: Option<Tensor>, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let Some((left, right)) = terms.first() else { bail!("a sum of no products has no shape") };
    let shape = (left.dim(0)?, right.dim(1)?);
    match onto {
        Some(onto) => {
            onto.inplace_op1(&AddProducts(terms))?;
            Ok(onto)
        }
        None => with_terms(terms, |terms| tensor(sum_f32(shape, None, terms), shape)),
    }
}

/// Calls `work` with the products of `[m, k]` and `[k, n]` tensors.
fn with_terms<R>(tensors: &[(&Tensor, &Tensor)], work: impl FnOnce(&[Term<'_>]) -> Result<R>) -> Result<R> {
    let opened: Vec<_> =
        tensors.iter().map(|(left, right)| (Opened::new(left), Opened::new(right))).collect();
    let terms = tensors.iter().zip(&opened).map(|((left, right), opened)| {
        let (k, n) = (left.dim(1)?, right.dim(1)?);
        let right = Right::Plain(Operand::new(opened.1.slice()?, n));
        Ok(Term { left: Operand::new(opened.0.slice()?, k), right, k })
    });
    work(&terms.collect::<Result<Vec<_>>>()?)
}

/// Computes target += Σ left · right.
struct AddProducts<'a>(&'a [(&'a Tensor, &'a Tensor)]);

impl InplaceOp1 for AddProducts<'_> {
    fn name(&self) -> &'static str {
        "add-products"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(target), Some((from, to))) = (storage, layout.contiguous_offsets()) else {
            bail!("products of bf16 matrices are added to a contiguous f32 tensor only");
        };
        let shape @ (_, n) = layout.shape().dims2()?;
        with_terms(self.0, |terms| {
            into_f32((&mut target[from..to], 0, n), Target::AddTo, shape, terms, Threads::All);
            Ok(())
        })
    }
}

pub(in crate::ops::cpu) fn lora_gradients(
    x: &Tensor,
    down: &Tensor,
    grad: &Tensor,
    LoraFactors { a: _, b, scale }: LoraFactors<'_>,
) -> Result<LoraGradients> {
    let ((rows, inputs), (outputs, rank)) = (x.dims2()?, b.dims2()?);
    let scale = scale as f32;
    let (x, down, grad, b) = (Opened::new(x), Opened::new(down), Opened::new(grad), Opened::new(b));
    let (x, grad) = (Operand::new(x.slice()?, inputs), Operand::new(grad.slice()?, outputs));
    let of_b = Term { left: grad, right: Right::Plain(Operand::new(b.slice()?, rank)), k: outputs };
    let mut d_down = sum_f32((rows, rank), None, &[of_b]);
    for d_down in &mut d_down {
        *d_down *= scale;
    }
    let d_down = rounded(&d_down);

    // The few columns are transposed rather than the many: B's gradient is computed as [rank, out].
    let (turned, d_turned) = (transposed(down.slice()?, rank), transposed(&d_down, rank));
    let term = |left, right| Term { left: Operand::new(left, rows), right: Right::Plain(right), k: rows };
    let d_a = sum_f32((rank, inputs), None, &[term(&d_turned, x)]);
    let d_b = sum_f32((rank, outputs), None, &[term(&turned, grad)]);
    let mut d_b_turned = Vec::with_capacity(outputs * rank);
    for output in 0..outputs {
        d_b_turned.extend((0..rank).map(|row| scale * d_b[row * outputs + output]));
    }
    Ok(LoraGradients {
        down: tensor(d_down, (rows, rank))?,
        a: tensor(d_a, (rank, inputs))?,
        b: tensor(d_b_turned, (outputs, rank))?,
    })
}

/// Transposes a matrix of `columns` columns.
fn transposed(matrix: &[bf16], columns: usize) -> Vec<bf16> {
    let rows = matrix.len() / columns;
    let mut transposed = Vec::with_capacity(matrix.len());
    for column in 0..columns {
        transposed.extend((0..rows).map(|row| matrix[row * columns + column]));
    }
    transposed
}
