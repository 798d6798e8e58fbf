//! Choices taken from the first bytes of an input.

/// Bytes that make choices; zero when there are none left.
pub(crate) struct Steer<'a>(&'a [u8]);

impl<'a> Steer<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Up to so many of the next bytes.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has not been used for choices.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Cuts bytes into chunks of 1 to 16 octets, by a sequence that the seed begins; 0 does not cut.
pub(crate) fn chunks(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut rest, mut state, mut out) = (bytes, u32::from(seed), Vec::new());
    if seed == 0 {
        return vec![bytes];
    }
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = 1 + usize::try_from(state >> 28).unwrap();
        let (chunk, more) = rest.split_at(size.min(rest.len()));
        out.push(chunk);
        rest = more;
    }
    out
}

/// Where `needle` first stands in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
