//! Quantised matrices, dequantised for every product as in QLoRA (arXiv 2305.14314).

use std::{borrow::Cow, sync::Arc};

use candle_core::{
    DType, Device, Result, Tensor, bail,
    quantized::{GgmlDType, QStorage, QTensor},
};
use half::bf16;
use rayon::prelude::*;

use super::{LinearWeight, TensorSource};
#[cfg(feature = "cuda")]
use crate::device::cuda;
use crate::{
    ModelError,
    ops::{self, Convert, Stored, vectorised},
};

/// Frozen matrix in blocks of a GGUF type.
#[derive(Debug, Clone)]
pub(crate) struct QuantisedMatrix {
    storage: BlockStorage,
    /// Element type of the dequantised matrix.
    dtype: DType,
    device: Device,
}

/// Memory of a quantised matrix.
#[derive(Debug, Clone)]
enum BlockStorage {
    /// Consecutive groups of rows, which are dequantised in parallel.
    Parts(Arc<[QTensor]>),
    /// bf16 on a GPU, as a tensor: candle would dequantise bf16 blocks on the CPU.
    Bf16(Tensor),
}

/// Most elements of a part on the CPU, unless a row has more.
const PART: usize = 1 << 16;

impl QuantisedMatrix {
    /// Quantises a dense `[out, in]` matrix; `in` must be a multiple of the block size.
    pub(crate) fn new(dense: &Tensor, kind: GgmlDType) -> Result<Self> {
        let (rows, columns) = dense.dims2()?;
        check_blocks(columns, kind)?;
        let (dtype, device) = (dense.dtype(), dense.device().clone());
        if kind == GgmlDType::BF16 && !device.is_cpu() {
            return Self::in_bf16(dense);
        }
        let dense = dense.to_device(&Device::Cpu)?;
        // In parts on any device, because candle quantises a matrix on one thread.
        let parts = row_ranges(rows, columns, &Device::Cpu).into_par_iter().map(|(first, count)| {
            // A copy, because candle quantises the whole storage behind a tensor.
            let part = dense.narrow(0, first, count)?.force_contiguous()?;
            QTensor::quantize(&part, kind)
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let cpu = Self { storage: BlockStorage::Parts(parts.into()), dtype, device: Device::Cpu };
        if device.is_cpu() {
            return Ok(cpu);
        }
        Self::from_blocks(&cpu.blocks()?, (rows, columns), kind, |row| row, dtype, &device)
    }

    /// Stores a matrix as a bf16 tensor on its device.
    fn in_bf16(dense: &Tensor) -> Result<Self> {
        let storage = BlockStorage::Bf16(dense.to_dtype(DType::BF16)?.contiguous()?);
        Ok(Self { storage, dtype: dense.dtype(), device: dense.device().clone() })
    }

    /// Takes the blocks of a tensor on the CPU as they are; row i of the matrix is row `row(i)` of
    /// `file`.
    pub(crate) fn from_file(
        file: &QTensor,
        row: impl Fn(usize) -> usize + Sync,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::from_blocks(&file.data()?, file.shape().dims2()?, file.dtype(), row, dtype, device)
    }

    /// Makes a matrix whose row i has the blocks of row `row(i)` of `blocks`.
    fn from_blocks(
        blocks: &[u8],
        (rows, columns): (usize, usize),
        kind: GgmlDType,
        row: impl Fn(usize) -> usize + Sync,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        check_blocks(columns, kind)?;
        let width = columns / kind.block_size() * kind.type_size();
        if blocks.len() < rows * width {
            bail!("{} bytes are too few for the blocks of {rows} rows of {columns} elements", blocks.len());
        }
        if kind == GgmlDType::BF16 && !device.is_cpu() {
            let ordered: Vec<u8> =
                (0..rows).map(row).flat_map(|row| blocks[row * width..][..width].iter().copied()).collect();
            let matrix = Tensor::from_raw_buffer(&ordered, DType::BF16, &[rows, columns], device)?;
            return Ok(Self { storage: BlockStorage::Bf16(matrix), dtype, device: device.clone() });
        }
        let parts = row_ranges(rows, columns, device).into_par_iter().map(|(first, count)| {
            let mut part = Vec::with_capacity(count * width);
            for index in (first..first + count).map(&row) {
                part.extend_from_slice(&blocks[index * width..][..width]);
            }
            upload_blocks(&part, count, columns, kind, device)
        });
        let storage = BlockStorage::Parts(parts.collect::<Result<Vec<_>>>()?.into());
        Ok(Self { storage, dtype, device: device.clone() })
    }

    /// Makes a matrix of the bytes of all blocks, a flat tensor on its device.
    pub(super) fn from_block_bytes(
        bytes: &Tensor,
        dims: (usize, usize),
        kind: GgmlDType,
        dtype: DType,
    ) -> Result<Self> {
        let device = bytes.device();
        #[cfg(feature = "cuda")]
        if let Device::Cuda(gpu) = device {
            let storage = if kind == GgmlDType::BF16 {
                BlockStorage::Bf16(bytes.reshape(dims)?)
            } else {
                BlockStorage::Parts(Arc::new([cuda::blocks_from_device(gpu, bytes, dims, kind)?]))
            };
            return Ok(Self { storage, dtype, device: device.clone() });
        }
        Self::from_blocks(&bytes.to_vec1::<u8>()?, dims, kind, |row| row, dtype, device)
    }

    /// Returns the bytes of all blocks as a flat tensor on the device of the matrix; on a GPU, bf16
    /// elements as they are.
    pub(super) fn block_bytes(&self) -> Result<Tensor> {
        match &self.storage {
            BlockStorage::Bf16(matrix) => matrix.flatten_all(),
            BlockStorage::Parts(_) => {
                let blocks = self.blocks()?;
                let count = blocks.len();
                Tensor::from_vec(blocks, count, &self.device)
            }
        }
    }

    /// Returns the type of the blocks, and of the elements of the dequantised matrix.
    pub(super) fn types(&self) -> Result<(GgmlDType, DType)> {
        let Some(kind) = self.kind() else { bail!("a quantised matrix without rows") };
        Ok((kind, self.dtype))
    }

    /// Returns all blocks in order.
    pub(super) fn blocks(&self) -> Result<Vec<u8>> {
        let mut blocks = Vec::with_capacity(self.bytes());
        match &self.storage {
            BlockStorage::Parts(parts) => {
                for part in &**parts {
                    blocks.extend_from_slice(&part.data()?);
                }
            }
            BlockStorage::Bf16(matrix) => matrix.write_bytes(&mut blocks)?,
        }
        Ok(blocks)
    }

    pub(crate) fn kind(&self) -> Option<GgmlDType> {
        match &self.storage {
            BlockStorage::Parts(parts) => parts.first().map(QTensor::dtype),
            BlockStorage::Bf16(_) => Some(GgmlDType::BF16),
        }
    }

    pub(super) fn dims(&self) -> (usize, usize) {
        match &self.storage {
            BlockStorage::Parts(parts) => {
                let columns = parts.first().map_or(0, |part| part.shape().dims()[1]);
                (parts.iter().map(|part| part.shape().dims()[0]).sum(), columns)
            }
            BlockStorage::Bf16(matrix) => matrix.dims2().unwrap_or_default(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.storage {
            BlockStorage::Parts(parts) => parts.iter().map(QTensor::storage_size_in_bytes).sum(),
            BlockStorage::Bf16(matrix) => matrix.elem_count() * DType::BF16.size_in_bytes(),
        }
    }

    pub(super) fn dense(&self) -> Result<Tensor> {
        match (&self.storage, &self.device, self.dtype) {
            (BlockStorage::Bf16(matrix), ..) => matrix.to_dtype(self.dtype),
            (BlockStorage::Parts(parts), Device::Cpu, DType::F32) => self.dense_on_cpu::<f32>(parts),
            (BlockStorage::Parts(parts), Device::Cpu, DType::BF16) => self.dense_on_cpu::<bf16>(parts),
            (BlockStorage::Parts(parts), ..) => {
                let dense = |part: &QTensor| ops::dequantise(part, self.dtype, &self.device);
                match &**parts {
                    [part] => dense(part),
                    parts => Tensor::cat(&parts.par_iter().map(dense).collect::<Result<Vec<_>>>()?, 0),
                }
            }
        }
    }

    /// Dequantises all parts into one matrix, in parallel.
    fn dense_on_cpu<S: Stored<Wide = f32>>(&self, parts: &[QTensor]) -> Result<Tensor> {
        let (rows, columns) = self.dims();
        let mut dense = vec![S::NOTHING; rows * columns];
        // All parts but the last have the same number of rows.
        let size = parts.first().map_or(1, |part| part.shape().elem_count());
        dense.par_chunks_mut(size).zip(parts).try_for_each(|(dense, part)| {
            let values = part.dequantize(&Device::Cpu)?;
            vectorised(Convert, (dense, values.flatten_all()?.to_vec1::<f32>()?.as_slice()));
            Ok::<(), candle_core::Error>(())
        })?;
        Tensor::from_vec(dense, (rows, columns), &Device::Cpu)
    }
}

/// Returns first row and number of rows of each part. On a GPU, the whole matrix is one part.
fn row_ranges(rows: usize, columns: usize, device: &Device) -> Vec<(usize, usize)> {
    let count = if matches!(device, Device::Cpu) { (PART / columns.max(1)).max(1) } else { rows.max(1) };
    (0..rows).step_by(count).map(|first| (first, count.min(rows - first))).collect()
}

fn upload_blocks(
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
        "rows of {columns} elements are not a multiple of the block size of {kind:?}, {block}; use q8_0 or q4_0, whose block size is 32"
    )
}

/// Quantises the matrices of linear layers of another source.
pub(crate) struct QuantisingSource<'a> {
    pub(crate) source: &'a mut dyn TensorSource,
    pub(crate) kind: GgmlDType,
}

impl TensorSource for QuantisingSource<'_> {
    fn get(&mut self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, ModelError> {
        self.source.get(name, shape)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> std::result::Result<LinearWeight, ModelError> {
        let quantised = QuantisedMatrix::new(&self.source.get(name, &shape)?, self.kind);
        let quantised = quantised.map_err(|error| {
            ModelError::Recipe(format!("`quantization`: tensor `{name}` cannot be quantised: {error}"))
        })?;
        Ok(LinearWeight::Quantised(quantised))
    }
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
    fn blocks_stand_for_nearly_the_same_elements_in_fewer_bytes() {
        // More than one part, the last one shorter.
        let dense = matrix(300, 256);
        let cases = [
            (GgmlDType::BF16, 0.004, 2.0),
            (GgmlDType::Q8_0, 0.005, 34.0 / 32.0),
            (GgmlDType::Q6K, 0.04, 210.0 / 256.0),
            (GgmlDType::Q4K, 0.12, 144.0 / 256.0),
            (GgmlDType::Q4_0, 0.14, 18.0 / 32.0),
        ];
        for (kind, tolerance, bytes_per_element) in cases {
            let quantised = QuantisedMatrix::new(&dense, kind).unwrap();
            assert_eq!(quantised.dims(), (300, 256));
            let difference = largest_difference(&quantised.dense().unwrap(), &dense);
            assert!(difference > 0.0 && difference < tolerance, "{kind:?}: {difference}");
            assert_eq!(quantised.bytes() as f64, 300.0 * 256.0 * bytes_per_element, "{kind:?}");
        }
    }

    #[test]
    fn parts_and_whole_matrices_have_the_same_blocks() {
        // Parts of 256 rows on the CPU; a GPU gets the blocks of all rows at once.
        let dense = matrix(300, 256);
        for kind in [GgmlDType::BF16, GgmlDType::Q8_0, GgmlDType::Q4K] {
            let parts = QuantisedMatrix::new(&dense, kind).unwrap();
            assert!(matches!(&parts.storage, BlockStorage::Parts(parts) if parts.len() == 2), "{kind:?}");
            let whole = QTensor::quantize(&dense, kind).unwrap();
            assert_eq!(parts.blocks().unwrap(), *whole.data().unwrap(), "{kind:?}");
        }
    }

    #[test]
    fn bf16_on_a_gpu_is_a_tensor_with_the_elements_of_the_blocks() {
        let dense = matrix(300, 256);
        let (blocks, tensor) = (
            QuantisedMatrix::new(&dense, GgmlDType::BF16).unwrap(),
            QuantisedMatrix::in_bf16(&dense).unwrap(),
        );
        assert_eq!(largest_difference(&blocks.dense().unwrap(), &tensor.dense().unwrap()), 0.0);
        assert_eq!(
            (blocks.dims(), blocks.bytes(), blocks.kind()),
            (tensor.dims(), tensor.bytes(), tensor.kind())
        );
        assert_eq!(blocks.blocks().unwrap(), tensor.blocks().unwrap());
    }

    #[test]
    fn rows_of_a_file_are_taken_in_the_order_asked_for() {
        let file = QTensor::quantize(&matrix(4, 64), GgmlDType::Q8_0).unwrap();
        let turned = QuantisedMatrix::from_file(&file, |row| 3 - row, DType::F32, &Device::Cpu).unwrap();
        let expected = file.dequantize(&Device::Cpu).unwrap().flip(&[0]).unwrap();
        assert_eq!(largest_difference(&turned.dense().unwrap(), &expected), 0.0);
    }

    #[test]
    fn rows_must_be_whole_blocks() {
        let error = QuantisedMatrix::new(&matrix(2, 100), GgmlDType::Q4K).unwrap_err().to_string();
        assert!(error.contains("rows of 100 elements"), "{error}");
    }
}
