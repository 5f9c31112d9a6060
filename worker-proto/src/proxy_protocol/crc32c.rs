//! CRC32C, the Castagnoli one, a bit at a time: headers are short and seldom have it.

pub(super) struct Crc32c(u32);

impl Crc32c {
    pub(super) fn new() -> Self {
        Crc32c(!0)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                let carry = self.0 & 1;
                self.0 = (self.0 >> 1) ^ (carry * POLYNOMIAL);
            }
        }
    }

    pub(super) fn value(&self) -> u32 {
        !self.0
    }
}

/// Reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that every list of CRCs has, and two of RFC 3720.
    #[test]
    fn known_sums_are_found() {
        for (bytes, sum) in [
            (b"123456789".as_slice(), 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
        ] {
            let mut crc = Crc32c::new();
            crc.add(bytes);
            assert_eq!(crc.value(), sum, "{bytes:?}");
        }
    }
}
