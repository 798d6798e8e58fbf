//! What the system says of this process.

/// Memory and descriptors; what the system does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: u64,
    pub(crate) open_descriptors: u64,
    pub(crate) most_descriptors: u64,
}

impl Process {
    /// Reads `/proc`. Blocking; takes longer the more descriptors are open.
    pub(crate) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            resident_bytes: number(&status, "VmRSS:").saturating_mul(1024),
            // Listing the folder takes one itself.
            open_descriptors: super::number(descriptors).saturating_sub(1),
            most_descriptors: number(&limits, "Max open files"),
        }
    }
}

/// The number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells() {
        let process = Process::now();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!((3..process.most_descriptors).contains(&process.open_descriptors), "{process:?}");
    }
}
