//! Instruction sets of the CPU's kernels.

use std::sync::OnceLock;

use strum::{EnumString, IntoStaticStr, VariantNames};

/// Variable with the newest instruction set to use.
const VARIABLE: &str = "PROSPECT_MAX_CPU_ISA";

/// Instruction sets that kernels are compiled for, from old to new.
///
/// On x86, each needs those before it. Other machines have [`Isa::Scalar`], which means code that
/// the compiler vectorises for every machine of the target, and what they detect at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantNames)]
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
}

impl Isa {
    /// Returns the newest instruction set to use.
    ///
    /// Without a limit, kernels use everything that they detect. An unknown name is no limit here;
    /// [`check`] refuses it.
    pub(super) fn limit() -> Self {
        #[cfg(test)]
        if let Some(isa) = for_tests::LIMIT.get() {
            return isa;
        }
        static LIMIT: OnceLock<Isa> = OnceLock::new();
        *LIMIT.get_or_init(|| from_variable().ok().flatten().unwrap_or(Self::Avx512Bf16))
    }
}

/// Refuses an unknown name in the variable.
pub(crate) fn check() -> Result<(), String> {
    from_variable().map(drop)
}

fn from_variable() -> Result<Option<Isa>, String> {
    match std::env::var(VARIABLE) {
        Ok(name) if !name.is_empty() => parse(&name).map(Some),
        _ => Ok(None),
    }
}

fn parse(name: &str) -> Result<Isa, String> {
    name.parse().map_err(|_| {
        format!("{VARIABLE}: unknown instruction set `{name}`; use one of {}", Isa::VARIANTS.join(", "))
    })
}

/// Limits for parts of a test process.
#[cfg(test)]
mod for_tests {
    use std::cell::Cell;

    use super::Isa;

    thread_local! {
        pub(super) static LIMIT: Cell<Option<Isa>> = const { Cell::new(None) };
    }

    impl Isa {
        /// Returns the instruction sets whose kernels run on this machine.
        pub(crate) fn of_this_machine() -> Vec<Self> {
            let mut sets = vec![Self::Scalar];
            #[cfg(target_arch = "x86_64")]
            {
                let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                let avx512 = avx2 && is_x86_feature_detected!("avx512f");
                let avx512_bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
                sets.extend(avx2.then_some(Self::Avx2));
                sets.extend(avx512.then_some(Self::Avx512));
                sets.extend(avx512_bf16.then_some(Self::Avx512Bf16));
            }
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
        let sets: Vec<_> = Isa::VARIANTS.iter().map(|name| parse(name).unwrap()).collect();
        assert_eq!(sets, [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16]);
        assert!(sets.is_sorted());
        let error = parse("avx10").unwrap_err();
        assert!(error.contains("`avx10`; use one of scalar, avx2, avx512, avx512_bf16"), "{error}");
    }
}
