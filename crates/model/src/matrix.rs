//! The weights of linear layers: plain, or frozen and kept in fewer bits than they are computed in, or in parts.

use std::{borrow::Cow, ops::Range, sync::Arc};

use candle_core::{
    DType, Device, Result, Tensor, bail,
    quantized::{GgmlDType, QStorage, QTensor},
};
use rayon::prelude::*;

mod sharded;

pub(crate) use sharded::Sharded;

use crate::{
    ops,
    parameters::{Gradients, Weight},
};

/// The weight of a linear layer, `[out, in]`.
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    Plain(Weight),
    Quantised(Quantised),
    Sharded(Sharded),
}

impl Matrix {
    /// `(out, in)`.
    pub(crate) fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Self::Plain(weight) => weight.value().dims2(),
            Self::Quantised(quantised) => Ok(quantised.dims()),
            Self::Sharded(sharded) => Ok(sharded.dims()),
        }
    }

    /// The numbers. Those of a matrix that is not plain take memory until the result is dropped.
    pub(crate) fn dense(&self) -> Result<Tensor> {
        match self {
            Self::Plain(weight) => Ok(weight.value().clone()),
            Self::Quantised(quantised) => quantised.dense(),
            Self::Sharded(sharded) => sharded.dense(),
        }
    }

    /// The numbers, to be written: those of a matrix in parts on the CPU, since no device may have room for all matrices.
    pub(crate) fn to_save(&self) -> Result<Tensor> {
        match self {
            Self::Sharded(sharded) => sharded.dense()?.to_device(&Device::Cpu),
            _ => self.dense(),
        }
    }

    /// Bytes that a frozen matrix takes here; none if it is trained.
    pub(crate) fn frozen_bytes(&self) -> usize {
        match self {
            Self::Plain(weight) => weight.frozen_bytes(),
            Self::Quantised(quantised) => quantised.bytes(),
            Self::Sharded(sharded) => sharded.bytes(),
        }
    }

    /// Adds the gradient that `compute` gives, if the weight is trained.
    pub(crate) fn add_gradient(
        &self,
        gradients: &mut Gradients,
        compute: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        match self {
            Self::Plain(weight) => weight.add_gradient(gradients, compute),
            Self::Quantised(_) | Self::Sharded(_) => Ok(()),
        }
    }
}

/// A frozen matrix in blocks of a GGUF type. It is dequantised for every product and never kept dense, as in QLoRA
/// (arXiv 2305.14314).
#[derive(Debug, Clone)]
pub(crate) struct Quantised {
    /// The rows in order, in parts that are dequantised in parallel.
    parts: Arc<[QTensor]>,
    /// What it is computed in.
    dtype: DType,
    device: Device,
}

/// Numbers in a part.
const PART: usize = 1 << 16;

impl Quantised {
    /// A dense `[out, in]` matrix in blocks of `kind`. `in` must be whole blocks.
    pub(crate) fn new(dense: &Tensor, kind: GgmlDType) -> Result<Self> {
        let (rows, columns) = dense.dims2()?;
        check_blocks(columns, kind)?;
        let (dtype, device) = (dense.dtype(), dense.device().clone());
        let dense = dense.to_device(&Device::Cpu)?;
        let parts = row_ranges(rows, columns, &device).into_par_iter().map(|(first, count)| {
            // Memory of its own: candle quantises a tensor's whole storage, whatever part of it the tensor is.
            let part = dense.narrow(0, first, count)?.force_contiguous()?;
            let part = QTensor::quantize(&part, kind)?;
            if matches!(device, Device::Cpu) {
                Ok(part)
            } else {
                on_device(&part.data()?, count, columns, kind, &device)
            }
        });
        Ok(Self { parts: parts.collect::<Result<Vec<_>>>()?.into(), dtype, device })
    }

    /// The blocks of a file as they are: `blocks` are those of row `rows(0)`, `rows(1)`, … of a tensor on the CPU.
    pub(crate) fn of_file(
        file: &QTensor,
        row: impl Fn(usize) -> usize + Sync,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::of_blocks(&file.data()?, file.shape().dims2()?, file.dtype(), row, (dtype, device))
    }

    /// A matrix of the blocks of row `row(0)`, `row(1)`, … among `blocks`.
    fn of_blocks(
        blocks: &[u8],
        (rows, columns): (usize, usize),
        kind: GgmlDType,
        row: impl Fn(usize) -> usize + Sync,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        check_blocks(columns, kind)?;
        let width = columns / kind.block_size() * kind.type_size();
        if blocks.len() < rows * width {
            bail!("{} bytes are not the blocks of {rows} rows of {columns} numbers", blocks.len());
        }
        let parts = row_ranges(rows, columns, device).into_par_iter().map(|(first, count)| {
            let mut part = Vec::with_capacity(count * width);
            for index in (first..first + count).map(&row) {
                part.extend_from_slice(&blocks[index * width..][..width]);
            }
            on_device(&part, count, columns, kind, device)
        });
        Ok(Self { parts: parts.collect::<Result<Vec<_>>>()?.into(), dtype, device: device.clone() })
    }

    /// The rows `range`, in memory of their own.
    fn rows(&self, range: Range<usize>) -> Result<Self> {
        let Some(kind) = self.kind() else { bail!("a quantised matrix without rows") };
        let (first, dims) = (range.start, (range.len(), self.dims().1));
        Self::of_blocks(&self.blocks()?, dims, kind, |row| first + row, (self.dtype, &self.device))
    }

    /// A matrix of these blocks that is computed in the same type on the same device.
    fn like(&self, dims: (usize, usize), kind: GgmlDType, blocks: &[u8]) -> Result<Self> {
        Self::of_blocks(blocks, dims, kind, |row| row, (self.dtype, &self.device))
    }

    /// All blocks in order.
    fn blocks(&self) -> Result<Vec<u8>> {
        let mut blocks = Vec::with_capacity(self.bytes());
        for part in &*self.parts {
            blocks.extend_from_slice(&part.data()?);
        }
        Ok(blocks)
    }

    fn kind(&self) -> Option<GgmlDType> {
        self.parts.first().map(QTensor::dtype)
    }

    fn dims(&self) -> (usize, usize) {
        let columns = self.parts.first().map_or(0, |part| part.shape().dims()[1]);
        (self.parts.iter().map(|part| part.shape().dims()[0]).sum(), columns)
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(QTensor::storage_size_in_bytes).sum()
    }

    fn dense(&self) -> Result<Tensor> {
        let dense = |part: &QTensor| ops::dequantise(part, self.dtype, &self.device);
        if let [part] = &*self.parts {
            return dense(part);
        }
        Tensor::cat(&self.parts.par_iter().map(dense).collect::<Result<Vec<_>>>()?, 0)
    }
}

/// First row and number of rows of each part. A GPU dequantises a whole matrix at once.
fn row_ranges(rows: usize, columns: usize, device: &Device) -> Vec<(usize, usize)> {
    let count = if matches!(device, Device::Cpu) { (PART / columns.max(1)).max(1) } else { rows.max(1) };
    (0..rows).step_by(count).map(|first| (first, count.min(rows - first))).collect()
}

fn on_device(
    blocks: &[u8],
    rows: usize,
    columns: usize,
    kind: GgmlDType,
    device: &Device,
) -> Result<QTensor> {
    QTensor::new(QStorage::from_data(Cow::Borrowed(blocks), device, kind)?, (rows, columns))
}

fn check_blocks(columns: usize, kind: GgmlDType) -> Result<()> {
    let block = kind.block_size();
    if columns.is_multiple_of(block) {
        return Ok(());
    }
    bail!(
        "rows of {columns} numbers are no whole blocks of {block}, as {kind:?} has them; q8_0 and q4_0 have blocks of 32"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize) -> Tensor {
        let data: Vec<f32> = (0..rows * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        Tensor::from_vec(data, (rows, columns), &Device::Cpu).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn blocks_stand_for_nearly_the_same_numbers_in_fewer_bytes() {
        // More than one part, the last one shorter.
        let dense = matrix(300, 256);
        let cases = [
            (GgmlDType::BF16, 0.004, 2.0),
            (GgmlDType::Q8_0, 0.005, 34.0 / 32.0),
            (GgmlDType::Q6K, 0.04, 210.0 / 256.0),
            (GgmlDType::Q4K, 0.12, 144.0 / 256.0),
            (GgmlDType::Q4_0, 0.14, 18.0 / 32.0),
        ];
        for (kind, tolerance, bytes_per_number) in cases {
            let quantised = Quantised::new(&dense, kind).unwrap();
            assert_eq!(quantised.dims(), (300, 256));
            let difference = largest_difference(&quantised.dense().unwrap(), &dense);
            assert!(difference > 0.0 && difference < tolerance, "{kind:?}: {difference}");
            assert_eq!(quantised.bytes() as f64, 300.0 * 256.0 * bytes_per_number, "{kind:?}");
        }
    }

    #[test]
    fn rows_of_a_file_are_taken_in_the_order_asked_for() {
        let file = QTensor::quantize(&matrix(4, 64), GgmlDType::Q8_0).unwrap();
        let turned = Quantised::of_file(&file, |row| 3 - row, DType::F32, &Device::Cpu).unwrap();
        let expected = file.dequantize(&Device::Cpu).unwrap().flip(&[0]).unwrap();
        assert_eq!(largest_difference(&turned.dense().unwrap(), &expected), 0.0);
    }

    #[test]
    fn rows_must_be_whole_blocks() {
        let error = Quantised::new(&matrix(2, 100), GgmlDType::Q4K).unwrap_err().to_string();
        assert!(error.contains("rows of 100 numbers"), "{error}");
    }
}
