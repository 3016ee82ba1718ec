//! Plaintext that is wiped when it is let go of.
//!
//! `Zeroizing<Vec<u8>>` writes byte by byte, and what a vector never used as well: 9 µs for 64 KB, more than AES takes for
//! them. Here a slice is filled at once, and the compiler told that somebody looks at it, which is what `zeroize` does for
//! slices in its later releases. Keys, which are short, stay with `Zeroizing`.

use zeroize::optimization_barrier;

/// Fills with zeros, whether or not the compiler believes that anybody will read them.
#[inline]
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    optimization_barrier(bytes);
}

/// Bytes that are wiped when they are dropped. What grows leaves copies behind, so nothing is let grow that holds a secret.
#[derive(Default)]
pub(crate) struct Wiped(pub(crate) Vec<u8>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wiped_is_zeros() {
        let mut bytes = vec![7; 1000];
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 1000]);
        wipe(&mut []);
    }
}
