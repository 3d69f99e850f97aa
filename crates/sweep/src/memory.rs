//! The most memory that this process has had at once, where the system tells it.

use std::path::Path;

/// Begins anew. Where that is not possible, the peak is that of the whole process so far.
pub(crate) fn forget_peak() {
    let file = Path::new("/proc/self/clear_refs");
    if file.exists() {
        // 5 resets the peak: proc_pid_clear_refs(5).
        let _ = fs_err::write(file, "5");
    }
}

/// Bytes since [`forget_peak`].
pub(crate) fn peak() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * kilobytes.split_whitespace().next()?.parse::<u64>().ok()?)
}
