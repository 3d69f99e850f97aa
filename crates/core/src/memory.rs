//! Memory use of this process and memory size of this machine, where the system reports them.

use std::path::Path;

/// Resets the peak of this process. Where that isn't possible, [`peak`] covers the whole process
/// lifetime.
pub fn forget_peak() {
    let file = Path::new("/proc/self/clear_refs");
    if file.exists() {
        // Writing 5 resets the peak: proc_pid_clear_refs(5).
        let _ = fs_err::write(file, "5");
    }
}

/// Returns the peak resident memory of this process since [`forget_peak`], in bytes.
pub fn peak() -> Option<u64> {
    bytes("/proc/self/status", "VmHWM:")
}

/// Returns the memory size of this machine in bytes.
pub fn of_this_machine() -> Option<u64> {
    bytes("/proc/meminfo", "MemTotal:")
}

/// Returns the memory that new processes can use without swapping, in bytes.
pub fn available() -> Option<u64> {
    bytes("/proc/meminfo", "MemAvailable:")
}

/// Returns the value on the line of `file` that starts with `name`, in bytes. Linux reports units
/// of 1024 bytes as kB.
fn bytes(file: &str, name: &str) -> Option<u64> {
    let text = fs_err::read_to_string(file).ok()?;
    let amount = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(1024 * amount.split_whitespace().next()?.parse::<u64>().ok()?)
}
