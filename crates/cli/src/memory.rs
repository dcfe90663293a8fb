//! How much memory there is, and how much of it the KV cache gets if nobody says.

use std::path::{Path, PathBuf};

/// Share of the free memory that the KV cache may take.
const SHARE: (u64, u64) = (2, 5);

/// Free memory that is assumed where the system doesn't tell.
const FALLBACK: u64 = 4 << 30;

/// What the KV cache gets at most, unless a single sequence needs more. A cache fills up with prefixes in time, so
/// all of it counts as taken, and a server seldom is alone on its machine.
const CEILING: u64 = 4 << 30;

/// Bytes for a KV cache where `free` bytes are available: up to 40 % and up to 4 GiB, but no more than `max_num_seqs`
/// sequences of the greatest length can use. One such sequence may go beyond 4 GiB.
pub(crate) fn default_kv_bytes(
    free: u64,
    bytes_per_token: u64,
    block_size: usize,
    max_num_seqs: usize,
    max_model_len: usize,
) -> u64 {
    let block_bytes = bytes_per_token.saturating_mul(block_size as u64);
    // One block more: the null block that padding points to.
    let needed_by = |seqs: usize| {
        let blocks =
            (max_model_len.div_ceil(block_size) as u64).saturating_mul(seqs as u64).saturating_add(1);
        blocks.saturating_mul(block_bytes)
    };
    needed_by(max_num_seqs).min(needed_by(1).max(CEILING)).min(free / SHARE.1 * SHARE.0)
}

/// Bytes this process can still take without swapping: the smaller of what the kernel calls available and what the
/// control group (v2 or v1) leaves.
pub(crate) fn available() -> u64 {
    let system = read("/proc/meminfo").and_then(|text| mem_available(&text));
    [system, cgroup_left()].into_iter().flatten().min().unwrap_or(FALLBACK)
}

/// Gives back to the system what this process has freed: the allocator keeps small pieces for later otherwise.
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// All memory of the machine in bytes, as far as it is known.
pub(crate) fn total() -> Option<u64> {
    meminfo_field(&read("/proc/meminfo")?, "MemTotal:")
}

fn mem_available(meminfo: &str) -> Option<u64> {
    meminfo_field(meminfo, "MemAvailable:")
}

fn meminfo_field(meminfo: &str, field: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the tightest of this process's control groups leaves.
fn cgroup_left() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    groups
        .lines()
        .filter_map(group_folder)
        .filter_map(|(root, folder, files)| left(&root, &folder, files))
        .min()
}

/// File names of limit and usage.
type LimitFiles = [&'static str; 2];

/// Mount point, folder and files for a line of `/proc/self/cgroup` that is about memory.
fn group_folder(line: &str) -> Option<(PathBuf, PathBuf, LimitFiles)> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let (root, files) = match controllers {
        "" => ("/sys/fs/cgroup", ["memory.max", "memory.current"]),
        list if list.split(',').any(|c| c == "memory") => {
            ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"])
        }
        _ => return None,
    };
    Some((root.into(), Path::new(root).join(path), files))
}

/// The least that a folder or one of its parents leaves. Inside a container the folder may not be visible; its
/// parents then hold the container's own limit.
fn left(root: &Path, folder: &Path, [limit, usage]: LimitFiles) -> Option<u64> {
    let number = |path: PathBuf| read(path)?.trim().parse::<u64>().ok();
    let left_in = |folder: &Path| {
        let limit = number(folder.join(limit))?;
        let used = number(folder.join(usage))?;
        Some(limit.saturating_sub(used.saturating_sub(reclaimable(folder))))
    };
    folder.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(left_in).min()
}

/// Bytes of a group's files in the page cache that nobody has touched lately: counted as used, but free to take.
fn reclaimable(folder: &Path) -> u64 {
    let stat = read(folder.join("memory.stat")).unwrap_or_default();
    let field = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    field("total_inactive_file ").or_else(|| field("inactive_file ")).unwrap_or(0)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   20000 kB\n";
        assert_eq!(mem_available(text), Some(20_480_000));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert_eq!(mem_available("MemAvailable: much kB\n"), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let files = ["memory.max", "memory.current"];
        let write = |folder: &Path, max: &str, current: &str| {
            std::fs::write(folder.join(files[0]), max).unwrap();
            std::fs::write(folder.join(files[1]), current).unwrap();
        };
        write(&inner, "max\n", "5\n");
        assert_eq!(left(root.path(), &inner, files), None);
        write(&root.path().join("a"), "1000\n", "400\n");
        write(root.path(), "9000\n", "400\n");
        assert_eq!(left(root.path(), &inner, files), Some(600));
        assert_eq!(left(root.path(), &root.path().join("not/there"), files), Some(8600));
        std::fs::write(root.path().join("a/memory.stat"), "anon 7\ninactive_file 300\n").unwrap();
        assert_eq!(left(root.path(), &inner, files), Some(900));
    }

    #[test]
    fn groups_of_both_versions_are_found() {
        let (root, folder, _) = group_folder("0::/user.slice/x").unwrap();
        assert_eq!((root, folder), ("/sys/fs/cgroup".into(), "/sys/fs/cgroup/user.slice/x".into()));
        let (_, folder, files) = group_folder("4:memory:/box").unwrap();
        assert_eq!((folder, files[0]), ("/sys/fs/cgroup/memory/box".into(), "memory.limit_in_bytes"));
        assert!(group_folder("1:cpu,cpuacct:/").is_none());
        assert!(group_folder("nonsense").is_none());
    }

    #[test]
    fn the_cache_is_no_larger_than_it_can_use() {
        assert_eq!(default_kv_bytes(10_000_000, 1, 16, 4, 100), (4 * 7 + 1) * 16);
        assert_eq!(default_kv_bytes(1000, 1 << 20, 16, 256, 8192), 400);
        assert_eq!(default_kv_bytes(u64::MAX, u64::MAX, 16, usize::MAX, usize::MAX), u64::MAX / 5 * 2);
    }

    #[test]
    fn only_a_single_sequence_goes_beyond_the_ceiling() {
        let free = 100 << 30;
        assert_eq!(default_kv_bytes(free, 1 << 20, 16, 256, 1024), CEILING);
        assert_eq!(default_kv_bytes(free, 1 << 20, 16, 256, 8192), (8192 + 16) << 20);
    }
}
