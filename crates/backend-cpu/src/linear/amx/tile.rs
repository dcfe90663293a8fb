//! The tile registers: permission, configuration, instructions.

use std::arch::asm;

/// Bytes of a tile row.
pub(super) const ROW: usize = 64;
/// Rows of a tile.
pub(super) const ROWS: usize = 16;

/// Memory image of a tile's worth of 32-bit results.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile<T>(pub(super) [[T; ROW / 4]; ROWS]);

/// Rows and bytes per row of each tile register (palette 1).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(super) struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    /// Shapes `(rows, bytes per row)` of the first registers.
    pub(super) fn new(shapes: &[(usize, usize)]) -> Self {
        let mut config =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for (index, (rows, bytes)) in shapes.iter().enumerate() {
            debug_assert!(*rows <= ROWS && *bytes <= ROW);
            config.rows[index] = *rows as u8;
            config.row_bytes[index] = *bytes as u16;
        }
        config
    }
}

/// Tiles configured on this thread; dropping it releases them, so that switches between threads stay cheap.
pub(super) struct Configured(());

impl Configured {
    /// # Safety
    /// The process has permission to use AMX and the CPU has it.
    pub(super) unsafe fn load(config: &Config) -> Self {
        // SAFETY: `config` is 64 readable bytes; the compiler itself never uses tile registers.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const *config, options(nostack, preserves_flags, readonly));
        };
        Self(())
    }

    /// Changes the shapes and zeroes all tiles.
    pub(super) fn reload(&mut self, config: &Config) {
        // SAFETY: as in `load`, whose conditions held when `self` was made.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const *config, options(nostack, preserves_flags, readonly));
        };
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: a `Configured` exists only where AMX works.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

/// `tile_zero!(register)`. The caller is unsafe and holds a `Configured`.
macro_rules! tile_zero {
    ($tile:literal) => {
        std::arch::asm!(concat!("tilezero tmm", $tile), options(nostack, preserves_flags, nomem))
    };
}

/// `tile_load!(register, pointer, bytes between rows)`.
macro_rules! tile_load {
    ($tile:literal, $from:expr, $stride:expr) => {
        std::arch::asm!(
            concat!("tileloadd tmm", $tile, ", [{from} + {stride}*1]"),
            from = in(reg) $from,
            stride = in(reg) $stride,
            options(nostack, preserves_flags, readonly)
        )
    };
}

/// `tile_store!(register, pointer, bytes between rows)`.
macro_rules! tile_store {
    ($tile:literal, $to:expr, $stride:expr) => {
        std::arch::asm!(
            concat!("tilestored [{to} + {stride}*1], tmm", $tile),
            to = in(reg) $to,
            stride = in(reg) $stride,
            options(nostack, preserves_flags)
        )
    };
}

/// `tile_dot!("instruction", accumulator, a, b)`.
macro_rules! tile_dot {
    ($instruction:literal, $acc:literal, $a:literal, $b:literal) => {
        std::arch::asm!(
            concat!($instruction, " tmm", $acc, ", tmm", $a, ", tmm", $b),
            options(nostack, preserves_flags, nomem)
        )
    };
}

pub(super) use {tile_dot, tile_load, tile_store, tile_zero};

/// Asks Linux to let this process (all of its threads) use tile data.
#[cfg(target_os = "linux")]
pub(crate) fn request_permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a system call with plain numbers; kernels that don't know it return an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Multiplies small matrices in int8 and bf16 and checks the products.
///
/// # Safety
/// Faults where AMX does not work: for a process that may die.
#[cfg(target_os = "linux")]
pub(crate) unsafe fn self_test() -> bool {
    let signed = Tile([[0xfe_fe_fe_feu32; 16]; ROWS]); // i8: −2
    let unsigned = Tile([[0xc8_c8_c8_c8u32; 16]; ROWS]); // u8: 200
    let bf16 = Tile([[0x4000_4000u32; 16]; ROWS]); // 2.0
    let (mut int, mut float) = (Tile([[0i32; 16]; ROWS]), Tile([[0f32; 16]; ROWS]));
    let config = Config::new(&[(ROWS, ROW); 8]);
    // SAFETY: the caller accepts a fault; all tiles are 16 × 64 bytes in memory.
    unsafe {
        let _tiles = Configured::load(&config);
        tile_zero!("0");
        tile_zero!("1");
        tile_load!("2", &raw const signed, ROW);
        tile_load!("3", &raw const unsigned, ROW);
        tile_load!("4", &raw const bf16, ROW);
        tile_load!("5", &raw const bf16, ROW);
        tile_dot!("tdpbsud", "0", "2", "3");
        tile_dot!("tdpbf16ps", "1", "4", "5");
        tile_store!("0", &raw mut int, ROW);
        tile_store!("1", &raw mut float, ROW);
    }
    int.0.as_flattened().iter().all(|x| *x == -2 * 200 * 64)
        && float.0.as_flattened().iter().all(|x| *x == 2.0 * 2.0 * 32.0)
}
