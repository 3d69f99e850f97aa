//! Instruction sets of the CPU's kernels.

use std::sync::OnceLock;

use strum::{EnumString, VariantArray, VariantNames};

/// Variable with the newest instruction set to use.
const VARIABLE: &str = "PROSPECT_MAX_CPU_ISA";

/// Instruction sets that kernels are compiled for, from old to new.
///
/// Each needs those before it. Other machines than x86-64 have no limit: their kernels use what they
/// detect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumString, VariantArray, VariantNames)]
pub(crate) enum Isa {
    /// No vectors beyond those of the target's oldest machine.
    #[strum(serialize = "scalar")]
    Scalar,
    /// AVX2 with FMA.
    #[strum(serialize = "avx2")]
    Avx2,
    /// AVX-512.
    #[strum(serialize = "avx512")]
    Avx512,
    /// AVX-512 with dot products of bf16 pairs.
    #[strum(serialize = "avx512_bf16")]
    Avx512Bf16,
    /// Tile registers for products of bf16.
    #[strum(serialize = "amx_bf16")]
    AmxBf16,
}

impl Isa {
    /// Returns the newest instruction set to use.
    ///
    /// Without a limit, kernels use everything that they detect. An unknown name is no limit here;
    /// [`check`] refuses it.
    pub(super) fn limit() -> Self {
        static LIMIT: OnceLock<Isa> = OnceLock::new();
        #[cfg(test)]
        if let Some(isa) = for_tests::LIMIT.get() {
            return isa;
        }
        *LIMIT.get_or_init(|| {
            let limit = from_variable().ok().flatten().unwrap_or(Self::AmxBf16);
            let mut excluded = <Self as VariantArray>::VARIANTS.iter().filter(|isa| **isa > limit);
            // Kernels are those without a limit where it excludes nothing.
            if excluded.any(|isa| isa.is_available()) { limit } else { Self::AmxBf16 }
        })
    }

    /// Returns whether this machine has the instructions.
    fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let is_available = match self {
            Self::Scalar => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512 => Self::Avx2.is_available() && is_x86_feature_detected!("avx512f"),
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            Self::AmxBf16 => super::mixed::has_tiles(),
        };
        #[cfg(not(target_arch = "x86_64"))]
        let is_available = self == Self::Scalar;
        is_available
    }
}

/// Refuses an unknown name in the variable, and any name where it has no effect.
pub(crate) fn check() -> Result<(), String> {
    from_variable().map(drop)
}

fn from_variable() -> Result<Option<Isa>, String> {
    match std::env::var(VARIABLE) {
        Ok(name) if !name.is_empty() && !cfg!(target_arch = "x86_64") => {
            Err(format!("{VARIABLE}={name} has an effect on x86-64 only: unset it"))
        }
        Ok(name) if !name.is_empty() => parse(&name).map(Some),
        _ => Ok(None),
    }
}

fn parse(name: &str) -> Result<Isa, String> {
    name.parse().map_err(|_| {
        format!(
            "{VARIABLE}: unknown instruction set `{name}`; use one of {}",
            <Isa as VariantNames>::VARIANTS.join(", ")
        )
    })
}

/// Limits for parts of a test process.
#[cfg(test)]
mod for_tests {
    use std::cell::Cell;

    use strum::VariantArray;

    use super::Isa;

    thread_local! {
        pub(super) static LIMIT: Cell<Option<Isa>> = const { Cell::new(None) };
    }

    impl Isa {
        /// Returns the limits that this machine has kernels for, the last of which is none.
        pub(crate) fn of_this_machine() -> Vec<Self> {
            let available = <Self as VariantArray>::VARIANTS.iter().copied().filter(|isa| isa.is_available());
            let mut sets: Vec<_> = available.chain([Self::AmxBf16]).collect();
            sets.dedup();
            sets
        }

        /// Runs `work` on two threads of its own with this limit.
        pub(crate) fn limiting<R: Send>(self, work: impl FnOnce() -> R + Send) -> R {
            self.limiting_on(2, work)
        }

        /// Runs `work` on some threads of its own with this limit.
        pub(crate) fn limiting_on<R: Send>(self, threads: usize, work: impl FnOnce() -> R + Send) -> R {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .start_handler(move |_| LIMIT.set(Some(self)))
                .build()
                .unwrap();
            pool.install(work)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_sets_are_parsed_and_ordered() {
        let names = <Isa as VariantNames>::VARIANTS;
        let sets: Vec<_> = names.iter().map(|name| parse(name).unwrap()).collect();
        assert_eq!(sets, [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::AmxBf16]);
        assert!(sets.is_sorted());
        let error = parse("avx10").unwrap_err();
        assert!(error.contains("`avx10`; use one of scalar, avx2, avx512, avx512_bf16, amx_bf16"), "{error}");
    }
}
