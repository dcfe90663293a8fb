//! What the programs of all targets have in common.

/// Hands what libFuzzer makes up to the target of this name. Half of the inputs are changed as JSON.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| -> libfuzzer_sys::Corpus {
            match millrace_fuzz::run($name, input) {
                true => libfuzzer_sys::Corpus::Keep,
                false => libfuzzer_sys::Corpus::Reject,
            }
        });

        libfuzzer_sys::fuzz_mutator!(|input: &mut [u8], size: usize, most: usize, seed: u32| {
            let changed =
                (seed % 2 == 0).then(|| millrace_fuzz::mutate(&input[..size], most, seed)).flatten();
            match changed {
                Some(changed) => {
                    input[..changed.len()].copy_from_slice(&changed);
                    changed.len()
                }
                None => libfuzzer_sys::fuzzer_mutate(input, size, most),
            }
        });
    };
}
