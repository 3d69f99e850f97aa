//! Error chains, and the errors that are not the fault of the work but of the machine.

use std::error::Error;

/// Returns the message of an error and of each of its causes, outermost first. A cause is skipped
/// if the message before it already ends with it.
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string) {
        if !causes.last().is_some_and(|before| before.ends_with(&cause)) {
            causes.push(cause);
        }
    }
    causes
}

/// A resource of the machine that failed or is exhausted. Repeating the work later can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Disk space, or a quota.
    Space,
    /// Size of a file.
    FileSize,
    /// A disk or a file system that fails, is read-only, or has disappeared.
    Disk,
    /// Main memory.
    Memory,
    /// Open files.
    Files,
    /// Processes and threads.
    Threads,
}

impl Resource {
    /// Returns the resource that an error with these messages reports.
    ///
    /// Errors of libraries often keep only the text of the system's error, so the text decides.
    pub fn of(messages: &[String]) -> Option<Self> {
        messages.iter().find_map(|message| {
            let (_, rest) = message.split_once("(os error ").unwrap_or_default();
            let number = rest.split(')').next().unwrap_or_default();
            Some(match number {
                "28" | "122" => Self::Space,
                "27" => Self::FileSize,
                "5" | "30" | "116" | "107" | "108" | "6" | "19" => Self::Disk,
                "12" => Self::Memory,
                "23" | "24" => Self::Files,
                "11" => Self::Threads,
                _ if message.ends_with(": out of memory") || message == "out of memory" => Self::Memory,
                _ => return None,
            })
        })
    }

    /// Says what to do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Space => "free some space or raise the quota",
            Self::FileSize => "raise the limit of file sizes (`ulimit -f`)",
            Self::Disk => "check the disk or the file system (`dmesg`, `mount`)",
            Self::Memory => "free some memory or raise its limit (`ulimit -v`, `--mem` of Slurm)",
            Self::Files => "raise the limit of open files (`ulimit -n`)",
            Self::Threads => "raise the limits of processes and memory (`ulimit -u`, `ulimit -v`)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_machine_are_told_from_others() {
        let resource = |code| {
            let error = std::io::Error::from_raw_os_error(code);
            Resource::of(&chain(&std::io::Error::other(format!("tensor: {error}"))))
        };
        assert_eq!(resource(28), Some(Resource::Space));
        assert_eq!(resource(27), Some(Resource::FileSize));
        assert_eq!(resource(5), Some(Resource::Disk));
        assert_eq!(resource(12), Some(Resource::Memory));
        assert_eq!(resource(24), Some(Resource::Files));
        assert_eq!(resource(2), None);
        let memory = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        assert_eq!(Resource::of(&chain(&memory)), Some(Resource::Memory));
        assert_eq!(Resource::of(&["step 3: out of memory with 2 completions".to_owned()]), None);
    }
    use crate::config::ConfigError;

    #[test]
    fn causes_are_told_once() {
        let read = ConfigError::Read(std::io::Error::other("no such file"));
        assert_eq!(chain(&read), ["cannot read the configuration", "no such file"]);
        assert_eq!(chain(&std::io::Error::other(read)), ["cannot read the configuration", "no such file"]);
    }
}
