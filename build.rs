//! Makes cargo rebuild the binary when a recipe that it carries is added or removed, and tells a
//! build with CUDA where NVIDIA's Python packages put their libraries.

/// Folders of NVIDIA's libraries, seen from `prospect_kto_cuda/` in a folder of Python packages.
const LIBRARIES: [&str; 2] = ["nvidia/cu13/lib", "nvidia/nccl/lib"];

fn main() {
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        for folder in LIBRARIES {
            println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../{folder}");
        }
    }
    for folder in ["pipelines", "models", "experiments", "schemas"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
