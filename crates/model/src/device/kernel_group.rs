//! Groups of our CUDA kernels, and which of them are in use.
//!
//! By default a GPU uses the groups that `prospect gpu-check` has verified on it, which
//! `verified.rs` remembers. `PROSPECT_KERNELS` names others: some, `all`, or `none`.

use std::{
    str::FromStr,
    sync::atomic::{AtomicU8, Ordering},
};

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// Variable that names the groups to use.
const VARIABLE: &str = "PROSPECT_KERNELS";

/// Kernels that are switched on together, named after their CUDA source.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray, Serialize, Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum KernelGroup {
    /// RMS norm and layer norm.
    Norm,
    /// Rotary embeddings.
    Rotary,
    /// SwiGLU and GELU.
    Activation,
    /// Attention over prompt trees.
    Attention,
    /// Log-probs of targets.
    LogProb,
    /// AdamW steps.
    #[strum(serialize = "adamw")]
    #[serde(rename = "adamw")]
    AdamW,
    /// Dequantisation.
    Dequantise,
}

/// Bits of the groups in use.
static IN_USE: AtomicU8 = AtomicU8::new(0);

impl KernelGroup {
    /// Returns all groups.
    pub fn all() -> &'static [Self] {
        Self::VARIANTS
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the names of groups, separated by commas: `none`, `all`, or each.
    pub fn names(groups: &[Self]) -> String {
        match groups {
            [] => "none".to_owned(),
            all if all == Self::VARIANTS => "all".to_owned(),
            some => some.iter().map(|group| group.name()).collect::<Vec<_>>().join(", "),
        }
    }

    /// Returns the group of a kernel by the name of its entry.
    pub fn of_entry(entry: &str) -> Option<Self> {
        let kernel = prospect_kernels::kernels().into_iter().find(|kernel| kernel.entry == entry)?;
        Self::from_str(kernel.source.name).ok()
    }

    /// Returns the groups in use by this process.
    pub fn in_use() -> Vec<Self> {
        Self::VARIANTS.iter().copied().filter(|group| group.is_on()).collect()
    }

    /// Uses these groups and no others from now on, in the whole process.
    pub fn use_only(groups: &[Self]) {
        IN_USE.store(groups.iter().fold(0, |bits, group| bits | group.bit()), Ordering::Relaxed);
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a build with CUDA has the kernels"))]
    pub(crate) fn is_on(self) -> bool {
        IN_USE.load(Ordering::Relaxed) & self.bit() != 0
    }

    /// Returns the groups that `PROSPECT_KERNELS` names; None if it is not set.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a build with CUDA has the kernels"))]
    pub(crate) fn from_variable() -> Result<Option<Vec<Self>>, String> {
        match std::env::var(VARIABLE) {
            Ok(text) if !text.trim().is_empty() => Self::parse_list(&text).map(Some),
            _ => Ok(None),
        }
    }

    /// Parses names separated by commas, `all` or `none`.
    fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut groups = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match (name, Self::from_str(name)) {
                (_, Ok(group)) => groups.push(group),
                ("all", _) => groups.extend(Self::VARIANTS),
                ("none", _) => {}
                _ => {
                    let names: Vec<_> = Self::VARIANTS.iter().map(|group| group.name()).collect();
                    return Err(format!(
                        "{VARIABLE}: unknown kernel `{name}`; use all, none, or some of {}",
                        names.join(", ")
                    ));
                }
            }
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_selected_by_name() {
        let parse = KernelGroup::parse_list;
        assert_eq!(parse("norm, adamw,"), Ok(vec![KernelGroup::Norm, KernelGroup::AdamW]));
        assert_eq!(parse("all").as_deref(), Ok(KernelGroup::VARIANTS));
        assert_eq!(parse("none"), Ok(Vec::new()));
        let error = parse("norm,adam_w").unwrap_err();
        assert!(error.contains("unknown kernel `adam_w`; use all, none, or some of norm, rotary"), "{error}");
    }

    #[test]
    fn names_are_those_of_the_sources() {
        for group in KernelGroup::all() {
            assert!(prospect_kernels::SOURCES.iter().any(|source| source.name == group.name()), "{group:?}");
            assert_eq!(serde_json::to_value(group).unwrap(), group.name());
        }
        for kernel in prospect_kernels::kernels() {
            assert!(KernelGroup::of_entry(&kernel.entry).is_some(), "{}", kernel.entry);
        }
        assert_eq!(KernelGroup::of_entry("norm_forward_f32"), Some(KernelGroup::Norm));
    }
}
