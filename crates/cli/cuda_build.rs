//! Hand-over to the CUDA build that the Python package `prospect-kto-cuda` installs beside this
//! one.
//!
//! The CUDA build does not load without NVIDIA's driver. So `prospect` is the CPU build, and
//! replaces itself by the CUDA build on machines with a driver.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Variable that overrides the choice: `off` stays on the CPU, `on` insists on the CUDA build.
pub(crate) const VARIABLE: &str = "PROSPECT_CUDA";

/// Path of the binary in a folder of Python packages.
const BINARY: &str = "prospect_kto_cuda/prospect";

/// Device files of NVIDIA's driver: on Linux, and on Windows' subsystem for Linux.
const DRIVER_FILES: [&str; 2] = ["/dev/nvidiactl", "/dev/dxg"];

/// Reason for which this build runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stay {
    /// This is a build with CUDA.
    IsCuda,
    /// No CUDA build is installed beside this one.
    NotInstalled,
    /// The user chose the CPU, by the variable with this name.
    Chosen(&'static str),
    /// The machine has no driver.
    NoDriver,
}

impl Stay {
    /// Describes why there is no GPU.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::IsCuda | Self::NotInstalled => {
                "this build has no CUDA; pip install 'prospect-kto[cuda]', or build with --features cuda \
                 (scripts/check-cuda.sh)"
                    .to_owned()
            }
            Self::Chosen(variable) => format!("the variable {variable} chooses the CPU"),
            Self::NoDriver => {
                format!(
                    "no NVIDIA driver (none of {} exists); nvidia-smi must list the GPU",
                    DRIVER_FILES.join(", ")
                )
            }
        }
    }
}

/// Decision, from what the machine has.
fn decide(
    installed: Option<PathBuf>,
    variable: impl Fn(&str) -> Option<String>,
    has_driver: bool,
) -> Result<PathBuf, Stay> {
    const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";
    if cfg!(feature = "cuda") {
        return Err(Stay::IsCuda);
    }
    let choice = variable(VARIABLE);
    if choice.as_deref() == Some("off") {
        return Err(Stay::Chosen(VARIABLE));
    }
    let binary = installed.ok_or(Stay::NotInstalled)?;
    if choice.as_deref() == Some("on") {
        return Ok(binary);
    }
    if variable(VISIBLE).is_some_and(|devices| ["", "-1"].contains(&devices.trim())) {
        return Err(Stay::Chosen(VISIBLE));
    }
    if has_driver { Ok(binary) } else { Err(Stay::NoDriver) }
}

fn has_driver() -> bool {
    DRIVER_FILES.iter().any(|file| Path::new(file).exists())
}

/// Decides for this process.
fn decide_here() -> Result<PathBuf, Stay> {
    let installed = env::current_exe().ok().and_then(|program| find(&program));
    decide(installed, |name| env::var(name).ok(), has_driver())
}

/// Returns why this build runs instead of one with CUDA.
pub(crate) fn why_not() -> Stay {
    decide_here().err().unwrap_or(Stay::NoDriver)
}

/// Finds the CUDA build in the Python environment of `program`: beside `bin/`, or in its folder of
/// packages.
fn find(program: &Path) -> Option<PathBuf> {
    let environment = program.parent()?.parent()?;
    let mut packages = vec![environment.to_owned()];
    for library in ["lib", "lib64"] {
        let Ok(entries) = fs_err::read_dir(environment.join(library)) else { continue };
        let versions = entries.filter_map(|entry| Some(entry.ok()?.path()));
        for version in versions.filter(|path| is_python(path)) {
            packages.extend(["site-packages", "dist-packages"].map(|folder| version.join(folder)));
        }
    }
    packages.sort();
    packages.into_iter().map(|folder| folder.join(BINARY)).find(|binary| binary.is_file())
}

fn is_python(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3"))
}

/// Replaces this process by the CUDA build, if there is one and a driver.
///
/// Returns otherwise. An error means that the CUDA build is needed and does not start.
pub(crate) fn hand_over() -> anyhow::Result<()> {
    let Ok(binary) = decide_here() else { return Ok(()) };
    // The loader reports missing libraries before anything of the program runs.
    let probe = Command::new(&binary).arg("--version").output();
    let problem = match probe {
        Ok(probe) if probe.status.success() => replace_by(&binary).to_string(),
        Ok(probe) => String::from_utf8_lossy(&probe.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    anyhow::bail!(
        "the CUDA build {} does not start: {problem}; repair it (pip install --force-reinstall 'prospect-kto[cuda]'), or set \
         {VARIABLE}=off to use the CPU",
        binary.display()
    )
}

/// Replaces this process by `binary` with the same arguments. Returns only on failure.
fn replace_by(binary: &Path) -> io::Error {
    use std::os::unix::process::CommandExt;
    Command::new(binary).args(env::args_os().skip(1)).exec()
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    use super::*;

    #[test]
    fn the_cuda_build_runs_where_it_is_installed_and_a_driver_is() {
        let binary = || Some(PathBuf::from("x"));
        let none = |_: &str| None;
        let set = |name: &'static str, value: &'static str| {
            move |asked: &str| (asked == name).then(|| value.to_owned())
        };
        assert_eq!(decide(binary(), none, true), Ok("x".into()));
        assert_eq!(decide(binary(), none, false), Err(Stay::NoDriver));
        assert_eq!(decide(None, none, true), Err(Stay::NotInstalled));
        assert_eq!(decide(binary(), set(VARIABLE, "off"), true), Err(Stay::Chosen(VARIABLE)));
        assert_eq!(decide(binary(), set(VARIABLE, "on"), false), Ok("x".into()));
        let hidden = Err(Stay::Chosen("CUDA_VISIBLE_DEVICES"));
        assert_eq!(decide(binary(), set("CUDA_VISIBLE_DEVICES", ""), true), hidden);
        assert_eq!(decide(binary(), set("CUDA_VISIBLE_DEVICES", "0,1"), true), Ok("x".into()));
    }

    #[test]
    fn the_cuda_build_is_found_in_the_environment_of_the_program() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("bin/prospect");
        assert_eq!(find(&program), None);
        for packages in ["lib/python3.12/site-packages", "."] {
            let binary = place.path().join(packages).join(BINARY);
            fs_err::create_dir_all(binary.parent().unwrap()).unwrap();
            fs_err::write(&binary, "").unwrap();
            assert_eq!(find(&program).unwrap().canonicalize().unwrap(), binary.canonicalize().unwrap());
            fs_err::remove_file(&binary).unwrap();
        }
    }
}
