//! The CUDA kernels that candle lacks, as source text for NVRTC, with what a launcher and a test need to know of them.
//!
//! A kernel exists three times. `cuda/*.cu` is what a GPU runs. A twin beside its description ([`norm::forward`],
//! [`attention::backward`], …) says in plain loops what it computes, in f64, or in f32 where the bits must agree. And a
//! check ([`check::all`]) runs it on a [`Machine`](check::Machine) over many shapes and compares it with its twin. The
//! tests' machine is this crate's own emulation of a GPU by a C++ compiler, so no card is needed; on a card, the same
//! checks run on the same sources.
//!
//! All matrices are row-major and contiguous. Numbers are f32 or bf16 ([`Element`]), arithmetic is f32, a result is
//! rounded once. No kernel uses atomics: the same inputs give the same bits.
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

pub use element::Element;
pub use kernel::{Item, Kernel, Kind, Operation, Parameter, SOURCES, Source};
pub use launch::{KernelError, Launch};

/// Every kernel of every source.
pub fn kernels() -> Vec<Kernel> {
    let operations = [
        activation::OPERATIONS,
        adamw::OPERATIONS,
        attention::OPERATIONS,
        dequantise::OPERATIONS,
        log_prob::OPERATIONS,
        norm::OPERATIONS,
        rotary::OPERATIONS,
    ];
    operations.into_iter().flatten().flat_map(|operation| operation.kernels()).collect()
}
