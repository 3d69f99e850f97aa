//! Experimental CUDA kernels for the operations that candle lacks, as source text for NVRTC. Off by
//! default, and never run on a GPU so far.
//!
//! Each kernel exists in three forms:
//!
//! | form | where | for |
//! |---|---|---|
//! | source | `cuda/*.cu` | the GPU |
//! | twin | beside its [`Operation`] ([`norm::forward`], [`attention::backward`], …) | definition in plain loops: f64, or f32 where bits must agree |
//! | check | [`check::all`] | comparison of source and twin over many shapes |
//!
//! A check runs on any [`Machine`](check::Machine). The tests use an emulated GPU that a C++
//! compiler builds from the sources, so they need no card. `prospect gpu-check` runs the same
//! checks on a card.
//!
//! All matrices are row-major and contiguous, with f32 or bf16 elements ([`Element`]). Arithmetic
//! is f32, and each result is rounded once. Kernels use no atomics, so the same inputs give the
//! same bits.
//!
//! ```
//! use prospect_kernels::{Element, norm};
//!
//! let kernel = norm::FORWARD.kernel(Element::Bf16);
//! assert_eq!(kernel.entry, "norm_forward_bf16");
//! assert!(kernel.source.text.contains("rms") || kernel.source.text.contains("RMS"));
//! let launch = norm::launch(4096)?;
//! assert_eq!((launch.grid, launch.block), ([4096, 1], 256));
//! assert_eq!(kernel.parameters[0].to_string(), "y: write bf16");
//! # Ok::<(), prospect_kernels::KernelError>(())
//! ```

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod check;
pub mod dequantise;
mod element;
mod kernel;
mod launch;
pub mod log_prob;
pub mod norm;
pub mod rotary;
pub mod squares;

pub use element::Element;
pub use kernel::{Kernel, KernelParameter, Operation, ParameterKind, SOURCES, ScalarType, Source};
pub use launch::{KernelError, Launch};

/// Returns all kernels of all sources.
pub fn kernels() -> Vec<Kernel> {
    let operations = [
        activation::OPERATIONS,
        adamw::OPERATIONS,
        attention::OPERATIONS,
        dequantise::OPERATIONS,
        log_prob::OPERATIONS,
        norm::OPERATIONS,
        rotary::OPERATIONS,
        squares::OPERATIONS,
    ];
    operations.into_iter().flatten().flat_map(|operation| operation.kernels()).collect()
}
