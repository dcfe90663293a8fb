//! The tile registers: permission, configuration, instructions.

#![allow(unsafe_code)]

#[cfg(test)]
pub(crate) mod model;

use std::arch::asm;

use crate::level::{Isa, Level};

/// Bytes of a tile row.
pub(crate) const ROW: usize = 64;
/// Rows of a tile.
pub(crate) const ROWS: usize = 16;

/// Memory image of a tile's worth of 32-bit results.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Tile<T>(pub(crate) [[T; ROW / 4]; ROWS]);

// SAFETY: an array of floats without padding, in which every bit pattern is allowed.
unsafe impl bytemuck::Zeroable for Tile<f32> {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Tile<f32> {}

/// Rows and bytes per row of each tile register (palette 1).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Config {
    pub(crate) palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    pub(crate) row_bytes: [u16; 16],
    pub(crate) rows: [u8; 16],
}

impl Config {
    /// Shapes `(rows, bytes per row)` of the first registers.
    pub(crate) fn new(shapes: &[(usize, usize)]) -> Self {
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

/// The tile registers and their instructions; registers are numbered 0–7.
///
/// # Safety
/// Callers of the unsafe methods keep the architecture's rules: a register is used only after
/// [`Unit::configure`] gave it a shape, products fit the shapes, and memory holds the rows that are loaded or stored
/// (`stride` bytes apart). Breaking them faults.
pub(crate) trait Unit {
    /// Gives the registers their shapes and zeroes them.
    fn configure(&mut self, config: &Config);
    /// # Safety
    /// See [`Unit`].
    unsafe fn zero<const T: u8>(&mut self);
    /// # Safety
    /// See [`Unit`].
    unsafe fn load<const T: u8>(&mut self, from: *const u8, stride: usize);
    /// # Safety
    /// See [`Unit`].
    unsafe fn store<const T: u8>(&mut self, to: *mut u8, stride: usize);
    /// acc += a · b: signed bytes times unsigned bytes, four at a time, in int32.
    ///
    /// # Safety
    /// See [`Unit`].
    unsafe fn dot_bytes<const ACC: u8, const A: u8, const B: u8>(&mut self);
    /// acc += a · b: signed bytes, four at a time, in int32.
    ///
    /// # Safety
    /// See [`Unit`].
    unsafe fn dot_signed<const ACC: u8, const A: u8, const B: u8>(&mut self);
    /// acc += a · b: pairs of bf16, in float32.
    ///
    /// # Safety
    /// See [`Unit`].
    unsafe fn dot_bf16<const ACC: u8, const A: u8, const B: u8>(&mut self);
}

/// The CPU's own tiles, on this thread; dropping it releases them, so that switches between threads stay cheap.
pub(crate) struct Hardware(());

impl Hardware {
    /// # Panics
    /// If the level has no AMX.
    pub(crate) fn new(isa: Isa) -> Self {
        assert!(isa.level() == Level::Amx);
        Self(())
    }
}

/// A method that multiplies two tiles.
macro_rules! product {
    ($name:ident, $instruction:literal) => {
        #[inline(always)]
        unsafe fn $name<const ACC: u8, const A: u8, const B: u8>(&mut self) {
            // SAFETY: by the caller's promise.
            unsafe {
                asm!(
                    concat!($instruction, " tmm{acc}, tmm{a}, tmm{b}"),
                    acc = const ACC,
                    a = const A,
                    b = const B,
                    options(nostack, preserves_flags, nomem)
                );
            }
        }
    };
}

impl Unit for Hardware {
    #[inline(always)]
    fn configure(&mut self, config: &Config) {
        let config = &raw const *config;
        // SAFETY: a `Hardware` exists only where AMX was probed, with permission (or where a fault is expected);
        // `config` is 64 readable bytes; the compiler itself never uses tile registers.
        unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, preserves_flags, readonly)) }
    }
    #[inline(always)]
    unsafe fn zero<const T: u8>(&mut self) {
        // SAFETY: by the caller's promise.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nostack, preserves_flags, nomem)) }
    }
    #[inline(always)]
    unsafe fn load<const T: u8>(&mut self, from: *const u8, stride: usize) {
        // SAFETY: by the caller's promise.
        unsafe {
            asm!(
                "tileloadd tmm{t}, [{from} + {stride}*1]",
                t = const T,
                from = in(reg) from,
                stride = in(reg) stride,
                options(nostack, preserves_flags, readonly)
            );
        }
    }
    #[inline(always)]
    unsafe fn store<const T: u8>(&mut self, to: *mut u8, stride: usize) {
        // SAFETY: by the caller's promise.
        unsafe {
            asm!(
                "tilestored [{to} + {stride}*1], tmm{t}",
                t = const T,
                to = in(reg) to,
                stride = in(reg) stride,
                options(nostack, preserves_flags)
            );
        }
    }
    product!(dot_bytes, "tdpbsud");
    product!(dot_signed, "tdpbssd");
    product!(dot_bf16, "tdpbf16ps");
}

impl Drop for Hardware {
    fn drop(&mut self) {
        // SAFETY: a `Hardware` exists only where AMX works (or where a fault is expected).
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }
}

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
    let (mut int, mut signed_int) = (Tile([[0i32; 16]; ROWS]), Tile([[0i32; 16]; ROWS]));
    let mut float = Tile([[0f32; 16]; ROWS]);
    let config = Config::new(&[(ROWS, ROW); 8]);
    let mut tiles = Hardware(());
    tiles.configure(&config);
    // SAFETY: the caller accepts a fault; all tiles are 16 × 64 bytes in memory.
    unsafe {
        tiles.zero::<0>();
        tiles.zero::<1>();
        tiles.load::<2>((&raw const signed).cast(), ROW);
        tiles.load::<3>((&raw const unsigned).cast(), ROW);
        tiles.load::<4>((&raw const bf16).cast(), ROW);
        tiles.load::<5>((&raw const bf16).cast(), ROW);
        tiles.dot_bytes::<0, 2, 3>();
        tiles.dot_bf16::<1, 4, 5>();
        tiles.zero::<6>();
        tiles.load::<7>((&raw const signed).cast(), ROW);
        tiles.dot_signed::<6, 2, 7>();
        tiles.store::<0>((&raw mut int).cast(), ROW);
        tiles.store::<6>((&raw mut signed_int).cast(), ROW);
        tiles.store::<1>((&raw mut float).cast(), ROW);
    }
    int.0.as_flattened().iter().all(|x| *x == -2 * 200 * 64)
        && signed_int.0.as_flattened().iter().all(|x| *x == -2 * -2 * 64)
        && float.0.as_flattened().iter().all(|x| *x == 2.0 * 2.0 * 32.0)
}
