//! Prints log-probs of held-out pairs as JSON lines, to compare with other implementations
//! (`benches/peers/check_peft.py`).
//!
//! ```sh
//! cargo run --release -p prospect-train --example log_probs -- \
//!     WEIGHTS ADAPTER_DIR DATASET PAIRS > rows.jsonl
//! ```

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use prospect_core::config::Document;
use prospect_model::{Adapter, ModelFile, Packer, load_adapter};
use prospect_train::{Encoder, Objective, PairExample};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [weights, adapter, dataset, pairs] = args.as_slice() else {
        return Err("usage: log_probs WEIGHTS ADAPTER_DIR DATASET PAIRS".into());
    };
    let recipe = Document::from_text("model", &format!("weights: {weights}\nchat_template: chatml"))?;
    let model = recipe.read::<ModelFile>()?.resolve(&|path| Ok(PathBuf::from(path)))?.load()?;
    let policy = load_adapter(&model.decoder, Path::new(adapter))?;
    let encoder = Encoder::new(&model, 256, 192);
    let mut out = std::io::stdout().lock();
    for pair in
        PairExample::read_held_out(Path::new(dataset), &Objective::Sft, &encoder)?.iter().take(pairs.parse()?)
    {
        for encoded in [&pair.chosen, &pair.rejected] {
            let mut packer = Packer::default();
            let prompt = packer.add_prompt(&encoded.prompt);
            packer.add_completion(prompt, &encoded.completion, false);
            let packed = packer.pack()?;
            let row = serde_json::json!({
                "prompt_ids": encoded.prompt,
                "completion_ids": encoded.completion,
                "logp": policy.log_probs(&packed, Adapter::On)?[0],
                "ref_logp": policy.log_probs(&packed, Adapter::Off)?[0],
            });
            writeln!(out, "{row}")?;
        }
    }
    Ok(())
}
