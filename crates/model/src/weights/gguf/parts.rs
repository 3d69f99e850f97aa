//! GGUF files, whole or split by `llama-gguf-split`.

use std::{
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use fs_err::File;

use super::tensor_types::{READABLE_NAMES, unreadable};
use crate::ModelError;

/// One file, with its header.
pub(super) struct Part {
    pub(super) file: File,
    pub(super) content: Content,
}

impl Part {
    fn open(path: &Path) -> Result<Self, ModelError> {
        let fail = |message: String| ModelError::Weights(format!("{}: {message}", path.display()));
        let mut file = File::open(path)?;
        let error = match Content::read(&mut file) {
            Ok(content) => return Ok(Self { file, content }),
            Err(error) => error,
        };
        let mut magic = [0; 4];
        file.rewind()?;
        if !(file.read_exact(&mut magic).is_ok() && &magic == b"GGUF") {
            return Err(fail(not_gguf(path)));
        }
        let types = unreadable(path);
        if types.is_empty() {
            return Err(fail(format!("not a complete GGUF file: {error}")));
        }
        let types: Vec<String> =
            types.into_iter().map(|(name, count)| format!("{name} ({count} tensors)")).collect();
        Err(fail(format!(
            "the file has tensors of types that cannot be read: {} (those that can are {READABLE_NAMES}); use a file \
             of another type, or convert this one: llama-quantize --allow-requantize {} OUT.gguf Q8_0",
            types.join(", "),
            path.display()
        )))
    }
}

/// Says what to use in place of a file that is not GGUF.
fn not_gguf(path: &Path) -> String {
    let pickles = ["bin", "pt", "pth", "ckpt"];
    if path.extension().is_some_and(|ending| pickles.iter().any(|pickle| ending == *pickle)) {
        "PyTorch files are not read; save the model as safetensors (`model.save_pretrained(FOLDER)`) and set \
         `weights:` to that folder"
    } else {
        "not a GGUF file; `weights:` is a Hugging Face folder, a .safetensors or a .gguf file, an hf:// address of \
         one of these, or `random`"
    }
    .to_owned()
}

/// Returns all files of the model that `path` is a part of, in order. Their names end in
/// `-00001-of-00003.gguf`.
pub(super) fn paths(path: &Path) -> Vec<PathBuf> {
    let split = || {
        let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = name.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let parsed: [usize; 2] = [number.parse().ok()?, count.parse().ok()?];
        (number.len() == 5 && count.len() == 5 && (1..=parsed[1]).contains(&parsed[0])).then(|| {
            let part = |part: usize| path.with_file_name(format!("{stem}-{part:05}-of-{count}.gguf"));
            (1..=parsed[1]).map(part).collect()
        })
    };
    split().unwrap_or_else(|| vec![path.to_owned()])
}

/// Opens all files of the model that `path` is a part of. The first has the metadata.
pub(super) fn open(path: &Path) -> Result<Vec<Part>, ModelError> {
    let paths = paths(path);
    let fail = |message: String| ModelError::Weights(format!("{}: {message}", path.display()));
    let missing: Vec<_> = paths
        .iter()
        .filter(|path| paths.len() > 1 && !path.exists())
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy())
        .collect();
    if !missing.is_empty() {
        return Err(fail(format!(
            "{} of {} parts are missing: `{}`; copy them to the same folder",
            missing.len(),
            paths.len(),
            missing.join("`, `")
        )));
    }
    let parts = paths.iter().map(|path| Part::open(path)).collect::<Result<Vec<_>, _>>()?;
    let number = |key: &str| {
        let value = parts.first().and_then(|part| part.content.metadata.get(key));
        value.and_then(|value| match value {
            Value::U16(count) => Some(usize::from(*count)),
            Value::I32(count) => usize::try_from(*count).ok(),
            other => other.to_u64().ok().and_then(|count| usize::try_from(count).ok()),
        })
    };
    let declared = number("split.count").unwrap_or(1);
    if declared > parts.len() {
        return Err(fail(format!(
            "the file is one of {declared} parts, but its name does not say which; name them as llama-gguf-split does: \
             NAME-00001-of-{declared:05}.gguf and so on"
        )));
    }
    let tensors: usize = parts.iter().map(|part| part.content.tensor_infos.len()).sum();
    match number("split.tensors.count") {
        Some(expected) if expected != tensors => Err(fail(format!(
            "the parts have {tensors} tensors together, not {expected}; are they of the same model?"
        ))),
        _ => Ok(parts),
    }
}

/// Returns the part with a tensor, and the tensor's header.
pub(super) fn find<'a>(parts: &'a [Part], tensor: &str) -> Option<(usize, &'a TensorInfo)> {
    parts.iter().enumerate().find_map(|(index, part)| Some((index, part.content.tensor_infos.get(tensor)?)))
}
