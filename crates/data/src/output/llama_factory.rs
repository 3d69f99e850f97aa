//! Export for LLaMA-Factory: JSON lines of conversations, and the `dataset_info.json` that
//! describes them.
//!
//! For KTO its loader expects `messages` (prompt and one reply) and `label`; for DPO `messages`,
//! `chosen` and `rejected`. It skips conversations whose turns do not alternate, so the export
//! leaves them out and counts them.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use fs_err::File;
use prospect_core::files::{WholeDir, write_json};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    BinaryRow, DataError, Message, PairRow, Split,
    output::parquet::{self, ParquetRow},
};

/// Counts of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LlamaFactoryCounts {
    /// Rows and pairs written.
    pub written: u64,
    /// Rows and pairs left out because their turns do not alternate.
    pub left_out: u64,
}

/// Record of the KTO format.
#[derive(Serialize)]
struct KtoRecord<'a> {
    messages: Vec<&'a Message>,
    label: bool,
}

/// Record of the DPO format.
#[derive(Serialize)]
struct DpoRecord<'a> {
    messages: Vec<&'a Message>,
    chosen: &'a Message,
    rejected: &'a Message,
}

/// Exports a dataset to the folder `out`, for LLaMA-Factory's `dataset_dir`. It contains the
/// datasets `NAME_kto`, `NAME_kto_test`, `NAME_dpo` and `NAME_dpo_test`. The folder appears only
/// when complete.
pub fn export_llama_factory(dataset: &Path, name: &str, out: &Path) -> Result<LlamaFactoryCounts, DataError> {
    if out.exists() && fs_err::read_dir(out)?.next().is_some() {
        let message = "is not empty; choose another folder or remove it".to_owned();
        return Err(DataError::Folder { folder: out.to_owned(), message });
    }
    let dir = WholeDir::create(out)?;
    let mut info = Map::new();
    let mut counts = LlamaFactoryCounts::default();
    for split in Split::ALL {
        let suffix = if split == Split::Test { "_test" } else { "" };
        let mut add = |kind: &str, columns: Value| {
            let mut entry = json!({
                "file_name": format!("{kind}{suffix}.jsonl"),
                "formatting": "sharegpt",
                "columns": columns,
                "tags": {
                    "role_tag": "role", "content_tag": "content",
                    "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system",
                },
            });
            if kind == "dpo" {
                entry["ranking"] = true.into();
            }
            info.insert(format!("{name}_{kind}{suffix}"), entry);
            dir.path().join(format!("{kind}{suffix}.jsonl"))
        };
        let kto = add("kto", json!({ "messages": "messages", "kto_tag": "label" }));
        let dpo = add("dpo", json!({ "messages": "messages", "chosen": "chosen", "rejected": "rejected" }));
        write::<BinaryRow>(dataset, split, &kto, &mut counts, |row, out| {
            let Some(completion) = reply(&row.prompt, &row.completion) else { return Ok(false) };
            let messages = row.prompt.iter().chain([completion]).collect();
            line(out, &KtoRecord { messages, label: row.label })
        })?;
        write::<PairRow>(dataset, split, &dpo, &mut counts, |pair, out| {
            let sides = [&pair.chosen, &pair.rejected].map(|side| reply(&pair.prompt, side));
            let [Some(chosen), Some(rejected)] = sides else { return Ok(false) };
            line(out, &DpoRecord { messages: pair.prompt.iter().collect(), chosen, rejected })
        })?;
    }
    write_json(&dir.path().join("dataset_info.json"), &info)?;
    dir.commit()?;
    Ok(counts)
}

fn write<R: ParquetRow>(
    dataset: &Path,
    split: Split,
    path: &Path,
    counts: &mut LlamaFactoryCounts,
    row: impl Fn(&R, &mut BufWriter<File>) -> Result<bool, DataError>,
) -> Result<(), DataError> {
    let mut out = BufWriter::new(File::create(path)?);
    for batch in parquet::batches::<R>(dataset, split, &[], None)? {
        for record in batch?.rows::<R>()? {
            let written = row(&record, &mut out)?;
            counts.written += u64::from(written);
            counts.left_out += u64::from(!written);
        }
    }
    Ok(out.flush()?)
}

fn line(out: &mut impl Write, row: &impl Serialize) -> Result<bool, DataError> {
    serde_json::to_writer(&mut *out, row).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(true)
}

/// Returns the single message of a completion; None unless it is the assistant's and the turns
/// before it alternate between user and assistant.
fn reply<'a>(prompt: &[Message], completion: &'a [Message]) -> Option<&'a Message> {
    let [reply] = completion else { return None };
    let turns = match prompt {
        [first, rest @ ..] if first.role == "system" => rest,
        turns => turns,
    };
    let alternate = turns.iter().zip(["user", "assistant"].into_iter().cycle());
    let alternates = alternate.into_iter().all(|(turn, role)| turn.role == role);
    (alternates && turns.len() % 2 == 1 && reply.role == "assistant").then_some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_conversations_that_alternate_have_a_reply() {
        let (user, assistant) = (Message::user("u"), Message::assistant("a"));
        let system = Message { role: "system".to_owned(), ..user.clone() };
        let one = std::slice::from_ref(&assistant);
        assert!(reply(std::slice::from_ref(&user), one).is_some());
        assert!(reply(&[system.clone(), user.clone()], one).is_some());
        assert!(reply(&[user.clone(), assistant.clone(), user.clone()], one).is_some());
        for prompt in
            [vec![], vec![system], vec![user.clone(), user.clone()], vec![user.clone(), assistant.clone()]]
        {
            assert!(reply(&prompt, one).is_none(), "{prompt:?}");
        }
        assert!(reply(std::slice::from_ref(&user), &[assistant.clone(), assistant.clone()]).is_none());
        assert!(reply(std::slice::from_ref(&user), std::slice::from_ref(&user)).is_none());
    }
}
