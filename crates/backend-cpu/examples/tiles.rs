//! Times short sequences of AMX instructions, for cores of one's own and for cores that somebody else's thread shares.
//!
//! `cargo run --release -p millrace-backend-cpu --example tiles [-- SECONDS]`
//!
//! With all eight tile registers in use, loads and products wait for each other while the core's other thread works. That
//! sequence runs before and after each measurement, and says which of the two columns it belongs to.

#![allow(unsafe_code, clippy::print_stdout, clippy::unwrap_used)]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod on_x86 {
    use std::arch::asm;
    use std::time::{Duration, Instant};

    use millrace_backend_cpu::Level;

    /// Palette 1, all registers of 16 rows × 64 bytes.
    #[repr(C, align(64))]
    struct Config {
        palette: [u8; 16],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    macro_rules! load {
        ($tile:literal, $from:expr) => {
            asm!(concat!("tileloadd tmm", $tile, ", [{from} + {stride}*1]"), from = in(reg) $from, stride = in(reg) 64usize,
                options(nostack, preserves_flags, readonly))
        };
    }
    macro_rules! dot {
        ($acc:literal, $a:literal, $b:literal) => {
            asm!(
                concat!("tdpbf16ps tmm", $acc, ", tmm", $a, ", tmm", $b),
                options(nostack, preserves_flags, nomem)
            )
        };
    }

    /// A tile's row.
    #[derive(Clone)]
    #[repr(C, align(64))]
    struct Row([u8; 64]);

    /// Called with inputs (4 × 2 tiles), weights (16 tiles) and a number of rounds.
    type Run = unsafe fn(*const u8, *const u8, usize);

    macro_rules! sequence {
        (|$x:ident, $w:ident| $($body:tt)*) => {{
            unsafe fn run(x: *const u8, w: *const u8, rounds: usize) {
                for round in 0..rounds {
                    // SAFETY: the caller's memory holds these tiles, and the registers are configured.
                    unsafe {
                        let ($x, $w) = (x.add(round % 4 * 2048), w.add(round % 8 * 1024));
                        let _ = ($x, $w);
                        $($body)*
                    }
                }
            }
            run as Run
        }};
    }

    /// Each makes four products a round.
    fn sequences() -> [(&'static str, Run); 6] {
        [
            (
                "8 registers, 4 loads",
                sequence!(|x, w| load!(6, w);
                    load!(4, x);
                    dot!(0, 4, 6);
                    load!(7, w.add(8192));
                    dot!(1, 4, 7);
                    load!(5, x.add(1024));
                    dot!(2, 5, 6);
                    dot!(3, 5, 7);),
            ),
            (
                "6 registers, 5 loads",
                sequence!(|x, w| load!(6, w);
                    load!(4, x);
                    dot!(0, 4, 6);
                    load!(4, x.add(1024));
                    dot!(2, 4, 6);
                    load!(6, w.add(8192));
                    dot!(3, 4, 6);
                    load!(4, x);
                    dot!(1, 4, 6);),
            ),
            (
                "5 registers, 6 loads",
                sequence!(|x, w| load!(3, x);
                    load!(6, w);
                    dot!(0, 3, 6);
                    load!(7, w.add(8192));
                    dot!(1, 3, 7);
                    load!(3, x.add(1024));
                    load!(6, w);
                    dot!(0, 3, 6);
                    load!(7, w.add(8192));
                    dot!(1, 3, 7);),
            ),
            (
                "4 registers, 6 loads",
                sequence!(|x, w| load!(3, x);
                    load!(6, w);
                    dot!(0, 3, 6);
                    load!(6, w.add(8192));
                    dot!(1, 3, 6);
                    load!(3, x.add(1024));
                    load!(6, w);
                    dot!(0, 3, 6);
                    load!(6, w.add(8192));
                    dot!(1, 3, 6);),
            ),
            (
                "3 registers, 8 loads",
                sequence!(|x, w| load!(1, x);
                    load!(2, w);
                    dot!(0, 1, 2);
                    load!(1, x.add(1024));
                    load!(2, w.add(8192));
                    dot!(0, 1, 2);
                    load!(1, x);
                    load!(2, w.add(8192));
                    dot!(0, 1, 2);
                    load!(1, x.add(1024));
                    load!(2, w);
                    dot!(0, 1, 2);),
            ),
            (
                "no loads",
                sequence!(|x, w| dot!(0, 4, 6);
                    dot!(1, 4, 7);
                    dot!(2, 5, 6);
                    dot!(3, 5, 7);),
            ),
        ]
    }

    /// Nanoseconds a round.
    fn time(run: Run, memory: &[Row]) -> f64 {
        const ROUNDS: usize = 2000;
        let mut config = Config { palette: [0; 16], row_bytes: [0; 16], rows: [0; 16] };
        config.palette[0] = 1;
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        let (config, x) = (&raw const config, memory.as_ptr().cast::<u8>());
        let begun = Instant::now();
        // SAFETY: the level was probed, so this process may use tiles; memory holds 8 and 16 tiles of 1 KiB.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) config, options(nostack, preserves_flags, readonly));
            run(x, x.add(8192), ROUNDS);
            asm!("tilerelease", options(nostack, preserves_flags, nomem));
        }
        begun.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64
    }

    fn median(times: &mut [f64]) -> String {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).map_or_else(|| "-".into(), |time| format!("{time:.1} ({})", times.len()))
    }

    pub(crate) fn main() {
        if !Level::supported().contains(&Level::Amx) {
            println!("This machine has no AMX.");
            return;
        }
        let seconds = std::env::args().nth(1).map_or(10.0, |seconds| seconds.parse().unwrap());
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        // Small numbers, no denormals: 0x3c3c is about 0.011 in bf16.
        let memory = &vec![Row([0x3c; 64]); 24 * 16];
        let sequences = sequences();
        let mut times = vec![[Vec::new(), Vec::new()]; sequences.len()];
        let mut before = time(sequences[0].1, memory);
        while Instant::now() < end {
            for ((_, run), times) in sequences.iter().zip(&mut times) {
                let now = time(*run, memory);
                let after = time(sequences[0].1, memory);
                if before.max(after) < 45.0 {
                    times[0].push(now);
                } else if before.min(after) > 70.0 {
                    times[1].push(now);
                }
                before = after;
            }
        }
        println!("ns for four products, median (runs)   own core    shared core");
        for ((name, _), [own, shared]) in sequences.iter().zip(&mut times) {
            println!("{name:32} {:>14} {:>14}", median(own), median(shared));
        }
    }
}

fn main() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    on_x86::main();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    println!("There is AMX on x86-64 only.");
}
