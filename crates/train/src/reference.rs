//! Log-probs under the reference: the weights at the start of the stage.

use std::{
    collections::HashMap,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use fs_err::{File, OpenOptions};
use prospect_model::{Adapter, Decoder, PackedBatch};

use crate::TrainError;

/// The weights at the start of the stage.
#[derive(Debug)]
pub enum Reference<'a> {
    /// The policy with its adapter switched off.
    AdapterOff(&'a Decoder),
    /// Frozen weights beside a policy that is trained in full.
    Frozen(&'a Decoder),
}

impl Reference<'_> {
    fn log_probs(&self, batch: &PackedBatch, of: Of) -> Result<Vec<f64>, TrainError> {
        let (Self::AdapterOff(decoder) | Self::Frozen(decoder)) = self;
        Ok(match of {
            Of::Sequences => decoder.log_probs(batch, Adapter::Off)?,
            Of::Tokens => decoder.token_log_probs(batch, Adapter::Off)?,
        })
    }
}

/// Whose log-probs: those of whole completions, or of their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Sums over the tokens of each completion, by index of the completion.
    Sequences,
    /// Every scored token, in the order of [`PackedBatch::scored_sequences`].
    Tokens,
}

/// Reference log-probs by content, in a file that runs of a sweep share.
///
/// The key is a whole packed batch together with the name of the reference (weights, adapter, tokenizer, template,
/// element type), so that a log-prob from the cache is the one that would be computed, bit for bit: at step 0 policy
/// and reference agree exactly. Records are `key (32 bytes) count (u32) values (f64…)`, little-endian; one cut short by
/// a kill is dropped.
#[derive(Debug)]
pub struct ReferenceCache {
    path: PathBuf,
    known: HashMap<[u8; 32], Vec<f64>>,
    unsaved: Vec<u8>,
}

impl ReferenceCache {
    /// Opens the cache at `path`; an absent file is an empty cache.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let mut bytes = Vec::new();
        if path.exists() {
            File::open(path)?.read_to_end(&mut bytes)?;
        }
        let (known, whole) = parse(&bytes);
        if whole < bytes.len() {
            OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
        }
        Ok(Self { path: path.to_owned(), known, unsaved: Vec::new() })
    }

    /// Log-probs of `batch` under `reference`, which is named `name`.
    pub fn log_probs(
        &mut self,
        name: &str,
        reference: &Reference<'_>,
        batch: &PackedBatch,
        of: Of,
    ) -> Result<Vec<f64>, TrainError> {
        let mut hasher = blake3::Hasher::new_derive_key("prospect 2026 reference log-probs v1");
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(&batch.content());
        if of == Of::Tokens {
            hasher.update(b"tokens");
        }
        let key = *hasher.finalize().as_bytes();
        if let Some(values) = self.known.get(&key) {
            return Ok(values.clone());
        }
        let values = reference.log_probs(batch, of)?;
        self.unsaved.extend(key);
        self.unsaved.extend((values.len() as u32).to_le_bytes());
        self.unsaved.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.known.insert(key, values.clone());
        Ok(values)
    }

    /// Appends what is new to the file.
    pub fn save(&mut self) -> Result<(), TrainError> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(&self.unsaved)?;
        file.sync_all()?;
        self.unsaved.clear();
        Ok(())
    }
}

/// The records of a cache file, and how many of its bytes hold whole records.
fn parse(bytes: &[u8]) -> (HashMap<[u8; 32], Vec<f64>>, usize) {
    let (mut known, mut rest) = (HashMap::new(), bytes);
    while let Some((key, after)) = rest.split_first_chunk::<32>()
        && let Some((count, after)) = after.split_first_chunk::<4>()
        && let size = u32::from_le_bytes(*count) as usize * 8
        && after.len() >= size
    {
        let (values, after) = after.split_at(size);
        let (values, _) = values.as_chunks::<8>();
        known.insert(*key, values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect());
        rest = after;
    }
    (known, bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use prospect_model::{Architecture, Packer};

    use super::*;

    fn batch(token: u32) -> PackedBatch {
        let mut packer = Packer::default();
        let prompt = [1, 2];
        let id = packer.prompt(&prompt);
        packer.completion(id, std::slice::from_ref(&token), true);
        packer.pack().unwrap()
    }

    #[test]
    fn the_cache_survives_a_kill_and_knows_its_keys() {
        let architecture: Architecture = serde_json::from_str(
            r#"{"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32}"#,
        )
        .unwrap();
        let (one, two) =
            (Decoder::random(architecture.clone(), 0).unwrap(), Decoder::random(architecture, 1).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference.bin");
        let mut cache = ReferenceCache::open(&path).unwrap();
        let first = cache.log_probs("one", &Reference::Frozen(&one), &batch(3), Of::Sequences).unwrap();
        cache.save().unwrap();
        cache.log_probs("one", &Reference::Frozen(&one), &batch(4), Of::Sequences).unwrap();
        cache.save().unwrap();

        let whole = fs_err::read(&path).unwrap();
        fs_err::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut cache = ReferenceCache::open(&path).unwrap();
        assert_eq!(cache.known.len(), 1);
        // A known batch is not computed again, whatever model stands behind the name; any other key is.
        let lookup = |cache: &mut ReferenceCache, name: &str, token: u32| {
            cache.log_probs(name, &Reference::Frozen(&two), &batch(token), Of::Sequences).unwrap()
        };
        assert_eq!(lookup(&mut cache, "one", 3), first);
        assert_ne!(lookup(&mut cache, "two", 3), first);
        assert_ne!(lookup(&mut cache, "one", 4), first);
        let tokens = cache.log_probs("one", &Reference::Frozen(&two), &batch(3), Of::Tokens).unwrap();
        assert_ne!(tokens, first, "log-probs of tokens are not taken from those of sequences");
    }
}
