//! Reference log-probs and completions, cached on disk. The reference is the model at the start of
//! the stage.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use prospect_model::{Adapter, Decoder, PackedBatch, SequenceText};

mod cache_file;
mod completions;
mod synced;

use crate::TrainError;
use cache_file::{CacheFile, CacheKey};
pub(crate) use synced::SyncedReference;

/// The model at the start of the stage.
#[derive(Debug)]
pub enum ReferenceModel<'a> {
    /// The policy with its adapter disabled.
    AdapterOff(&'a Decoder),
    /// A frozen copy, for full fine-tuning.
    Frozen(&'a Decoder),
}

impl<'a> ReferenceModel<'a> {
    /// Returns the decoder, whose adapter is to be off.
    pub fn decoder(&self) -> &'a Decoder {
        let (Self::AdapterOff(decoder) | Self::Frozen(decoder)) = self;
        decoder
    }

    fn log_probs(
        &self,
        batch: &PackedBatch,
        granularity: LogProbGranularity,
    ) -> Result<Vec<f64>, TrainError> {
        granularity.log_probs(self.decoder(), batch, Adapter::Off)
    }
}

/// Granularity of cached log-probs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogProbGranularity {
    /// One per completion: the sum over its tokens.
    Sequences,
    /// One per scored token, in the order of [`PackedBatch::scored_sequences`].
    Tokens,
}

impl LogProbGranularity {
    fn log_probs(
        self,
        decoder: &Decoder,
        batch: &PackedBatch,
        adapter: Adapter,
    ) -> Result<Vec<f64>, TrainError> {
        Ok(match self {
            Self::Sequences => decoder.log_probs(batch, adapter)?,
            Self::Tokens => decoder.token_log_probs(batch, adapter)?,
        })
    }

    /// Divides log-probs of a batch by sequence.
    fn split(self, batch: &PackedBatch, log_probs: Vec<f64>) -> Vec<Vec<f64>> {
        match self {
            Self::Sequences => log_probs.into_iter().map(|log_prob| vec![log_prob]).collect(),
            Self::Tokens => {
                let mut split = vec![Vec::new(); batch.sequences()];
                for (sequence, log_prob) in batch.scored_sequences().zip(log_probs) {
                    split[sequence].push(log_prob);
                }
                split
            }
        }
    }

    /// Inverse of [`split`](Self::split).
    fn join(self, batch: &PackedBatch, split: Vec<Vec<f64>>) -> Vec<f64> {
        match self {
            Self::Sequences => split.concat(),
            Self::Tokens => {
                let mut split: Vec<_> = split.into_iter().map(Vec::into_iter).collect();
                batch.scored_sequences().filter_map(|sequence| split[sequence].next()).collect()
            }
        }
    }
}

/// Cache of reference log-probs and completions: a folder with one file per reference, shared by
/// runs, sweeps and processes.
///
/// The key hashes the name of the reference (weights, adapter, tokenizer, template, element type)
/// and the tokens of a sequence. On a GPU, where log-probs depend on the other sequences of a pass,
/// an entry is a whole packed batch. A cached log-prob therefore equals the computed one bit for
/// bit, and policy and reference agree exactly at step 0. Damaged entries are reported and computed
/// again.
///
/// Runs that see the same sequences in other orders thus compute them once. Concurrent runs of a
/// process share one cache. If one run is computing an entry, the others wait for it.
#[derive(Debug)]
pub struct ReferenceCache {
    folder: PathBuf,
    shards: Mutex<HashMap<String, Arc<CacheShard>>>,
}

/// Log-probs under one reference.
#[derive(Debug)]
struct CacheShard {
    file: CacheFile,
    entries: Mutex<CacheEntries>,
    /// Signals that a pending entry was computed or given up.
    changed: Condvar,
    /// Entries computed by this process.
    computed: AtomicUsize,
}

#[derive(Debug)]
struct CacheEntries {
    /// `None` while an entry is being computed.
    values: HashMap<CacheKey, Option<Vec<f64>>>,
    unsaved: Vec<CacheKey>,
}

/// Locks a mutex, poisoned or not: every change of the map is one call, so a panic leaves it
/// intact.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReferenceCache {
    /// Opens the cache in `folder`. A missing folder is an empty cache; files are read on first
    /// use.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), shards: Mutex::default() }
    }

    /// Returns true if a file of this name belongs to a cache.
    pub fn is_cache_file(path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == cache_file::EXTENSION)
    }

    /// Describes the damage of a file of a cache; None if it is intact.
    pub fn damage(path: &Path) -> std::io::Result<Option<String>> {
        CacheFile::new(path.to_owned()).damage()
    }

    /// Removes damaged entries from a file of a cache.
    pub fn remove_damage(path: &Path) -> std::io::Result<()> {
        CacheFile::new(path.to_owned()).remove_damage()
    }

    /// Returns log-probs of `batch` under `reference`, called `name`; computes them if needed.
    pub fn log_probs(
        &self,
        name: &str,
        reference: &ReferenceModel<'_>,
        batch: &PackedBatch,
        granularity: LogProbGranularity,
    ) -> Result<Vec<f64>, TrainError> {
        let shard = self.shard(name)?;
        if !reference.decoder().rows_are_independent() {
            let key = batch_key(name, batch, granularity);
            let compute = |_: &[usize]| Ok(vec![reference.log_probs(batch, granularity)?]);
            return Ok(shard.get_or_compute(&[key], compute)?.concat());
        }
        let compute = |missing: &[usize]| {
            let part = batch.select(missing)?;
            Ok(granularity.split(&part, reference.log_probs(&part, granularity)?))
        };
        let values = shard.get_or_compute(&sequence_keys(name, batch, granularity), compute)?;
        Ok(granularity.join(batch, values))
    }

    /// Adds log-probs of `batch` under the reference called `name` that are known already, where
    /// `is_by_sequence` is [`Decoder::rows_are_independent`] of the reference.
    pub(crate) fn insert(
        &self,
        name: &str,
        batch: &PackedBatch,
        granularity: LogProbGranularity,
        log_probs: &[f64],
        is_by_sequence: bool,
    ) -> Result<(), TrainError> {
        let (keys, values) = if is_by_sequence {
            (sequence_keys(name, batch, granularity), granularity.split(batch, log_probs.to_vec()))
        } else {
            (vec![batch_key(name, batch, granularity)], vec![log_probs.to_vec()])
        };
        let shard = self.shard(name)?;
        shard.get_or_compute(&keys, |missing| {
            Ok(missing.iter().map(|index| values[*index].clone()).collect())
        })?;
        Ok(())
    }

    /// Returns the number of entries that this process has computed, because no file and no other
    /// run had them.
    pub fn computed(&self) -> usize {
        lock(&self.shards).values().map(|shard| shard.computed.load(Ordering::Relaxed)).sum()
    }

    /// Appends new entries to the files.
    pub fn save(&self) -> Result<(), TrainError> {
        let shards: Vec<_> = lock(&self.shards).values().cloned().collect();
        for shard in shards {
            let mut entries = lock(&shard.entries);
            let CacheEntries { values, unsaved } = &mut *entries;
            let new = unsaved.iter().filter_map(|key| Some((*key, values.get(key)?.as_deref()?)));
            shard.file.append(new)?;
            unsaved.clear();
        }
        Ok(())
    }

    fn shard(&self, name: &str) -> Result<Arc<CacheShard>, TrainError> {
        let mut shards = lock(&self.shards);
        if let Some(shard) = shards.get(name) {
            return Ok(Arc::clone(shard));
        }
        let stem = &blake3::hash(name.as_bytes()).to_hex()[..16];
        let file = CacheFile::new(self.folder.join(format!("{stem}.{}", cache_file::EXTENSION)));
        let values = file.read()?.into_iter().map(|(key, values)| (key, Some(values))).collect();
        let entries = Mutex::new(CacheEntries { values, unsaved: Vec::new() });
        let shard =
            Arc::new(CacheShard { file, entries, changed: Condvar::new(), computed: AtomicUsize::default() });
        shards.insert(name.to_owned(), Arc::clone(&shard));
        Ok(shard)
    }
}

impl CacheShard {
    /// Returns the entries of `keys`. Missing ones come from `compute`, which receives their
    /// indices. Entries that other threads are computing are waited for only once all others are
    /// there, so that threads never wait for each other.
    fn get_or_compute(
        &self,
        keys: &[CacheKey],
        compute: impl Fn(&[usize]) -> Result<Vec<Vec<f64>>, TrainError>,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        loop {
            let reserved = match self.get_or_reserve(keys) {
                Lookup::Found(values) => return Ok(values),
                Lookup::Reserved(reserved) => reserved,
            };
            let mut pending: Vec<PendingEntry<'_>> = reserved
                .iter()
                .map(|index| PendingEntry { shard: self, key: keys[*index], values: None })
                .collect();
            let computed = compute(&reserved)?;
            self.computed.fetch_add(reserved.len(), Ordering::Relaxed);
            for (pending, values) in pending.iter_mut().zip(computed) {
                pending.values = Some(values);
            }
        }
    }

    /// Returns all entries, or reserves those that are missing and returns their indices.
    fn get_or_reserve(&self, keys: &[CacheKey]) -> Lookup {
        let mut entries = lock(&self.entries);
        loop {
            let values: Option<Vec<_>> = keys.iter().map(|key| entries.values.get(key)?.clone()).collect();
            if let Some(values) = values {
                return Lookup::Found(values);
            }
            let mut reserved = Vec::new();
            for (index, key) in keys.iter().enumerate() {
                if let Entry::Vacant(vacant) = entries.values.entry(*key) {
                    vacant.insert(None);
                    reserved.push(index);
                }
            }
            if !reserved.is_empty() {
                return Lookup::Reserved(reserved);
            }
            entries = self.changed.wait(entries).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Result of looking up entries.
enum Lookup {
    Found(Vec<Vec<f64>>),
    /// Indices of entries that the caller has to compute.
    Reserved(Vec<usize>),
}

fn hasher(name: &str, granularity: LogProbGranularity, context: &str) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
    hasher.update(match granularity {
        LogProbGranularity::Sequences => b"sequence",
        LogProbGranularity::Tokens => b"tokens  ",
    });
    hasher
}

/// Returns the key of a whole batch.
fn batch_key(name: &str, batch: &PackedBatch, granularity: LogProbGranularity) -> CacheKey {
    let mut hasher = hasher(name, granularity, "prospect 2026 reference log-probs of a batch v2");
    *hasher.update(&batch.content()).finalize().as_bytes()
}

/// Returns the key of every sequence of a batch.
fn sequence_keys(name: &str, batch: &PackedBatch, granularity: LogProbGranularity) -> Vec<CacheKey> {
    let start = hasher(name, granularity, "prospect 2026 reference log-probs of a sequence v1");
    let key = |text: SequenceText<'_>| {
        let mut hasher = start.clone();
        hasher.update(&(text.prompt.len() as u64).to_le_bytes());
        for token in text.prompt.iter().chain(&text.completion) {
            hasher.update(&token.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    };
    batch.texts().into_iter().map(key).collect()
}

/// A reserved entry. Dropped without values, it releases the reservation, so that a waiting thread
/// computes the entry.
struct PendingEntry<'a> {
    shard: &'a CacheShard,
    key: CacheKey,
    values: Option<Vec<f64>>,
}

impl Drop for PendingEntry<'_> {
    fn drop(&mut self) {
        let mut entries = lock(&self.shard.entries);
        match self.values.take() {
            Some(values) => {
                entries.values.insert(self.key, Some(values));
                entries.unsaved.push(self.key);
            }
            None => {
                entries.values.remove(&self.key);
            }
        }
        self.shard.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use prospect_model::{Architecture, Packer};
    use prospect_testkit::flipped;

    use super::*;

    fn batch(token: u32) -> PackedBatch {
        let mut packer = Packer::default();
        let prompt = [1, 2];
        let id = packer.add_prompt(&prompt);
        packer.add_completion(id, std::slice::from_ref(&token), true);
        packer.pack().unwrap()
    }

    fn decoder(seed: u64) -> Decoder {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        Decoder::random(architecture, seed).unwrap()
    }

    /// Log-probs of the sequences of `batch(token)`.
    fn sequences(
        cache: &ReferenceCache,
        name: &str,
        decoder: &Decoder,
        token: u32,
    ) -> Result<Vec<f64>, TrainError> {
        let reference = ReferenceModel::Frozen(decoder);
        cache.log_probs(name, &reference, &batch(token), LogProbGranularity::Sequences)
    }

    #[test]
    fn the_cache_survives_a_kill_and_knows_its_keys() {
        let (one, two) = (decoder(0), decoder(1));
        let folder = tempfile::tempdir().unwrap();
        let cache = ReferenceCache::new(folder.path());
        let first = sequences(&cache, "one", &one, 3).unwrap();
        cache.save().unwrap();
        sequences(&cache, "one", &one, 4).unwrap();
        cache.save().unwrap();

        let path = cache.shard("one").unwrap().file.path().to_owned();
        let whole = fs_err::read(&path).unwrap();
        fs_err::write(&path, &whole[..whole.len() - 3]).unwrap();
        let cache = ReferenceCache::new(folder.path());
        assert_eq!(lock(&cache.shard("one").unwrap().entries).values.len(), 1);
        // A known entry is not computed again, even with another model under the name.
        let lookup = |name: &str, token: u32| sequences(&cache, name, &two, token).unwrap();
        assert_eq!(lookup("one", 3), first);
        assert_ne!(lookup("two", 3), first);
        assert_ne!(lookup("one", 4), first);
        let reference = ReferenceModel::Frozen(&two);
        let tokens = cache.log_probs("one", &reference, &batch(3), LogProbGranularity::Tokens).unwrap();
        assert_ne!(tokens, first, "token log-probs are separate from sequence log-probs");
    }

    #[test]
    fn sweeps_share_what_each_of_them_appends() {
        let folder = tempfile::tempdir().unwrap();
        let computing = decoder(0);
        let (one, other) = (ReferenceCache::new(folder.path()), ReferenceCache::new(folder.path()));
        let mut expected = Vec::new();
        for (cache, token) in [(&one, 3), (&other, 4), (&one, 5)] {
            expected.push(sequences(cache, "r", &computing, token).unwrap());
            cache.save().unwrap();
        }
        // A different decoder under the same name shows that nothing is computed again.
        let different = decoder(1);
        let cache = ReferenceCache::new(folder.path());
        for (token, expected) in (3..=5).zip(expected) {
            assert_eq!(sequences(&cache, "r", &different, token).unwrap(), expected);
        }
    }

    #[test]
    fn damaged_log_probs_are_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let decoder = decoder(0);
        let all = |cache: &ReferenceCache| -> Vec<Vec<f64>> {
            (3..6).map(|token| sequences(cache, "r", &decoder, token).unwrap()).collect()
        };
        let cache = ReferenceCache::new(folder.path());
        let expected = all(&cache);
        cache.save().unwrap();
        let path = cache.shard("r").unwrap().file.path().to_owned();
        let whole = fs_err::read(&path).unwrap();
        for (position, damaged) in flipped(&whole, whole.len()) {
            fs_err::write(&path, damaged).unwrap();
            let cache = ReferenceCache::new(folder.path());
            assert_eq!(all(&cache), expected, "byte {position}");
            assert_eq!(lock(&cache.shard("r").unwrap().entries).unsaved.len(), 1, "byte {position}");
            cache.save().unwrap();
            assert_eq!(fs_err::read(&path).unwrap().len(), whole.len(), "byte {position}");
        }
    }

    #[test]
    fn one_of_many_threads_computes_and_a_failure_leaves_the_work_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let decoder = decoder(0);
        let cache = ReferenceCache::new(folder.path());
        let work = || sequences(&cache, "r", &decoder, 3).unwrap();
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|values| *values == found[0]));
        assert_eq!(lock(&cache.shard("r").unwrap().entries).unsaved.len(), 1);

        // Token 16 is outside the vocabulary.
        let fails = || sequences(&cache, "r", &decoder, 16).is_err();
        assert!(fails() && fails(), "the second call does not wait for the first");
    }
}
