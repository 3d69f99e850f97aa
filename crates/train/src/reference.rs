//! Log-probs under the reference: the weights at the start of the stage.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use prospect_model::{Adapter, Decoder, PackedBatch};

mod file;

use crate::TrainError;
use file::RecordsFile;

/// The weights at the start of the stage.
#[derive(Debug)]
pub enum Reference<'a> {
    /// The policy with its adapter switched off.
    AdapterOff(&'a Decoder),
    /// Frozen weights beside a policy that is trained in full.
    Frozen(&'a Decoder),
}

impl Reference<'_> {
    fn log_probs(&self, batch: &PackedBatch, of: LogProbGranularity) -> Result<Vec<f64>, TrainError> {
        let (Self::AdapterOff(decoder) | Self::Frozen(decoder)) = self;
        Ok(match of {
            LogProbGranularity::Sequences => decoder.log_probs(batch, Adapter::Off)?,
            LogProbGranularity::Tokens => decoder.token_log_probs(batch, Adapter::Off)?,
        })
    }
}

/// Whose log-probs: those of whole completions, or of their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogProbGranularity {
    /// Sums over the tokens of each completion, by index of the completion.
    Sequences,
    /// Every scored token, in the order of [`PackedBatch::scored_sequences`].
    Tokens,
}

/// Reference log-probs by content, in a folder that runs, sweeps and processes share: one file for each reference.
///
/// The key is a whole packed batch together with the name of the reference (weights, adapter, tokenizer, template,
/// element type), so that a log-prob from the cache is the one that would be computed, bit for bit: at step 0 policy
/// and reference agree exactly. Runs that train side by side share one cache: what one of them is computing, another waits
/// for.
#[derive(Debug)]
pub struct ReferenceCache {
    folder: PathBuf,
    stores: Mutex<HashMap<String, Arc<Store>>>,
}

type Key = [u8; 32];

/// The log-probs under one reference.
#[derive(Debug)]
struct Store {
    file: RecordsFile,
    state: Mutex<State>,
    /// A log-prob has been computed, or will not be.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// None while it is being computed.
    known: HashMap<Key, Option<Vec<f64>>>,
    unsaved: Vec<Key>,
}

/// A thread that panicked left nothing half-done: every change of a map is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReferenceCache {
    /// The cache in `folder`; an absent folder is an empty cache. Files are read when a reference is first asked for.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), stores: Mutex::default() }
    }

    /// Log-probs of `batch` under `reference`, which is named `name`.
    pub fn log_probs(
        &self,
        name: &str,
        reference: &Reference<'_>,
        batch: &PackedBatch,
        of: LogProbGranularity,
    ) -> Result<Vec<f64>, TrainError> {
        let mut hasher = blake3::Hasher::new_derive_key("prospect 2026 reference log-probs v1");
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(&batch.content());
        if of == LogProbGranularity::Tokens {
            hasher.update(b"tokens");
        }
        let key = *hasher.finalize().as_bytes();
        let store = self.store(name)?;
        if let Some(values) = store.claim(key) {
            return Ok(values);
        }
        let mut claim = Claim { store: &store, key, values: None };
        let values = reference.log_probs(batch, of)?;
        claim.values = Some(values.clone());
        Ok(values)
    }

    /// Appends what is new to the files.
    pub fn save(&self) -> Result<(), TrainError> {
        let stores: Vec<_> = lock(&self.stores).values().cloned().collect();
        for store in stores {
            let mut state = lock(&store.state);
            let state = &mut *state;
            let new = state.unsaved.iter().filter_map(|key| Some((*key, state.known.get(key)?.as_deref()?)));
            store.file.append(new)?;
            state.unsaved.clear();
        }
        Ok(())
    }

    fn store(&self, name: &str) -> Result<Arc<Store>, TrainError> {
        let mut stores = lock(&self.stores);
        if let Some(store) = stores.get(name) {
            return Ok(Arc::clone(store));
        }
        let stem = &blake3::hash(name.as_bytes()).to_hex()[..16];
        let file = RecordsFile::at(self.folder.join(format!("{stem}.bin")));
        let known = file.read()?.into_iter().map(|(key, values)| (key, Some(values))).collect();
        let state = Mutex::new(State { known, unsaved: Vec::new() });
        let store = Arc::new(Store { file, state, changed: Condvar::new() });
        stores.insert(name.to_owned(), Arc::clone(&store));
        Ok(store)
    }
}

impl Store {
    /// The values of `key`, once they are known; None if the caller is to compute them.
    fn claim(&self, key: Key) -> Option<Vec<f64>> {
        let mut state = lock(&self.state);
        loop {
            match state.known.get(&key) {
                Some(Some(values)) => return Some(values.clone()),
                Some(None) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    state.known.insert(key, None);
                    return None;
                }
            }
        }
    }
}

/// The promise to compute a key's values. Dropped without them, it leaves the key to whoever waits.
struct Claim<'a> {
    store: &'a Store,
    key: Key,
    values: Option<Vec<f64>>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.store.state);
        match self.values.take() {
            Some(values) => {
                state.known.insert(self.key, Some(values));
                state.unsaved.push(self.key);
            }
            None => {
                state.known.remove(&self.key);
            }
        }
        self.store.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use prospect_model::{Architecture, Packer};

    use super::*;

    fn batch(token: u32) -> PackedBatch {
        let mut packer = Packer::default();
        let prompt = [1, 2];
        let id = packer.add_prompt(&prompt);
        packer.add_completion(id, std::slice::from_ref(&token), true);
        packer.pack().unwrap()
    }

    fn architecture() -> Architecture {
        serde_json::from_str(
            r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_cache_survives_a_kill_and_knows_its_keys() {
        let (one, two) =
            (Decoder::random(architecture(), 0).unwrap(), Decoder::random(architecture(), 1).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let cache = ReferenceCache::at(folder.path());
        let first = cache
            .log_probs("one", &Reference::Frozen(&one), &batch(3), LogProbGranularity::Sequences)
            .unwrap();
        cache.save().unwrap();
        cache.log_probs("one", &Reference::Frozen(&one), &batch(4), LogProbGranularity::Sequences).unwrap();
        cache.save().unwrap();

        let path = cache.store("one").unwrap().file.path().to_owned();
        let whole = fs_err::read(&path).unwrap();
        fs_err::write(&path, &whole[..whole.len() - 3]).unwrap();
        let cache = ReferenceCache::at(folder.path());
        assert_eq!(lock(&cache.store("one").unwrap().state).known.len(), 1);
        // A known batch is not computed again, whatever model stands behind the name; any other key is.
        let lookup = |name: &str, token: u32| {
            cache
                .log_probs(name, &Reference::Frozen(&two), &batch(token), LogProbGranularity::Sequences)
                .unwrap()
        };
        assert_eq!(lookup("one", 3), first);
        assert_ne!(lookup("two", 3), first);
        assert_ne!(lookup("one", 4), first);
        let tokens =
            cache.log_probs("one", &Reference::Frozen(&two), &batch(3), LogProbGranularity::Tokens).unwrap();
        assert_ne!(tokens, first, "log-probs of tokens are not taken from those of sequences");
    }
    #[test]
    fn sweeps_share_what_each_of_them_appends() {
        let folder = tempfile::tempdir().unwrap();
        let decoder = Decoder::random(architecture(), 0).unwrap();
        let reference = Reference::Frozen(&decoder);
        let (one, other) = (ReferenceCache::at(folder.path()), ReferenceCache::at(folder.path()));
        let mut expected = Vec::new();
        for (cache, token) in [(&one, 3), (&other, 4), (&one, 5)] {
            expected.push(
                cache.log_probs("r", &reference, &batch(token), LogProbGranularity::Sequences).unwrap(),
            );
            cache.save().unwrap();
        }
        // Another decoder behind the name shows that nothing is computed anew.
        let decoder = Decoder::random(architecture(), 1).unwrap();
        let cache = ReferenceCache::at(folder.path());
        for (token, expected) in (3..=5).zip(expected) {
            let found = cache.log_probs(
                "r",
                &Reference::Frozen(&decoder),
                &batch(token),
                LogProbGranularity::Sequences,
            );
            assert_eq!(found.unwrap(), expected);
        }
    }

    #[test]
    fn one_of_many_threads_computes_and_a_failure_leaves_the_work_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let decoder = Decoder::random(architecture(), 0).unwrap();
        let cache = ReferenceCache::at(folder.path());
        let work = || {
            cache
                .log_probs("r", &Reference::Frozen(&decoder), &batch(3), LogProbGranularity::Sequences)
                .unwrap()
        };
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|values| *values == found[0]));
        assert_eq!(lock(&cache.store("r").unwrap().state).unsaved.len(), 1);

        let fails = || {
            cache
                .log_probs("r", &Reference::Frozen(&decoder), &batch(16), LogProbGranularity::Sequences)
                .is_err()
        };
        assert!(fails() && fails(), "the second call does not wait for the first");
    }
}
