//! A temporary folder to run the binary in, and the output of a run.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Model recipe small enough to train in a test.
pub(crate) const MODEL: &str = "\
weights: random
tokenizer: bytes
train: full
architecture:
  vocab_size: 258
  hidden_size: 16
  intermediate_size: 32
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  head_dim: 8
  max_position_embeddings: 256
";

/// Temporary folder that is the current directory of every run.
pub(crate) struct Place {
    folder: TempDir,
}

/// Finished run. Displayed as its exit code and both streams, with the folder masked as `[folder]`.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Returns a folder with an experiment on a small model and sixty synthetic pairs.
    pub(crate) fn with(experiment: &str) -> Self {
        let place = Self::new();
        place.write("experiment.yaml", experiment);
        place.write("model.yaml", MODEL);
        place.write("data.yaml", "source: { kind: synthetic, pairs: 60 }\nsplit: { test_fraction: 0.2 }\n");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs_err::write(self.path(name), content).unwrap();
    }

    /// Returns a `prospect` command with space-separated arguments, without colours, backtraces or
    /// access to the Hub.
    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("prospect"));
        command.current_dir(self.folder.path()).args(args.split_whitespace());
        for variable in [
            "CLICOLOR_FORCE",
            "FORCE_COLOR",
            "RUST_BACKTRACE",
            "RUST_LOG",
            "HF_TOKEN",
            "HF_ENDPOINT",
            "RANK",
            "WORLD_SIZE",
        ] {
            command.env_remove(variable);
        }
        command.env("NO_COLOR", "1").env("HF_HUB_OFFLINE", "1").env("HF_HOME", self.path("no-cache"));
        command
    }

    /// Runs `prospect` to its end.
    pub(crate) fn run(&self, args: &str) -> Run {
        self.run_with(args, &[])
    }

    /// Runs `prospect` to its end with environment variables.
    pub(crate) fn run_with(&self, args: &str, variables: &[(&str, &str)]) -> Run {
        let output = self.command(args).envs(variables.iter().copied()).output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            let folder = self.folder.path();
            let real = folder.canonicalize().unwrap();
            [real.as_path(), folder]
                .iter()
                .fold(text, |text, folder| text.replace(&folder.display().to_string(), "[folder]"))
        };
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or("killed".to_owned(), |code| code.to_string());
        write!(f, "exit code {code}\n--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Lists the files below a folder, sorted, without following links.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Returns the path of a file in the repository, such as a fixture or a shipped recipe.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
