//! Integers of 2 to 8 bits in a little-endian bit stream, MLX's packing for every width.

/// Unpacks `out.len()` integers of `bits` bits (at most 8). `packed` has at least `out.len() · bits / 8` bytes.
pub fn unpack_row(bits: u32, packed: &[u8], out: &mut [u8]) {
    match bits {
        8 => out.iter_mut().zip(packed).for_each(|(out, &byte)| *out = byte),
        4 => {
            for (pair, &byte) in out.chunks_mut(2).zip(packed) {
                pair[0] = byte & 15;
                if let Some(high) = pair.get_mut(1) {
                    *high = byte >> 4;
                }
            }
        }
        _ => unpack_any(bits, packed, out),
    }
}

fn unpack_any(bits: u32, packed: &[u8], out: &mut [u8]) {
    let mut source = packed.iter();
    let (mut buffer, mut have) = (0u32, 0);
    for out in out {
        if have < bits {
            buffer |= u32::from(source.next().copied().unwrap_or(0)) << have;
            have += 8;
        }
        *out = (buffer & ((1 << bits) - 1)) as u8;
        buffer >>= bits;
        have -= bits;
    }
}

/// The inverse of [`unpack_row`]: appends integers below `2^bits` to `packed`. Their bits must fill whole bytes.
pub fn pack_row(bits: u32, q: &[u8], packed: &mut Vec<u8>) {
    let (mut buffer, mut have) = (0u32, 0);
    for &q in q {
        buffer |= u32::from(q) << have;
        have += bits;
        while have >= 8 {
            packed.push(buffer as u8);
            buffer >>= 8;
            have -= 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_survives_a_round_trip() {
        for bits in 2..=8 {
            let q: Vec<u8> = (0..96u32).map(|i| (i * 37 % (1 << bits)) as u8).collect();
            let mut packed = Vec::new();
            pack_row(bits, &q, &mut packed);
            assert_eq!(packed.len(), 96 * bits as usize / 8);
            let mut back = vec![0; q.len()];
            unpack_row(bits, &packed, &mut back);
            assert_eq!(back, q, "{bits} bits");
            unpack_any(bits, &packed, &mut back);
            assert_eq!(back, q, "{bits} bits, general path");
        }
    }

    #[test]
    fn the_first_value_is_in_the_lowest_bits() {
        let mut packed = Vec::new();
        pack_row(4, &[1, 2, 3, 4], &mut packed);
        assert_eq!(packed, [0x21, 0x43]);
        packed.clear();
        pack_row(3, &[1, 2, 3, 4, 5, 6, 7, 0], &mut packed);
        assert_eq!(packed, [0b1101_0001, 0b0101_1000, 0b0001_1111]);
    }
}
