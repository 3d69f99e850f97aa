//! Experimental: operations as CUDA kernels of `prospect-kernels`, each in one or a few launches.
//! Used on GPUs that they are verified on. None has run on a real one so far: see docs/kernels.md.

use candle_core::{
    DType, Device, Error, Result, Tensor, bail,
    quantized::{GgmlDType, QTensor},
};
use prospect_kernels::{
    Element, Kernel, KernelError, Launch, Operation,
    activation::{self, GATED_SILU, GATED_SILU_BACKWARD},
    adamw::{self, AdamWConstants},
    attention::{self, DELTA, TilePlan},
    dequantise::{self, BlockFormat},
    log_prob, norm,
    rotary::{self, ROTATE},
    squares::{self, SQUARES},
};

use super::{AdamWUpdate, AttentionBatch};
use crate::{
    architecture::{AttentionHeads, GeluKind, RotaryPairs},
    device::{KernelArg, KernelLauncher},
    pack::PromptTree,
};

/// Runs a kernel that makes `N` tensors.
fn run<const N: usize>(
    launcher: &impl KernelLauncher,
    kernel: &Kernel,
    launch: std::result::Result<Launch, KernelError>,
    args: Vec<KernelArg<'_>>,
) -> Result<[Tensor; N]> {
    let made = launcher.launch(kernel, &launch.map_err(Error::wrap)?, args)?;
    let count = made.len();
    made.try_into().map_err(|_| Error::msg(format!("{} made {count} tensors, not {N}", kernel.entry)))
}

fn kernel(operation: &Operation, of: &Tensor) -> Result<Kernel> {
    Ok(operation.kernel(element(of)?))
}

fn element(of: &Tensor) -> Result<Element> {
    match of.dtype() {
        DType::F32 => Ok(Element::F32),
        DType::BF16 => Ok(Element::Bf16),
        other => bail!("kernels are for f32 and bf16, not for {other:?}"),
    }
}

pub(super) fn rms_norm(
    launcher: &impl KernelLauncher,
    x: &Tensor,
    weight: &Tensor,
    epsilon: f64,
) -> Result<(Tensor, Tensor)> {
    let (rows, dim) = x.dims2()?;
    let weight = &weight.to_dtype(x.dtype())?;
    let args = vec![
        KernelArg::new((rows, dim), x.dtype()),
        KernelArg::Null,
        KernelArg::new(rows, DType::F32),
        KernelArg::Tensor(x),
        KernelArg::Tensor(weight),
        KernelArg::Null,
        KernelArg::size(dim),
        KernelArg::F32(epsilon as f32),
    ];
    let [y, inverse] = run(launcher, &kernel(&norm::FORWARD, x)?, norm::launch(rows), args)?;
    Ok((y, inverse))
}

pub(super) fn rms_norm_backward(
    launcher: &impl KernelLauncher,
    x: &Tensor,
    weight: &Tensor,
    inverse_rms: &Tensor,
    grad: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let (rows, dim) = x.dims2()?;
    let weight = &weight.to_dtype(x.dtype())?;
    let args = vec![
        KernelArg::new((rows, dim), x.dtype()),
        KernelArg::Tensor(x),
        KernelArg::Tensor(weight),
        KernelArg::Null,
        KernelArg::Tensor(inverse_rms),
        KernelArg::Tensor(grad),
        residual.map_or(KernelArg::Null, KernelArg::Tensor),
        KernelArg::size(dim),
    ];
    let [dx] = run(launcher, &kernel(&norm::BACKWARD, x)?, norm::launch(rows), args)?;
    Ok(dx)
}

pub(super) fn rms_norm_weight_grad(
    launcher: &impl KernelLauncher,
    x: &Tensor,
    inverse_rms: &Tensor,
    grad: &Tensor,
) -> Result<Tensor> {
    let (rows, dim) = x.dims2()?;
    let args = vec![
        KernelArg::new(dim, x.dtype()),
        KernelArg::Null,
        KernelArg::Tensor(x),
        KernelArg::Null,
        KernelArg::Tensor(inverse_rms),
        KernelArg::Tensor(grad),
        KernelArg::size(rows),
        KernelArg::size(dim),
    ];
    let [d_weight] = run(launcher, &kernel(&norm::WEIGHT_GRAD, x)?, norm::weight_grad_launch(dim), args)?;
    Ok(d_weight)
}

pub(super) fn rotary(
    launcher: &impl KernelLauncher,
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    head_dim: usize,
    pairs: RotaryPairs,
    inverse: bool,
) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let (cos, sin) = (cos.to_dtype(DType::F32)?, sin.to_dtype(DType::F32)?);
    let args = vec![
        KernelArg::new((rows, width), x.dtype()),
        KernelArg::Tensor(x),
        KernelArg::Tensor(&cos),
        KernelArg::Tensor(&sin),
        KernelArg::size(width),
        KernelArg::size(head_dim),
        KernelArg::size(cos.dim(1)?),
        KernelArg::U32(u32::from(pairs == RotaryPairs::Interleaved)),
        KernelArg::F32(if inverse { -1.0 } else { 1.0 }),
    ];
    let [y] = run(launcher, &kernel(&ROTATE, x)?, rotary::launch(rows, width), args)?;
    Ok(y)
}

/// Runs an elementwise operation. The `N` new tensors have the shape of the inputs.
fn elementwise<const N: usize>(
    launcher: &impl KernelLauncher,
    operation: &Operation,
    of: &[&Tensor],
) -> Result<[Tensor; N]> {
    let [first, ..] = of else { bail!("an operation on no tensor has no shape") };
    let mut args: Vec<KernelArg<'_>> = (0..N).map(|_| KernelArg::new(first.shape(), first.dtype())).collect();
    args.extend(of.iter().map(|tensor| KernelArg::Tensor(tensor)));
    let count = first.elem_count();
    args.push(KernelArg::U64(count as u64));
    run(launcher, &kernel(operation, first)?, Ok(activation::launch(count)), args)
}

pub(super) fn gated_silu(launcher: &impl KernelLauncher, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let [y] = elementwise(launcher, &GATED_SILU, &[gate, up])?;
    Ok(y)
}

pub(super) fn gated_silu_backward(
    launcher: &impl KernelLauncher,
    gate: &Tensor,
    up: &Tensor,
    grad: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let [d_gate, d_up] = elementwise(launcher, &GATED_SILU_BACKWARD, &[gate, up, grad])?;
    Ok((d_gate, d_up))
}

fn form(form: GeluKind) -> activation::GeluForm {
    match form {
        GeluKind::Exact => activation::GeluForm::Exact,
        GeluKind::Tanh => activation::GeluForm::Tanh,
    }
}

pub(super) fn gelu(launcher: &impl KernelLauncher, x: &Tensor, of: GeluKind) -> Result<Tensor> {
    let [y] = elementwise(launcher, form(of).forward(), &[x])?;
    Ok(y)
}

pub(super) fn gelu_backward(
    launcher: &impl KernelLauncher,
    x: &Tensor,
    grad: &Tensor,
    of: GeluKind,
) -> Result<Tensor> {
    let [dx] = elementwise(launcher, form(of).backward(), &[x, grad])?;
    Ok(dx)
}

/// Tiles of attention over prompt trees, on the device. The blocks of a pass share them.
pub(super) struct Tiles {
    heads: attention::HeadCounts,
    plan: TilePlan,
    queries: Tensor,
    keys: Tensor,
    spans: Tensor,
}

impl Tiles {
    pub(super) fn new(trees: &[PromptTree], heads: AttentionHeads, device: &Device) -> Result<Self> {
        let heads = attention::HeadCounts { query: heads.query, key: heads.key, dim: heads.dim };
        let tree = |tree: &PromptTree| attention::AttentionTree {
            prompt: tree.prompt.clone(),
            branches: tree.branches.clone(),
        };
        let trees: Vec<_> = trees.iter().map(tree).collect();
        let plan = TilePlan::new(&trees, heads).map_err(Error::wrap)?;
        let [queries, keys, spans] =
            super::upload([plan.query_tiles(), plan.key_tiles(), plan.spans()], device)?;
        Ok(Self { heads, plan, queries, keys, spans })
    }

    fn sizes(&self) -> [KernelArg<'static>; 4] {
        let attention::HeadCounts { query, key, dim } = self.heads;
        [
            KernelArg::size(query),
            KernelArg::size(key),
            KernelArg::size(dim),
            KernelArg::F32(self.plan.scale()),
        ]
    }

    /// Returns y and the log-sum-exp of the scores of each row and head.
    fn forward(
        &self,
        launcher: &impl KernelLauncher,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<[Tensor; 2]> {
        let mut args = vec![
            KernelArg::new(q.shape(), q.dtype()),
            KernelArg::new((q.dim(0)?, self.heads.query), DType::F32),
            KernelArg::Tensor(q),
            KernelArg::Tensor(k),
            KernelArg::Tensor(v),
            KernelArg::Tensor(&self.queries),
        ];
        args.extend(self.sizes());
        run(launcher, &self.heads.forward(element(q)?), Ok(self.plan.forward()), args)
    }
}

pub(super) fn attention(
    launcher: &impl KernelLauncher,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    batch: &AttentionBatch<'_>,
) -> Result<Tensor> {
    let [y, _] = batch.tiles(q.device())?.forward(launcher, q, k, v)?;
    Ok(y)
}

pub(super) fn attention_backward(
    launcher: &impl KernelLauncher,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    grad: &Tensor,
    batch: &AttentionBatch<'_>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let tiles = batch.tiles(q.device())?;
    let Tiles { heads, plan, .. } = tiles;
    let (element, rows) = (element(q)?, q.dim(0)?);
    // The forward pass does not keep its results, so run it again.
    let [y, lse] = tiles.forward(launcher, q, k, v)?;
    let args = vec![
        KernelArg::new((rows, heads.query), DType::F32),
        KernelArg::Tensor(grad),
        KernelArg::Tensor(&y),
        KernelArg::U64((rows * heads.query) as u64),
        KernelArg::size(heads.dim),
    ];
    let launch = attention::delta_launch(rows, *heads);
    let [delta] = run(launcher, &DELTA.kernel(element), launch, args)?;

    let inputs = || [q, k, v, grad, &lse, &delta].map(KernelArg::Tensor);
    let mut args = vec![KernelArg::new(q.shape(), q.dtype())];
    args.extend(inputs().into_iter().chain([KernelArg::Tensor(&tiles.queries)]).chain(tiles.sizes()));
    let [dq] = run(launcher, &heads.backward_queries(element), Ok(plan.backward_queries()), args)?;

    let mut args = vec![KernelArg::new(k.shape(), k.dtype()), KernelArg::new(v.shape(), v.dtype())];
    let layout = [KernelArg::Tensor(&tiles.keys), KernelArg::Tensor(&tiles.spans)];
    args.extend(inputs().into_iter().chain(layout).chain(tiles.sizes()));
    let [dk, dv] = run(launcher, &heads.backward_keys(element), Ok(plan.backward_keys()), args)?;
    Ok((dq, dk, dv))
}

pub(super) fn log_prob_of_targets(
    launcher: &impl KernelLauncher,
    logits: &Tensor,
    targets: &Tensor,
    gradient: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (rows, columns) = logits.dims2()?;
    let args = vec![
        KernelArg::new(rows, DType::F32),
        KernelArg::new(rows, DType::F64),
        KernelArg::new(rows, DType::F32),
        KernelArg::Tensor(logits),
        KernelArg::Tensor(targets),
        KernelArg::U32(0),
        KernelArg::size(columns),
    ];
    let chunk = kernel(&log_prob::CHUNK, logits)?;
    let [highest, sum, target_logit] = run(launcher, &chunk, log_prob::chunk_launch(rows), args)?;
    let args = vec![
        KernelArg::new(rows, DType::F64),
        KernelArg::Tensor(&highest),
        KernelArg::Tensor(&sum),
        KernelArg::Tensor(&target_logit),
        KernelArg::size(rows),
    ];
    let finish = kernel(&log_prob::FINISH, logits)?;
    let [log_probs] = run(launcher, &finish, log_prob::finish_launch(rows), args)?;
    let d_logits = if gradient {
        let args = vec![
            KernelArg::new((rows, columns), logits.dtype()),
            KernelArg::Tensor(logits),
            KernelArg::Tensor(&highest),
            KernelArg::Tensor(&sum),
            KernelArg::Tensor(targets),
            KernelArg::Null,
            KernelArg::U32(0),
            KernelArg::size(columns),
        ];
        let backward = kernel(&log_prob::BACKWARD, logits)?;
        let [d_logits] = run(launcher, &backward, log_prob::backward_launch(rows, columns), args)?;
        Some(d_logits)
    } else {
        None
    };
    Ok((log_probs, d_logits))
}

/// Returns the numbers of elements of tensors.
fn counts<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<usize> {
    tensors.into_iter().map(Tensor::elem_count).collect()
}

fn numbers<'a>(counts: &[usize]) -> KernelArg<'a> {
    KernelArg::Numbers(counts.iter().map(|count| *count as u64).collect())
}

/// Takes a step on parameters whose gradients have one type.
pub(super) fn adamw(
    launcher: &impl KernelLauncher,
    updates: &[AdamWUpdate<'_>],
    constants: &AdamWConstants,
) -> Result<()> {
    let Some(AdamWUpdate { gradient, .. }) = updates.first() else { return Ok(()) };
    let counts = counts(updates.iter().map(|update| update.value));
    let AdamWConstants { beta1, beta2, scale, rate, epsilon, decay } = *constants;
    let mut args = vec![
        KernelArg::EachChanged(updates.iter().map(|update| update.value).collect()),
        KernelArg::EachChanged(updates.iter().map(|update| update.moments[0]).collect()),
        KernelArg::EachChanged(updates.iter().map(|update| update.moments[1]).collect()),
        KernelArg::Each(updates.iter().map(|update| update.gradient).collect()),
        numbers(&counts),
    ];
    args.extend([beta1, beta2, scale, rate, epsilon, decay].map(KernelArg::F32));
    let [] = run(launcher, &kernel(&adamw::STEP, gradient)?, adamw::launch(&counts), args)?;
    Ok(())
}

/// Returns the sum of the squares of all elements of tensors of one type.
pub(super) fn sum_of_squares(launcher: &impl KernelLauncher, tensors: &[&Tensor]) -> Result<f64> {
    let Some(first) = tensors.first() else { return Ok(0.0) };
    let counts = counts(tensors.iter().copied());
    let launch = squares::launch(&counts).map_err(Error::wrap)?;
    if launch.is_empty() {
        return Ok(0.0);
    }
    let args = vec![
        KernelArg::new(counts.len() * squares::parts(&launch), DType::F64),
        KernelArg::Each(tensors.to_vec()),
        numbers(&counts),
    ];
    let [sums] = run(launcher, &kernel(&SQUARES, first)?, Ok(launch), args)?;
    Ok(sums.to_vec1::<f64>()?.iter().sum())
}

/// Dequantises a matrix. Returns `None` for formats without a kernel.
pub(super) fn dequantise(
    launcher: &impl KernelLauncher,
    matrix: &QTensor,
    dtype: DType,
) -> Result<Option<Tensor>> {
    let blocks = match matrix.dtype() {
        GgmlDType::Q8_0 => BlockFormat::Q8_0,
        GgmlDType::Q4_0 => BlockFormat::Q4_0,
        GgmlDType::Q4K => BlockFormat::Q4K,
        GgmlDType::Q6K => BlockFormat::Q6K,
        _ => return Ok(None),
    };
    let count = matrix.shape().elem_count();
    let args = vec![
        KernelArg::New(matrix.shape().clone(), dtype),
        KernelArg::Blocks(matrix),
        KernelArg::U64(count as u64),
    ];
    let element = if dtype == DType::BF16 { Element::Bf16 } else { Element::F32 };
    let [y] = run(launcher, &blocks.kernel(element), Ok(dequantise::launch(count)), args)?;
    Ok(Some(y))
}

#[cfg(test)]
mod tests;
