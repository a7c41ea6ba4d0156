//! 128 bits that lie as two times 64: an entry with them is 8 bytes shorter than one with a `u128`, which
//! takes room for its alignment.

/// Two halves, compared as the number they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Wide {
    pub(super) high: u64,
    pub(super) low: u64,
}

impl Wide {
    #[allow(clippy::cast_possible_truncation, reason = "each is one half")]
    #[inline]
    pub(in super::super) const fn new(bits: u128) -> Self {
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    #[inline]
    pub(super) const fn bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }
}
