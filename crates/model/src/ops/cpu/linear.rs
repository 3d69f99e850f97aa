//! Products with weights, accumulated in the memory of the result.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};

use super::{
    Opened, by_dtype, convert, mixed,
    product::{Target, Threads, View, ViewMut, new_product, new_product_by_rows, product, product_by_rows},
    real::Real,
    tensor,
};
use crate::ops::{LoraFactors, LoraGradients, composed};

pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    residual: Option<&Tensor>,
    adapter: Option<LoraFactors<'_>>,
    to: DType,
) -> Result<(Tensor, Option<Tensor>)> {
    fn run<T: Real>(
        x: &Tensor,
        weight: &Tensor,
        residual: Option<&Tensor>,
        adapter: Option<LoraFactors<'_>>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let ((rows, inputs), outputs) = (x.dims2()?, weight.dim(0)?);
        let (x, weight) = (Opened::new(x), Opened::new(weight));
        let x = View::rows(x.slice::<T>()?, 0, inputs);
        let weight = View::rows(weight.slice::<T>()?, 0, inputs).transposed();
        let shape = (rows, outputs, inputs);
        let mut y = match residual {
            None => new_product_by_rows(shape, x, weight),
            Some(residual) => {
                let mut y = Opened::new(residual).slice::<T>()?.to_vec();
                let mut target = ViewMut { data: &mut y, at: 0, row_stride: outputs };
                product_by_rows(&mut target, Target::AddTo, shape, T::ONE, x, weight, Threads::All);
                y
            }
        };
        let Some(LoraFactors { a, b, scale }) = adapter else {
            return Ok((tensor(y, (rows, outputs))?, None));
        };
        let rank = a.dim(0)?;
        let (a, b) = (Opened::new(a), Opened::new(b));
        let a = View::rows(a.slice::<T>()?, 0, inputs).transposed();
        let b = View::rows(b.slice::<T>()?, 0, rank).transposed();
        let down = new_product_by_rows((rows, rank, inputs), x, a);
        product_by_rows(
            &mut ViewMut { data: &mut y, at: 0, row_stride: outputs },
            Target::AddTo,
            (rows, outputs, rank),
            T::nearest(scale),
            View::rows(&down, 0, rank),
            b,
            Threads::All,
        );
        Ok((tensor(y, (rows, outputs))?, Some(tensor(down, (rows, rank))?)))
    }
    if weight.dtype() == DType::BF16 {
        return mixed::linear(x, weight, residual, adapter, to);
    }
    by_dtype!(x, run(x, weight, residual, adapter))
}

pub(crate) fn lora_gradients(
    x: &Tensor,
    down: &Tensor,
    grad: &Tensor,
    factors: LoraFactors<'_>,
) -> Result<LoraGradients> {
    if x.dtype() == DType::BF16 {
        return mixed::lora_gradients(x, down, grad, factors);
    }
    composed::lora_gradients(x, down, grad, factors)
}

pub(crate) fn operand(x: &Tensor, dtype: DType) -> Result<Tensor> {
    convert(x, dtype)
}

pub(crate) fn products(onto: Option<Tensor>, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    fn run<T: Real>(onto: Option<Tensor>, terms: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
        let mut terms = terms.iter();
        let target = if let Some(onto) = onto {
            onto
        } else {
            let Some((left, right)) = terms.next() else { bail!("a sum of no products has no shape") };
            let ((m, k), n) = (left.dims2()?, right.dim(1)?);
            let (left, right) = (Opened::new(left), Opened::new(right));
            let left = View::rows(left.slice::<T>()?, 0, k);
            let right = View::rows(right.slice::<T>()?, 0, n);
            tensor(new_product((m, n, k), left, right), (m, n))?
        };
        for (left, right) in terms {
            target.inplace_op1(&AddProduct { left, right })?;
        }
        Ok(target)
    }
    let Some((left, _)) = terms.first() else { bail!("a sum of no products has no type") };
    if left.dtype() == DType::BF16 {
        return mixed::products(onto, terms);
    }
    by_dtype!(left, run(onto, terms))
}

/// Computes target += left · right.
struct AddProduct<'a> {
    left: &'a Tensor,
    right: &'a Tensor,
}

impl InplaceOp1 for AddProduct<'_> {
    fn name(&self) -> &'static str {
        "add-product"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        fn run<T: Real>(target: &mut [T], left: &Tensor, right: &Tensor) -> Result<()> {
            let ((m, k), n) = (left.dims2()?, right.dim(1)?);
            let (left, right) = (Opened::new(left), Opened::new(right));
            let (left, right) = (View::rows(left.slice::<T>()?, 0, k), View::rows(right.slice::<T>()?, 0, n));
            let mut target = ViewMut { data: target, at: 0, row_stride: n };
            product(&mut target, Target::AddTo, (m, n, k), T::ONE, left, right, Threads::All);
            Ok(())
        }
        let Some((from, to)) = layout.contiguous_offsets() else {
            bail!("a product is added to a contiguous tensor only");
        };
        match storage {
            CpuStorage::F32(target) => run(&mut target[from..to], self.left, self.right),
            CpuStorage::F64(target) => run(&mut target[from..to], self.left, self.right),
            _ => bail!("a product is added to f32 or f64 only"),
        }
    }
}
