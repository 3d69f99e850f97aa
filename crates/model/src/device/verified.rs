//! Kernels that `prospect gpu-check` has verified on a GPU, remembered by GPU, driver and program.

use std::path::{Path, PathBuf};

use prospect_core::files::{fingerprint, hash_file, write_json};

use super::{DeviceInfo, KernelGroup};
use crate::ModelError;

/// Returns the folder of the files: `prospect/kernels` in the user's cache.
fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join("prospect").join("kernels"))
}

/// Returns the file of a GPU with this driver and this program.
fn file(folder: &Path, info: &DeviceInfo) -> std::io::Result<PathBuf> {
    let DeviceInfo { name, compute_capability, driver, .. } = info;
    let program = hash_file(&std::env::current_exe()?)?;
    let key = fingerprint(&(name, compute_capability, driver, program))?;
    Ok(folder.join(format!("{key}.json")))
}

/// Returns the groups that are verified on a GPU; none if nothing is known.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a build with CUDA has the kernels"))]
pub(super) fn verified(info: &DeviceInfo) -> Vec<KernelGroup> {
    let Some(folder) = folder() else { return Vec::new() };
    let Ok(text) = file(&folder, info).and_then(fs_err::read) else { return Vec::new() };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!("verified kernels are ignored: {error}: {}", folder.display());
        Vec::new()
    })
}

/// Remembers the groups that are verified on a GPU, and returns the file.
pub(super) fn remember(info: &DeviceInfo, groups: &[KernelGroup]) -> Result<PathBuf, ModelError> {
    let folder = folder().ok_or_else(|| {
        ModelError::Device("cannot remember verified kernels: no HOME; set XDG_CACHE_HOME".to_owned())
    })?;
    fs_err::create_dir_all(&folder)?;
    let file = file(&folder, info)?;
    write_json(&file, &groups)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_differ_by_gpu_and_driver() {
        let info = |name: &str, driver: &str| DeviceInfo {
            name: name.to_owned(),
            memory: Some(1),
            free: None,
            driver: Some(driver.to_owned()),
            compute_capability: Some("9.0".to_owned()),
        };
        let file = |info: &DeviceInfo| super::file(Path::new("cache"), info).unwrap();
        let one = file(&info("card", "13.0"));
        assert_eq!(one, file(&DeviceInfo { free: Some(3), ..info("card", "13.0") }));
        assert_ne!(one, file(&info("card", "13.1")));
        assert_ne!(one, file(&info("other", "13.0")));
    }
}
