//! A library that makes calls of the file system fail, compiled by `cc` and loaded by `LD_PRELOAD`.

use std::sync::LazyLock;

use super::*;

/// Path of the compiled library.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shim-{}", std::process::id()));
    fs_err::create_dir_all(&folder).unwrap();
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    fs_err::write(&source, include_str!("shim.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-Wno-nonnull-compare", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl");
    assert!(compiler.status().unwrap().success(), "cc compiles the library of faults");
    library
});

/// Variables for a command whose calls below the folder of `place` fail.
pub(super) fn variables(place: &Place, settings: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let root = place.path("").canonicalize().unwrap().display().to_string();
    let mut variables = vec![("LD_PRELOAD", LIBRARY.display().to_string()), ("SHIM_ROOT", root)];
    variables.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    variables
}
