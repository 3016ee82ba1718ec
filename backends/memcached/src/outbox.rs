//! Bytes that wait for the socket: many small requests in one piece, large values as they are.
//!
//! Requests that arrive while the socket is busy leave with one system call, which is where the speed of a busy connection
//! comes from; a large value is handed to the kernel from where it lies, without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// From this size on a value is not copied. A copy of less is cheaper than a piece of its own.
const OWN_PIECE: usize = 16 << 10;
/// Pieces per system call.
const SLICES: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(crate) fn push_value(&mut self, value: &Bytes) {
        if value.len() < OWN_PIECE {
            return self.push(value);
        }
        self.seal();
        self.len += value.len();
        self.pieces.push_back(value.clone());
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves everything to the end of `other`.
    pub(crate) fn move_to(&mut self, other: &mut Self) {
        self.seal();
        other.seal();
        other.len += std::mem::take(&mut self.len);
        other.pieces.append(&mut self.pieces);
    }

    /// The first pieces, for a system call. Only what was moved here is seen.
    pub(crate) fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>) {
        slices.extend(self.pieces.iter().take(SLICES).map(|piece| IoSlice::new(piece)));
    }

    /// Drops the first `count` bytes.
    pub(crate) fn advance(&mut self, mut count: usize) {
        self.len -= count;
        while count > 0 {
            let Some(first) = self.pieces.front_mut() else { return };
            let step = count.min(first.len());
            first.advance(step);
            count -= step;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let large = Bytes::from(vec![b'L'; OWN_PIECE]);
        let (mut outbox, mut socket) = (Outbox::default(), Outbox::default());
        let mut expected = Vec::new();
        for round in 0..40_u8 {
            outbox.push(&[round; 100]);
            expected.extend([round; 100]);
            if round % 3 == 0 {
                outbox.push_value(&large);
                expected.extend(&large);
            }
            if round % 7 == 0 {
                outbox.move_to(&mut socket);
                assert!(outbox.is_empty());
            }
        }
        outbox.move_to(&mut socket);
        assert_eq!(socket.len(), expected.len());
        let mut written = Vec::new();
        while !socket.is_empty() {
            let mut slices = Vec::new();
            socket.slices(&mut slices);
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let count = all.len().min(1 + written.len() % 5000);
            written.extend_from_slice(&all[..count]);
            socket.advance(count);
        }
        assert_eq!(written, expected);
    }
}
