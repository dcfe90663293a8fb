//! Feature levels, and the proof that one may be used.

use millrace_backend::BackendError;

use crate::probe;

/// Groups of CPU features that kernels are compiled for; each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Whatever the target guarantees (SSE2 on x86-64). Has no fused multiply-add, so its floats differ in the
    /// last bits from those of the other levels.
    Portable,
    /// AVX2, FMA, F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// … and AVX-512 BF16: bf16 weights meet activations rounded to bf16.
    Avx512Bf16,
    /// … and AMX TILE, INT8 and BF16.
    Amx,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The name that `MILLRACE_CPU` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512_bf16",
            Self::Amx => "amx",
        }
    }

    /// The inverse of [`Level::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// The highest level that this machine executes, at most the one named by `MILLRACE_CPU`.
    ///
    /// # Errors
    /// `MILLRACE_CPU` names no level.
    pub fn detect() -> Result<Self, BackendError> {
        let cap = match std::env::var("MILLRACE_CPU") {
            Err(_) => Self::Amx,
            Ok(name) => Self::from_name(&name).ok_or_else(|| BackendError::Unsupported {
                device: "cpu",
                what: format!(
                    "MILLRACE_CPU={name:?}; use portable, avx2, avx512, avx512_bf16 or amx, or unset it"
                ),
            })?,
        };
        let usable = Self::supported();
        Ok(usable.into_iter().rfind(|level| *level <= cap).unwrap_or(Self::Portable))
    }

    /// The levels that this machine executes, lowest first.
    pub fn supported() -> Vec<Self> {
        Self::ALL.into_iter().filter(|level| probe::executes(*level)).collect()
    }
}

/// A level that the probe found to work: holding one makes calling its kernels sound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Isa(Level);

impl Isa {
    /// Checks the level against the probe.
    pub(crate) fn new(level: Level) -> Result<Self, BackendError> {
        if probe::executes(level) {
            Ok(Self(level))
        } else {
            Err(BackendError::Unsupported {
                device: "cpu",
                what: format!("level {} on this machine", level.name()),
            })
        }
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}
