//! Emulated GPU: a program of the kernels' sources, built by the system's C++ compiler.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use prospect_kernels::{
    Kernel, Launch, Source,
    check::{Argument, Machine},
    kernels,
};

const SHIM: &str = include_str!("../../kernels/cuda/shim.h");
const PROGRAM: &str = include_str!("../../kernels/cuda/emulator.h");

/// A program that runs kernels on CPU threads.
#[derive(Debug, Clone)]
pub struct Emulator {
    program: PathBuf,
    sanitized: bool,
}

impl Emulator {
    /// Builds the emulator of all kernels, once per process. Panics if there is no C++ compiler, or
    /// if a source does not compile.
    pub fn for_all_kernels() -> Self {
        static BUILT: OnceLock<Emulator> = OnceLock::new();
        BUILT.get_or_init(|| Self::build(&kernels())).clone()
    }

    /// Builds the emulator of some kernels.
    pub fn build(kernels: &[Kernel]) -> Self {
        let compiler = compiler();
        let text = text(kernels);
        let mut hasher = DefaultHasher::new();
        (&text, &compiler).hash(&mut hasher);
        // In the target folder, which `cargo clean` removes.
        let tests = std::env::current_exe().unwrap();
        let program = tests.with_file_name(format!("emulator-{:016x}", hasher.finish()));
        let plain = program.with_extension("plain");
        let sanitized = program.exists() || compile(&compiler, &text, &program, true);
        if !sanitized && !plain.exists() {
            compile(&compiler, &text, &plain, false);
        }
        Self { program: if sanitized { program } else { plain }, sanitized }
    }

    /// Returns true if the sanitizers detect out-of-bounds accesses and undefined behaviour.
    pub fn sanitized(&self) -> bool {
        self.sanitized
    }

    /// Returns the entries' signatures in the sources, sorted.
    pub fn signatures(&self) -> Vec<String> {
        let output = Command::new(&self.program).arg("--signatures").output().unwrap();
        let mut signatures: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        signatures.sort();
        signatures
    }
}

fn compiler() -> OsString {
    let known = ["c++", "g++", "clang++"].map(OsString::from);
    let found = std::env::var_os("CXX").into_iter().chain(known).find(|compiler| {
        Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    found.expect("kernels are emulated by a C++ program: set CXX, or install g++")
}

/// Compiles the text. Returns false if it does not compile with sanitizers; panics if it does not
/// compile without.
#[expect(clippy::print_stderr, reason = "a weaker test prints its reason")]
fn compile(compiler: &OsStr, text: &str, program: &Path, sanitized: bool) -> bool {
    let (source, part) = (program.with_extension("cpp"), program.with_extension("part"));
    fs_err::write(&source, text).unwrap();
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
    let output = Command::new(compiler)
        .args(["-std=c++17", "-O2", "-g1", "-Wall", "-ffp-contract=off"])
        .args(sanitizers.iter().filter(|_| sanitized))
        .arg(&source)
        .arg("-o")
        .arg(&part)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        // The rename makes the program appear only when it is complete.
        fs_err::rename(&part, program).unwrap();
        return true;
    }
    assert!(sanitized, "the sources do not compile: {message}");
    eprintln!("testing without sanitizers, because the sources do not compile with them: {message}");
    false
}

/// Returns the program's text: the shim, each source in its own namespace, and the table of
/// entries.
fn text(kernels: &[Kernel]) -> String {
    let mut text = SHIM.to_owned();
    let mut sources: Vec<&Source> = Vec::new();
    for Kernel { source, .. } in kernels {
        if sources.contains(source) {
            continue;
        }
        let (common, own) = source.text.split_once("\n#line 1 ").unwrap();
        if sources.is_empty() {
            text += common;
        }
        sources.push(source);
        writeln!(text, "\nnamespace {} {{\n#line 1 {own}\n}}", source.name).unwrap();
    }
    writeln!(text, "\n#line 1 \"emulator.h\"\n{PROGRAM}").unwrap();
    text +=
        "int main(int count, char **options) {\nconst std::map<std::string, emulator::Entry> entries = {\n";
    for Kernel { source, entry, .. } in kernels {
        writeln!(text, "{{\"{entry}\", emulator::entry({}::{entry})}},", source.name).unwrap();
    }
    text + "};\nreturn emulator::run(entries, count, options);\n}\n"
}

impl Machine for Emulator {
    fn run(&mut self, kernel: &Kernel, launch: &Launch, arguments: &mut [Argument]) -> Result<(), String> {
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        // The program may exit before it has read everything; then its own message is more useful
        // than the broken pipe.
        let written =
            child.stdin.take().map(|mut stdin| stdin.write_all(&request(kernel, launch, arguments)));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        if !output.status.success() || !matches!(written, Some(Ok(()))) {
            return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        let mut rest = &output.stdout[..];
        let buffers = arguments.iter_mut().flat_map(|argument| match argument {
            Argument::Buffer(bytes) => std::slice::from_mut(bytes),
            Argument::Buffers(each) => each,
            _ => &mut [],
        });
        for bytes in buffers {
            let Some((own, others)) = rest.split_at_checked(bytes.len()) else {
                return Err("the program wrote less than its buffers".to_owned());
            };
            bytes.copy_from_slice(own);
            rest = others;
        }
        if rest.is_empty() { Ok(()) } else { Err("the program wrote more than its buffers".to_owned()) }
    }
}

fn add_buffer(bytes: &mut Vec<u8>, content: &[u8]) {
    bytes.extend((content.len() as u64).to_le_bytes());
    bytes.extend(content);
}

/// Encodes the program's input: see `cuda/emulator.h`.
fn request(kernel: &Kernel, launch: &Launch, arguments: &[Argument]) -> Vec<u8> {
    let mut bytes = (kernel.entry.len() as u32).to_le_bytes().to_vec();
    bytes.extend(kernel.entry.as_bytes());
    let [x, y] = launch.grid;
    for number in [x, y, 1, launch.block, 1, 1, launch.shared_bytes, arguments.len() as u32] {
        bytes.extend(number.to_le_bytes());
    }
    for argument in arguments {
        match argument {
            Argument::Null => bytes.push(0),
            Argument::Buffer(content) => {
                bytes.push(2);
                add_buffer(&mut bytes, content);
            }
            Argument::Buffers(each) => {
                bytes.push(3);
                bytes.extend((each.len() as u32).to_le_bytes());
                for content in each {
                    add_buffer(&mut bytes, content);
                }
            }
            Argument::F32(x) => {
                bytes.extend([1, 4]);
                bytes.extend(x.to_le_bytes());
            }
            Argument::U32(x) => {
                bytes.extend([1, 4]);
                bytes.extend(x.to_le_bytes());
            }
            Argument::U64(x) => {
                bytes.extend([1, 8]);
                bytes.extend(x.to_le_bytes());
            }
        }
    }
    bytes
}
