//! Selection of our CUDA kernels by the environment variable `PROSPECT_KERNELS`.

use std::{str::FromStr, sync::OnceLock};

use strum::{EnumString, IntoStaticStr, VariantArray};

/// Kernels that are switched on together, named after their CUDA source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum KernelGroup {
    Norm,
    Rotary,
    Activation,
    Attention,
    LogProb,
    #[strum(serialize = "adamw")]
    AdamW,
    Dequantise,
}

impl KernelGroup {
    /// Returns the groups in `PROSPECT_KERNELS`: names separated by commas, or `all`; none by
    /// default. The error is an unknown name.
    pub(crate) fn switched_on() -> Result<&'static [Self], &'static str> {
        static ON: OnceLock<Result<Vec<KernelGroup>, String>> = OnceLock::new();
        ON.get_or_init(|| Self::parse_list(&std::env::var("PROSPECT_KERNELS").unwrap_or_default()))
            .as_deref()
            .map_err(String::as_str)
    }

    fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut on = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match Self::from_str(name) {
                Ok(group) => on.push(group),
                Err(_) if name == "all" => on.extend(Self::VARIANTS),
                Err(_) => return Err(name.to_owned()),
            }
        }
        Ok(on)
    }

    /// Returns all names, separated by commas.
    pub(crate) fn names() -> String {
        Self::VARIANTS.iter().map(<&'static str>::from).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn is_on(self) -> bool {
        Self::switched_on().is_ok_and(|on| on.contains(&self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_selected_by_name() {
        assert_eq!(KernelGroup::names(), "norm, rotary, activation, attention, log_prob, adamw, dequantise");
        let parse = KernelGroup::parse_list;
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("norm, adamw,"), Ok(vec![KernelGroup::Norm, KernelGroup::AdamW]));
        assert_eq!(parse("all").as_deref(), Ok(KernelGroup::VARIANTS));
        assert_eq!(parse("norm,adam_w"), Err("adam_w".to_owned()));
    }
}
