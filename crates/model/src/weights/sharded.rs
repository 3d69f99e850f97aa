//! Frozen matrices whose rows are divided among the ranks of a process group, as in ZeRO
//! (arXiv 1910.02054).

use std::{error::Error, sync::Arc};

use candle_core::{DType, Device, Error as TensorError, Result, Tensor, bail, quantized::GgmlDType};
use prospect_dist::{Collective, Gathered, MatrixShard, ShardedStore};

use super::{LinearWeight, QuantisedMatrix, TensorSource};
use crate::ModelError;

/// Frozen matrix with some of its rows on each rank. It is gathered for every product.
#[derive(Debug, Clone)]
pub(crate) struct ShardedMatrix {
    /// This rank's rows.
    shard: Arc<RowShard>,
    /// Index of the matrix in the store.
    index: usize,
    store: Arc<ShardedStore>,
}

/// Consecutive rows of a frozen matrix.
#[derive(Debug)]
struct RowShard {
    data: ShardData,
    /// Rows and columns of the whole matrix.
    whole_dims: (usize, usize),
}

#[derive(Debug)]
enum ShardData {
    Plain(Tensor),
    Quantised(QuantisedMatrix, GgmlDType),
}

type ShardResult<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

impl MatrixShard for RowShard {
    fn bytes(&self) -> ShardResult<Vec<u8>> {
        Ok(match &self.data {
            ShardData::Plain(rows) => {
                let mut bytes = Vec::with_capacity(rows.elem_count() * rows.dtype().size_in_bytes());
                rows.write_bytes(&mut bytes)?;
                bytes
            }
            ShardData::Quantised(rows, _) => rows.blocks()?,
        })
    }

    fn rows(&self) -> ShardResult<(Tensor, usize)> {
        let rows = match &self.data {
            ShardData::Plain(rows) => rows.clone(),
            ShardData::Quantised(rows, _) => rows.dense()?,
        };
        Ok((rows, self.whole_dims.0))
    }
}

impl ShardedMatrix {
    /// Keeps this rank's rows of `whole`. All ranks must shard the same matrices in the same order.
    pub(crate) fn from_whole(whole: &LinearWeight, store: &Arc<ShardedStore>) -> Result<Self> {
        let dims = whole.dims()?;
        let range = store.shard_range(dims.0);
        if dims.0 < store.world_size() {
            bail!("a matrix of {} rows cannot be divided among {} ranks", dims.0, store.world_size());
        }
        let data = match whole {
            // A copy, so that the whole matrix can be freed.
            LinearWeight::Plain(weight) => {
                ShardData::Plain(weight.value().narrow(0, range.start, range.len())?.force_contiguous()?)
            }
            LinearWeight::Quantised(quantised) => {
                let Some(kind) = quantised.kind() else { bail!("a quantised matrix without rows") };
                ShardData::Quantised(quantised.rows(range)?, kind)
            }
            LinearWeight::Sharded(_) => bail!("this matrix is sharded already"),
        };
        let shard = Arc::new(RowShard { data, whole_dims: dims });
        let part: Arc<dyn MatrixShard> = Arc::<RowShard>::clone(&shard);
        Ok(Self { index: store.register(&part), shard, store: Arc::clone(store) })
    }

    pub(super) fn dims(&self) -> (usize, usize) {
        self.shard.whole_dims
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.shard.data {
            ShardData::Plain(rows) => rows.elem_count() * rows.dtype().size_in_bytes(),
            ShardData::Quantised(rows, _) => rows.bytes(),
        }
    }

    /// Gathers the whole matrix from all ranks.
    pub(super) fn dense(&self) -> Result<Tensor> {
        let parts = match self.store.gather(self.index).map_err(TensorError::wrap)? {
            Gathered::Rows(rows) => return Ok(rows),
            Gathered::Bytes(parts) => parts,
        };
        match &self.shard.data {
            ShardData::Plain(own) => {
                let (dtype, device) = (own.dtype(), own.device());
                let rows = parts.into_iter().map(|part| self.plain(&part, dtype, device));
                Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
            }
            ShardData::Quantised(own, kind) => {
                own.like(self.shard.whole_dims, *kind, &parts.concat())?.dense()
            }
        }
    }

    /// Reads the rows of a shard from its bytes.
    fn plain(&self, part: &[u8], dtype: DType, device: &Device) -> Result<Tensor> {
        let columns = self.shard.whole_dims.1;
        let width = columns * dtype.size_in_bytes();
        Tensor::from_raw_buffer(part, dtype, &[part.len() / width, columns], device)
    }
}

/// Shards the matrices of linear layers of another source. Each is divided as soon as it is read,
/// so that no rank ever holds all of them.
pub(crate) struct ShardingSource<'a> {
    pub(crate) source: &'a mut dyn TensorSource,
    pub(crate) store: &'a Arc<ShardedStore>,
}

impl TensorSource for ShardingSource<'_> {
    fn get(&mut self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, ModelError> {
        self.source.get(name, shape)
    }

    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> std::result::Result<LinearWeight, ModelError> {
        let whole = self.source.matrix(name, shape)?;
        let sharded = ShardedMatrix::from_whole(&whole, self.store)
            .map_err(|error| ModelError::Recipe(format!("tensor `{name}`: {error}")))?;
        Ok(LinearWeight::Sharded(sharded))
    }
}

#[cfg(test)]
mod tests {
    use prospect_dist::thread_group;

    use super::*;
    use crate::parameters::WeightTensor;

    /// A matrix of ten rows, which three ranks cannot divide evenly.
    fn matrix(kind: Option<GgmlDType>, dtype: DType) -> LinearWeight {
        let data: Vec<f32> = (0..10 * 256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let dense = Tensor::from_vec(data, (10, 256), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        match kind {
            None => LinearWeight::Plain(WeightTensor::Frozen(dense)),
            Some(kind) => LinearWeight::Quantised(QuantisedMatrix::new(&dense, kind).unwrap()),
        }
    }

    fn elements(matrix: &LinearWeight) -> Vec<f32> {
        let dense = matrix.dense().unwrap().to_dtype(DType::F32).unwrap();
        dense.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn shards_make_the_same_matrix_in_any_type() {
        let kinds = [GgmlDType::BF16, GgmlDType::Q8_0, GgmlDType::Q4K].map(Some);
        for (kind, dtype) in
            kinds.into_iter().map(|kind| (kind, DType::F32)).chain([(None, DType::F32), (None, DType::BF16)])
        {
            let whole = matrix(kind, dtype);
            let (expected, bytes) = (&elements(&whole), whole.frozen_bytes());
            let parts: Vec<usize> = std::thread::scope(|scope| {
                let members = thread_group(3).into_iter().map(|member| {
                    scope.spawn(move || {
                        let sharing = Arc::new(ShardedStore::new(Box::new(member)));
                        let part = LinearWeight::Sharded(
                            ShardedMatrix::from_whole(&matrix(kind, dtype), &sharing).unwrap(),
                        );
                        assert_eq!(part.dims().unwrap(), (10, 256));
                        assert!(elements(&part) == *expected, "{kind:?} {dtype:?}");
                        // No rank drops its part before all have gathered it.
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
    fn more_ranks_than_rows_are_refused() {
        let members =
            thread_group(11).into_iter().map(|member| Arc::new(ShardedStore::new(Box::new(member))));
        for sharing in members.collect::<Vec<_>>() {
            let error =
                ShardedMatrix::from_whole(&matrix(None, DType::F32), &sharing).unwrap_err().to_string();
            assert!(error.contains("10 rows cannot be divided among 11 ranks"), "{error}");
        }
    }
}
