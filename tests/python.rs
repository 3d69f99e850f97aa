//! The Python packages: their versions, and the hand-over to the CUDA build.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::support::{Place, repository};

#[test]
fn the_extra_asks_for_the_cuda_build_of_this_version() {
    let metadata = fs_err::read_to_string(repository("pyproject.toml")).unwrap();
    let extra =
        format!("cuda = [\"prospect-kto-cuda=={}; sys_platform == 'linux'\"]", env!("CARGO_PKG_VERSION"));
    assert!(metadata.contains(&extra), "pyproject.toml lacks {extra}");
}

/// A Python environment: `prospect` in `bin/`, and `script` in place of the CUDA build.
fn environment(script: &str) -> Place {
    let place = Place::new();
    let packages = place.path("lib/python3.12/site-packages/prospect_kto_cuda");
    fs_err::create_dir_all(&packages).unwrap();
    fs_err::create_dir(place.path("bin")).unwrap();
    fs_err::copy(place.command("").get_program(), place.path("bin/prospect")).unwrap();
    let binary = packages.join("prospect");
    fs_err::write(&binary, script).unwrap();
    fs_err::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    place
}

fn run(place: &Place, choice: &str) -> Output {
    let mut command = Command::new(Path::new(&place.path("bin/prospect")));
    command.args(["doctor", "--json"]).env("PROSPECT_CUDA", choice).output().unwrap()
}

#[test]
fn prospect_hands_over_to_the_cuda_build() {
    let place = environment("#!/bin/sh\necho \"cuda: $*\"\n");
    let taken_over = run(&place, "on");
    assert!(taken_over.status.success());
    assert_eq!(String::from_utf8(taken_over.stdout).unwrap(), "cuda: doctor --json\n");
    let kept = run(&place, "off");
    assert!(kept.status.success());
    let facts: serde_json::Value = serde_json::from_slice(&kept.stdout).unwrap();
    assert_eq!(facts["gpu"]["none"], "the variable PROSPECT_CUDA chooses the CPU");
}

#[test]
fn a_cuda_build_that_does_not_load_is_an_error() {
    let place = environment("#!/bin/sh\necho 'libcuda.so.1: cannot open shared object file' >&2\nexit 127\n");
    let failed = run(&place, "on");
    assert_eq!(failed.status.code(), Some(1));
    let message = String::from_utf8(failed.stderr).unwrap();
    assert!(
        message.contains("does not start: libcuda.so.1: cannot open")
            && message.contains("PROSPECT_CUDA=off")
    );
}
