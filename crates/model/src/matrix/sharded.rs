//! Frozen matrices of which every member of a group keeps some rows.

use std::{error::Error, sync::Arc};

use candle_core::{DType, Device, Error as TensorError, Result, Tensor, bail, quantized::GgmlDType};
use prospect_dist::{Collective, Gathered, MatrixShard, ShardedStore};

use super::{Matrix, Quantised};

/// A frozen matrix of which this member keeps some rows. It is put together of all parts for every product and never kept
/// whole, as in ZeRO (arXiv 1910.02054).
#[derive(Debug, Clone)]
pub(crate) struct Sharded {
    /// This member's rows, as they are kept.
    own: Arc<Rows>,
    /// The matrix's number among what the group shares.
    thing: usize,
    sharing: Arc<ShardedStore>,
}

/// Some rows of a frozen matrix.
#[derive(Debug)]
struct Rows {
    kept: Kept,
    /// Rows and columns of the whole matrix.
    of: (usize, usize),
}

#[derive(Debug)]
enum Kept {
    Plain(Tensor),
    Quantised(Quantised, GgmlDType),
}

type KernelArg<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

impl MatrixShard for Rows {
    fn bytes(&self) -> KernelArg<Vec<u8>> {
        Ok(match &self.kept {
            Kept::Plain(rows) => {
                let mut bytes = Vec::with_capacity(rows.elem_count() * rows.dtype().size_in_bytes());
                rows.write_bytes(&mut bytes)?;
                bytes
            }
            Kept::Quantised(rows, _) => rows.blocks()?,
        })
    }

    fn rows(&self) -> KernelArg<(Tensor, usize)> {
        let rows = match &self.kept {
            Kept::Plain(rows) => rows.clone(),
            Kept::Quantised(rows, _) => rows.dense()?,
        };
        Ok((rows, self.of.0))
    }
}

impl Sharded {
    /// Keeps this member's rows of `whole`. All members make the same matrices in the same order.
    pub(crate) fn of(whole: &Matrix, sharing: &Arc<ShardedStore>) -> Result<Self> {
        let dims = whole.dims()?;
        let range = sharing.shard_range(dims.0);
        if dims.0 < sharing.world_size() {
            bail!("a matrix of {} rows has no part for each of {} ranks", dims.0, sharing.world_size());
        }
        let kept = match whole {
            // Memory of its own, so that the rest can go.
            Matrix::Plain(weight) => {
                Kept::Plain(weight.value().narrow(0, range.start, range.len())?.force_contiguous()?)
            }
            Matrix::Quantised(quantised) => {
                let Some(kind) = quantised.kind() else { bail!("a quantised matrix without rows") };
                Kept::Quantised(quantised.rows(range)?, kind)
            }
            Matrix::Sharded(_) => bail!("this matrix is kept in parts already"),
        };
        let own = Arc::new(Rows { kept, of: dims });
        let part: Arc<dyn MatrixShard> = Arc::<Rows>::clone(&own);
        Ok(Self { thing: sharing.register(&part), own, sharing: Arc::clone(sharing) })
    }

    pub(super) fn dims(&self) -> (usize, usize) {
        self.own.of
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.own.kept {
            Kept::Plain(rows) => rows.elem_count() * rows.dtype().size_in_bytes(),
            Kept::Quantised(rows, _) => rows.bytes(),
        }
    }

    /// The whole matrix, until it is dropped.
    pub(super) fn dense(&self) -> Result<Tensor> {
        let parts = match self.sharing.gather(self.thing).map_err(TensorError::wrap)? {
            Gathered::Rows(rows) => return Ok(rows),
            Gathered::Bytes(parts) => parts,
        };
        match &self.own.kept {
            Kept::Plain(own) => {
                let (dtype, device) = (own.dtype(), own.device());
                let rows = parts.into_iter().map(|part| self.plain(&part, dtype, device));
                Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
            }
            Kept::Quantised(own, kind) => own.like(self.own.of, *kind, &parts.concat())?.dense(),
        }
    }

    /// Rows that a member gave.
    fn plain(&self, part: &[u8], dtype: DType, device: &Device) -> Result<Tensor> {
        let columns = self.own.of.1;
        let width = columns * dtype.size_in_bytes();
        Tensor::from_raw_buffer(part, dtype, &[part.len() / width, columns], device)
    }
}

#[cfg(test)]
mod tests {
    use prospect_dist::thread_group;

    use super::*;
    use crate::parameters::Weight;

    /// A matrix of ten rows that cannot be dealt evenly to three members.
    fn matrix(kind: Option<GgmlDType>, dtype: DType) -> Matrix {
        let data: Vec<f32> = (0..10 * 256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let dense = Tensor::from_vec(data, (10, 256), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        match kind {
            None => Matrix::Plain(Weight::Frozen(dense)),
            Some(kind) => Matrix::Quantised(Quantised::new(&dense, kind).unwrap()),
        }
    }

    fn numbers(matrix: &Matrix) -> Vec<f32> {
        let dense = matrix.dense().unwrap().to_dtype(DType::F32).unwrap();
        dense.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn parts_make_the_same_matrix_in_any_type() {
        let kinds = [GgmlDType::BF16, GgmlDType::Q8_0, GgmlDType::Q4K].map(Some);
        for (kind, dtype) in
            kinds.into_iter().map(|kind| (kind, DType::F32)).chain([(None, DType::F32), (None, DType::BF16)])
        {
            let whole = matrix(kind, dtype);
            let (expected, bytes) = (&numbers(&whole), whole.frozen_bytes());
            let parts: Vec<usize> = std::thread::scope(|scope| {
                let members = thread_group(3).into_iter().map(|member| {
                    scope.spawn(move || {
                        let sharing = Arc::new(ShardedStore::new(Box::new(member)));
                        let part = Matrix::Sharded(Sharded::of(&matrix(kind, dtype), &sharing).unwrap());
                        assert_eq!(part.dims().unwrap(), (10, 256));
                        assert!(numbers(&part) == *expected, "{kind:?} {dtype:?}");
                        // None goes before all have seen it.
                        sharing.barrier().unwrap();
                        part.frozen_bytes()
                    })
                });
                let members: Vec<_> = members.collect();
                members.into_iter().map(|member| member.join().unwrap()).collect()
            });
            assert_eq!(parts.iter().sum::<usize>(), bytes, "{kind:?} {dtype:?}");
            assert!(parts.iter().all(|part| *part <= bytes * 4 / 10), "{parts:?}");
        }
    }

    #[test]
    fn more_members_than_rows_are_refused() {
        let members =
            thread_group(11).into_iter().map(|member| Arc::new(ShardedStore::new(Box::new(member))));
        for sharing in members.collect::<Vec<_>>() {
            let error = Sharded::of(&matrix(None, DType::F32), &sharing).unwrap_err().to_string();
            assert!(error.contains("10 rows has no part for each of 11 ranks"), "{error}");
        }
    }
}
