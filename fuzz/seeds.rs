//! Writes what fuzzing of models and services starts from, to `corpus/` in this folder.

fn main() -> std::io::Result<()> {
    prospect_fuzz::write_seeds(std::path::Path::new(env!("CARGO_MANIFEST_DIR")))
}
