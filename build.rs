//! Makes cargo rebuild the binary when a recipe that it carries is added or removed.

fn main() {
    for folder in ["pipelines", "models", "experiments", "schemas"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
