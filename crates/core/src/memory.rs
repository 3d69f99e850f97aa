//! Memory of this process and of this machine, where the system tells it.

use std::path::Path;

/// Begins the peak anew. Where that is not possible, it is that of the whole process so far.
pub fn forget_peak() {
    let file = Path::new("/proc/self/clear_refs");
    if file.exists() {
        // 5 resets the peak: proc_pid_clear_refs(5).
        let _ = fs_err::write(file, "5");
    }
}

/// The most bytes that this process has had at once since [`forget_peak`].
pub fn peak() -> Option<u64> {
    bytes("/proc/self/status", "VmHWM:")
}

/// Bytes of memory of this machine.
pub fn of_this_machine() -> Option<u64> {
    bytes("/proc/meminfo", "MemTotal:")
}

/// The amount on the line of `file` that starts with `name`, which Linux gives in kB of 1024 bytes.
fn bytes(file: &str, name: &str) -> Option<u64> {
    let text = fs_err::read_to_string(file).ok()?;
    let amount = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(1024 * amount.split_whitespace().next()?.parse::<u64>().ok()?)
}
