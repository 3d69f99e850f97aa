//! Generation by another engine, such as vLLM: prompts go out, completions come back.
//!
//! [`export_prompts`] writes the held-out prompts of every finished run as requests in the format of
//! OpenAI's batch API, and as templated text and tokens. [`import_generations`] reads the answers
//! back as the generations of the runs. A request is named `RUN:PROMPT:WEIGHTS:MODE`: the id of the
//! run, the content hash of the prompt, the hash of the run's weights, and the decoding strategy. An
//! answer counts only if all of them are still those of the run.

mod answers;
mod requests;

use std::path::{Path, PathBuf};

use prospect_core::{checksums, files::short_hash};
use prospect_runs::{GenerationMode, RunDir};

pub use answers::{ImportedGenerations, import_generations};
pub use requests::{ExportedPrompts, PromptOptions, export_prompts};

/// Name of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RequestId {
    run: String,
    prompt: String,
    weights: String,
    mode: GenerationMode,
}

impl RequestId {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':').map(str::to_owned);
        let (run, prompt, weights, mode) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let mode = serde_json::from_value(mode.into()).ok()?;
        parts.next().is_none().then_some(Self { run, prompt, weights, mode })
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run, prompt, weights, mode } = self;
        write!(f, "{run}:{prompt}:{weights}:{mode}")
    }
}

/// Folder of a run's trained weights, and whether they are an adapter; None for runs without
/// training.
fn weights_folder(run: &RunDir) -> Option<(PathBuf, bool)> {
    let folder = |name: &str| Some(run.path().join(name)).filter(|folder| folder.is_dir());
    folder("adapter").map(|folder| (folder, true)).or_else(|| Some((folder("model")?, false)))
}

/// Hash of a folder's recorded hashes, which stand for its weights.
fn weights_hash(folder: &Path) -> std::io::Result<String> {
    Ok(short_hash(&fs_err::read(folder.join(checksums::FILE))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_requests_are_read_back() {
        let id = RequestId {
            run: "0a1b".to_owned(),
            prompt: "c2".to_owned(),
            weights: "d3".to_owned(),
            mode: GenerationMode::Nucleus,
        };
        assert_eq!(id.to_string(), "0a1b:c2:d3:nucleus");
        assert_eq!(RequestId::parse("0a1b:c2:d3:nucleus"), Some(id));
        for other in ["0a1b:c2:d3", "0a1b:c2:d3:beam", "0a1b:c2:d3:greedy:x", "request-7"] {
            assert_eq!(RequestId::parse(other), None, "{other}");
        }
    }
}
