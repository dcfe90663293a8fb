//! Which levels this machine really executes.
//!
//! On virtual machines CPUID lies in both directions: it hides features that work and shows ones whose details are
//! missing. So each level's instructions are executed in a forked child; a fault kills the child, not the server.

use std::sync::OnceLock;

use crate::level::Level;

/// What is known about one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelReport {
    /// The level.
    pub level: Level,
    /// CPUID (and the operating system) claim it.
    pub claimed: bool,
    /// Its instructions ran and gave the right answer.
    pub executes: bool,
}

/// Claims and facts for every level.
pub fn report() -> [LevelReport; 5] {
    Level::ALL.map(|level| LevelReport { level, claimed: claimed(level), executes: executes(level) })
}

/// Whether this level, and every level below it, works here. Probed once per process.
pub(crate) fn executes(level: Level) -> bool {
    static PROBED: OnceLock<[bool; 5]> = OnceLock::new();
    let probed = PROBED.get_or_init(|| {
        let mut works = true;
        Level::ALL.map(|level| {
            works = works && imp::probe(level);
            works
        })
    });
    probed[level as usize]
}

#[cfg(not(target_arch = "x86_64"))]
fn claimed(level: Level) -> bool {
    level == Level::Portable
}

#[cfg(target_arch = "x86_64")]
fn claimed(level: Level) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match level {
        Level::Portable => true,
        Level::Avx2 => has!("avx2") && has!("fma") && has!("f16c"),
        Level::Avx512 => {
            claimed(Level::Avx2)
                && has!("avx512f")
                && has!("avx512bw")
                && has!("avx512dq")
                && has!("avx512vl")
                && has!("avx512vnni")
        }
        Level::Avx512Bf16 => claimed(Level::Avx512) && has!("avx512bf16"),
        Level::Amx => claimed(Level::Avx512Bf16) && amx_claimed(),
    }
}

/// CPUID leaf 7: AMX-BF16, AMX-TILE and AMX-INT8.
#[cfg(target_arch = "x86_64")]
fn amx_claimed() -> bool {
    let leaf = std::arch::x86_64::__cpuid_count(7, 0);
    leaf.edx & (1 << 22 | 1 << 24 | 1 << 25) == (1 << 22 | 1 << 24 | 1 << 25)
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod imp {
    use super::{Level, claimed};

    /// Without fork, CPUID has to be believed; AMX also needs Linux's permission call.
    pub(super) fn probe(level: Level) -> bool {
        level != Level::Amx && claimed(level)
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
mod imp {
    use std::arch::asm;

    use super::{Level, claimed};
    use crate::tile;

    pub(super) fn probe(level: Level) -> bool {
        match level {
            Level::Portable => true,
            // The permission is per process and must be held by us, not only by the child.
            Level::Amx => tile::request_permission() && survives(level),
            _ => survives(level),
        }
    }

    /// Executes the level's instructions in a child process.
    fn survives(level: Level) -> bool {
        // SAFETY: the child calls only async-signal-safe functions (signal, setrlimit, _exit) and plain
        // instructions: no allocation, no locks, no unwinding.
        let child = unsafe { libc::fork() };
        match child {
            // No processes to be had (a sandbox): all that is left is to believe CPUID.
            -1 => claimed(level),
            0 => {
                // SAFETY: as above; a fault ends the child by its default action, without a core file.
                unsafe {
                    for signal in [libc::SIGILL, libc::SIGSEGV, libc::SIGBUS] {
                        libc::signal(signal, libc::SIG_DFL);
                    }
                    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                    libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
                    let right = execute(level);
                    libc::_exit(i32::from(!right));
                }
            }
            child => exited_cleanly(child),
        }
    }

    fn exited_cleanly(child: libc::pid_t) -> bool {
        let mut status = 0;
        loop {
            // SAFETY: `child` is our own child and `status` a valid place for its status.
            let pid = unsafe { libc::waitpid(child, &raw mut status, 0) };
            if pid == child {
                return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
            }
            if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return false;
            }
        }
    }

    /// One instruction of each feature that the level adds.
    ///
    /// # Safety
    /// Faults where the level is not supported: call it in a child process only.
    unsafe fn execute(level: Level) -> bool {
        // SAFETY: the instructions touch only vector registers, which are named as clobbered (a zmm shares its
        // register with the ymm and xmm of the same number).
        unsafe {
            match level {
                Level::Portable => {}
                Level::Avx2 => asm!(
                    "vpaddd ymm0, ymm0, ymm0",            // avx2
                    "vfmadd231ps ymm0, ymm0, ymm0",       // fma
                    "vcvtph2ps ymm0, xmm0",               // f16c
                    "vzeroupper",
                    out("ymm0") _,
                ),
                Level::Avx512 => asm!(
                    "vpaddd zmm0, zmm0, zmm0",            // f
                    "vpaddb zmm0, zmm0, zmm0",            // bw
                    "vxorps zmm0, zmm0, zmm0",            // dq
                    "vpaddd ymm0, ymm0, ymm16",           // vl
                    "vpdpbusd zmm0, zmm0, zmm0",          // vnni
                    "vzeroupper",
                    out("zmm0") _,
                ),
                Level::Avx512Bf16 => asm!("vdpbf16ps zmm0, zmm0, zmm0", "vzeroupper", out("zmm0") _),
                Level::Amx => return tile::self_test(),
            }
        }
        true
    }
}
