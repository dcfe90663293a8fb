//! Numbers as people write them.

/// Most threads of a pool; the CPU backend starts no more.
const MAX_THREADS: usize = 1024;

/// Reads bytes: `1073741824`, `512M`, `1.5G` (powers of 1024; `MiB` and `MB` mean the same as `M`).
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => {
            return Err(format!("`{unit}` is no unit of memory; write bytes, or a number with K, M, G or T"));
        }
    };
    scaled(number, f64::from(1u32 << (shift % 30)) * if shift >= 30 { f64::from(1u32 << 30) } else { 1.0 })
        .ok_or_else(|| "write bytes, or a number with K, M, G or T, such as 512M or 1.5G".into())
}

/// Reads a count of at least 1: `8192`, `8k` (thousands), `8K` (times 1024), as vLLM does.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    let (number, factor) = match text.char_indices().last() {
        Some((at, 'k')) => (&text[..at], 1e3),
        Some((at, 'K')) => (&text[..at], 1024.0),
        Some((at, 'm')) => (&text[..at], 1e6),
        Some((at, 'M')) => (&text[..at], 1024.0 * 1024.0),
        _ => (text, 1.0),
    };
    let value = scaled(number, factor).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    value.ok_or_else(|| "write a whole number of at least 1, such as 8192, 8k (8000) or 8K (8192)".into())
}

/// Reads a plain count of at least 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a whole number of at least 1".into())
}

/// Reads a JSON object.
pub(crate) fn json_object(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("must be a JSON object such as {{\"key\": 1}} ({error})"))
}

/// Reads a number of threads.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    let valid = text.parse().ok().filter(|n| (1..=MAX_THREADS).contains(n));
    valid.ok_or_else(|| format!("must be a whole number between 1 and {MAX_THREADS}"))
}

/// Reads a time in seconds, such as `15` or `0.5`; 0 means never.
pub(crate) fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.0..=604_800.0).contains(s));
    let duration = seconds.and_then(|s| std::time::Duration::try_from_secs_f64(s).ok());
    duration.ok_or_else(|| "must be a number of seconds between 0 and 604800 (a week)".into())
}

/// Reads a time with its unit: `90s`, `10m`, `1.5h`; a bare number is seconds.
pub(crate) fn time(text: &str) -> Result<std::time::Duration, String> {
    let (number, factor) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let seconds = number.parse::<f64>().ok().filter(|_| plain).map(|n| n * factor);
    let seconds = seconds.filter(|s| (0.0..=31_536_000.0).contains(s));
    let duration = seconds.and_then(|s| std::time::Duration::try_from_secs_f64(s).ok());
    duration.ok_or_else(|| "must be a time of at most a year, such as 90s, 10m or 1.5h".into())
}

/// Reads a time in seconds that is not zero.
pub(crate) fn some_seconds(text: &str) -> Result<std::time::Duration, String> {
    let duration = seconds(text).ok().filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| "must be a number of seconds above 0 and up to 604800 (a week)".into())
}

/// Reads permissions of a file in octal, such as `600` or `0660`.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "must be permissions in octal, such as 600 or 660".into())
}

/// Bytes for people.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A decimal number times a factor, if the product is a whole number of at most 2^53.
fn scaled(number: &str, factor: f64) -> Option<u64> {
    let plain = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value = plain.then(|| number.parse::<f64>().ok()).flatten()? * factor;
    (value <= 9_007_199_254_740_992.0).then_some(value.floor() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_units_people_write() {
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            ("512M", 512 << 20),
            ("1g", 1 << 30),
            ("1.5G", 3 << 29),
            ("2GiB", 2 << 30),
            ("64MB", 64 << 20),
            ("1T", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "G", "-1", "1X", "1e9", "99999999T", "1 G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn threads_beyond_what_the_pool_starts_are_refused() {
        for n in [1, 2, 1024] {
            assert_eq!(threads(&n.to_string()), Ok(n));
        }
        for text in ["0", "1025", "18446744073709551615", "-1", "two", ""] {
            assert_eq!(threads(text), Err("must be a whole number between 1 and 1024".into()), "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!((mode("600"), mode("0660"), mode("0o777")), (Ok(0o600), Ok(0o660), Ok(0o777)));
        for text in ["", "8", "1777", "rw", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
        assert!(some_seconds("0").is_err() && some_seconds("0.5").is_ok());
    }

    #[test]
    fn counts_take_thousands() {
        assert_eq!(count("8192"), Ok(8192));
        assert_eq!(count("8k"), Ok(8000));
        assert_eq!(count("8K"), Ok(8192));
        assert_eq!(count("1.5k"), Ok(1500));
        for text in ["0", "", "k", "-5", "8G", "é"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("0", 0.0), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0), ("7", 7.0)] {
            assert_eq!(time(text), Ok(std::time::Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "m", "-1s", "1d", "9999h", "1e3", "inf", "10 m"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_digit() {
        assert_eq!(show_bytes(12), "12 B");
        assert_eq!(show_bytes(3 << 29), "1.5 GiB");
        assert_eq!(show_bytes(400 << 20), "400 MiB");
    }
}
