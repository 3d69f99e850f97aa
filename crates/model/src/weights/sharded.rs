//! Matrices whose elements are divided among the ranks of a process group, as in ZeRO
//! (arXiv 1910.02054).

use std::sync::Arc;

use candle_core::{DType, Result, Tensor, quantized::GgmlDType};
use prospect_dist::{PendingGather, Shard, ShardedStore};

use super::{LinearWeight, QuantisedMatrix, TensorSource};
use crate::{
    ModelError,
    layers::DecoderBlock,
    parameters::{Parameter, Parameters, WeightTensor},
};

/// Matrix with a part of its elements on each rank. It is gathered for the passes of its block.
#[derive(Debug, Clone)]
pub(crate) struct ShardedMatrix {
    shard: Arc<Shard>,
    /// Id of the matrix in the store.
    id: usize,
    store: ShardedStore,
    /// Rows and columns.
    dims: (usize, usize),
    form: ShardForm,
}

/// Form of the elements of a shard.
#[derive(Debug, Clone)]
enum ShardForm {
    /// Frozen elements of the matrix.
    Frozen,
    /// Trained elements of the matrix.
    Trained(Parameter),
    /// Bytes of the blocks of a frozen matrix, and the type of its elements when dequantised.
    Blocks(GgmlDType, DType),
}

impl ShardedMatrix {
    /// Keeps this rank's part of `whole`. All ranks must shard the same matrices in the same order.
    pub(crate) fn from_whole(whole: &LinearWeight, store: &ShardedStore) -> Result<Self> {
        let dims = whole.dims()?;
        let (elements, form) = match whole {
            LinearWeight::Quantised(quantised) => {
                let (kind, dtype) = quantised.types()?;
                (quantised.block_bytes()?, ShardForm::Blocks(kind, dtype))
            }
            LinearWeight::Plain(weight) => (weight.value().clone(), ShardForm::Frozen),
            LinearWeight::Sharded(sharded) => return Ok(sharded.clone()),
        };
        let Shard { own, count } = Shard::of(&elements, store)?;
        // A copy, so that the whole matrix can be freed.
        Ok(Self::register(Shard { own: own.force_contiguous()?, count }, store, dims, form))
    }

    fn register(shard: Shard, store: &ShardedStore, dims: (usize, usize), form: ShardForm) -> Self {
        let shard = Arc::new(shard);
        Self { id: store.register(&shard), shard, store: store.clone(), dims, form }
    }

    /// Returns a trainable copy whose shards are parameters called `name`.
    pub(crate) fn trained(&self, name: String, parameters: &mut Parameters) -> Result<Self> {
        let own = match &self.form {
            ShardForm::Frozen | ShardForm::Trained(_) => self.shard.own.clone(),
            ShardForm::Blocks(..) => Shard::of(&self.whole()?.dense()?, &self.store)?.own,
        };
        let parameter = parameters.add_shard(name, &own, self.dims.into())?;
        let shard = Shard { own: parameter.value().clone(), count: self.dims.0 * self.dims.1 };
        Ok(Self::register(shard, &self.store, self.dims, ShardForm::Trained(parameter)))
    }

    pub(crate) fn dims(&self) -> (usize, usize) {
        self.dims
    }

    /// Returns true if the elements are trained.
    pub(crate) fn is_trained(&self) -> bool {
        matches!(self.form, ShardForm::Trained(_))
    }

    /// Returns the type of the blocks of a quantised matrix.
    pub(crate) fn kind(&self) -> Option<GgmlDType> {
        match self.form {
            ShardForm::Blocks(kind, _) => Some(kind),
            ShardForm::Frozen | ShardForm::Trained(_) => None,
        }
    }

    /// Returns the bytes on this rank of a frozen matrix; 0 if it is trained.
    pub(super) fn frozen_bytes(&self) -> usize {
        if self.is_trained() { 0 } else { self.shard.bytes() }
    }

    /// Returns the bytes of the whole matrix as it is gathered.
    pub(crate) fn gathered_bytes(&self) -> usize {
        self.shard.count * self.shard.own.dtype().size_in_bytes()
    }

    /// Gathers the whole matrix from all ranks.
    pub(super) fn whole(&self) -> Result<LinearWeight> {
        let whole = self.store.gather(&[self.id])?;
        self.assemble(&Tensor::cat(&whole, 0)?)
    }

    /// Makes the whole matrix of its gathered elements or blocks.
    fn assemble(&self, flat: &Tensor) -> Result<LinearWeight> {
        Ok(match &self.form {
            ShardForm::Frozen => LinearWeight::Plain(WeightTensor::Frozen(flat.reshape(self.dims)?)),
            ShardForm::Trained(parameter) => {
                LinearWeight::Plain(WeightTensor::Gathered(flat.reshape(self.dims)?, parameter.clone()))
            }
            ShardForm::Blocks(kind, dtype) => {
                LinearWeight::Quantised(QuantisedMatrix::from_block_bytes(flat, self.dims, *kind, *dtype)?)
            }
        })
    }
}

/// Gather of all matrices of a block.
pub(crate) struct BlockGather(PendingGather);

impl DecoderBlock {
    /// Starts to gather the sharded matrices in one exchange. None if no matrix is sharded.
    pub(crate) fn start_gather(&self) -> Option<BlockGather> {
        let mut sharded = self.linears().filter_map(|linear| match &linear.weight {
            LinearWeight::Sharded(sharded) => Some(sharded),
            LinearWeight::Plain(_) | LinearWeight::Quantised(_) => None,
        });
        let first = sharded.next()?;
        let ids: Vec<usize> = std::iter::once(first).chain(sharded).map(|matrix| matrix.id).collect();
        Some(BlockGather(first.store.start_gather(&ids)))
    }

    /// Returns a copy with whole matrices, once they are gathered.
    pub(crate) fn gathered(&self, BlockGather(pending): BlockGather) -> Result<Self> {
        let mut tensors = pending.wait()?.into_iter();
        let mut block = self.clone();
        for linear in block.linears_mut() {
            if let LinearWeight::Sharded(sharded) = &linear.weight
                && let Some(flat) = tensors.next()
            {
                linear.weight = sharded.assemble(&flat)?;
            }
        }
        Ok(block)
    }
}

/// Shards the matrices of linear layers of another source. Each is divided as soon as it is read,
/// so that no rank ever holds all of them.
pub(crate) struct ShardingSource<'a> {
    pub(crate) source: &'a mut dyn TensorSource,
    pub(crate) store: &'a ShardedStore,
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
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use candle_core::Device;
    use prospect_dist::{
        Collective, CollectiveError, DeviceCollective, PreparedGather, PreparedSum, ThreadRank, ZeroStage,
        on_threads,
    };

    use super::*;

    /// Group that counts the bytes that its ranks send.
    #[derive(Debug)]
    struct Counted {
        group: Arc<ThreadRank>,
        sent: Arc<AtomicUsize>,
        /// Exchanges tensors as devices do.
        direct: bool,
    }

    impl Collective for Counted {
        fn rank(&self) -> usize {
            self.group.rank()
        }

        fn world_size(&self) -> usize {
            self.group.world_size()
        }

        fn all_gather(&self, own: Vec<u8>) -> std::result::Result<Vec<Vec<u8>>, CollectiveError> {
            self.sent.fetch_add(own.len(), Ordering::Relaxed);
            self.group.all_gather(own)
        }

        fn device_collective(&self) -> Option<&dyn DeviceCollective> {
            self.direct.then_some(self)
        }
    }

    impl DeviceCollective for Counted {
        fn prepare_all_reduce<'a>(
            &'a self,
            own: &Tensor,
        ) -> std::result::Result<PreparedSum<'a>, CollectiveError> {
            let own = own.clone();
            Ok(Box::new(move || self.group.all_reduce_tensor(&own)))
        }

        fn prepare_reduce_scatter<'a>(
            &'a self,
            own: &Tensor,
        ) -> std::result::Result<PreparedSum<'a>, CollectiveError> {
            let own = own.clone();
            Ok(Box::new(move || self.group.reduce_scatter_tensor(&own)))
        }

        fn prepare_gather(&self, shards: &[Shard]) -> std::result::Result<PreparedGather, CollectiveError> {
            self.sent.fetch_add(shards.iter().map(Shard::bytes).sum(), Ordering::Relaxed);
            let (group, shards) = (Arc::clone(&self.group), shards.to_vec());
            Ok(Box::new(move || group.all_gather_shards(&shards)))
        }
    }

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
        let cases = kinds.map(|kind| (kind, DType::F32)).into_iter();
        let cases = cases.chain([(None, DType::F32), (None, DType::BF16)]);
        for ((kind, dtype), direct) in cases.flat_map(|case| [(case, false), (case, true)]) {
            let whole = matrix(kind, dtype);
            let (expected, bytes) = (&elements(&whole), whole.frozen_bytes());
            let sent = Arc::new(AtomicUsize::new(0));
            let parts = on_threads(3, |group| {
                let group = Counted { group: Arc::new(group), sent: Arc::clone(&sent), direct };
                let store = ShardedStore::new(Box::new(group), ZeroStage::Two);
                let part =
                    LinearWeight::Sharded(ShardedMatrix::from_whole(&matrix(kind, dtype), &store).unwrap());
                assert_eq!(part.dims().unwrap(), (10, 256));
                assert!(elements(&part) == *expected, "{kind:?} {dtype:?}");
                // No rank drops its part before all have gathered it.
                store.barrier().unwrap();
                part.frozen_bytes()
            });
            assert_eq!(parts.iter().sum::<usize>(), bytes, "{kind:?} {dtype:?}");
            assert!(parts.iter().all(|part| *part <= bytes * 4 / 10), "{parts:?}");
            // The bytes of the matrix as it is stored, the id that each rank asked for, and, before
            // devices exchange, the byte by which each rank confirms that it has the memory.
            let more = 3 * (8 + usize::from(direct));
            assert_eq!(sent.load(Ordering::Relaxed), bytes + more, "{kind:?} {dtype:?}");
        }
    }
}
