//! The buffers of one core. monoio owns a buffer while the kernel uses it, so they are `Vec`s that
//! are taken and given back, and a connection that waits for input holds one, not two.

use std::cell::RefCell;

use crate::connection::MAX_REPLY_LEN;
use crate::spop::PREFIX_LEN;

/// The usual input buffer: HAProxy's default frame and its prefix. Also how much one connection may
/// have read before others get their turn.
const SMALL_INPUT_LEN: usize = 16 * 1024;

/// The usual output buffer: a burst of half a default frame, and one whole ACK beyond it.
const SMALL_OUTPUT_LEN: usize = output_len(16_380);

/// Output up to this length is copied into a buffer of its own, so that the one it was made in is
/// free, and in the cache, for the next connection. With one NOTIFY in flight on each of a thousand
/// connections a thousand writes are under way at once: 0.83 of the CPU time.
pub(super) const SHORT_OUTPUT_LEN: usize = 1024;

/// Bytes of free buffers kept of each kind and class, so that a peak is not held for ever. More
/// connections at work at once are rare, and the allocator serves them.
const KEEP_LEN: usize = 16 * 1024 * 1024;

/// Room for a burst of ACKs that ends just below its bound, one more ACK, and a reply of the
/// connection itself.
pub(super) const fn output_len(max_frame_size: usize) -> usize {
    max_frame_size / 2 + max_frame_size + PREFIX_LEN + MAX_REPLY_LEN
}

/// Free buffers of one core, by length class.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    input: RefCell<[Vec<Vec<u8>>; 2]>,
    output: RefCell<[Vec<Vec<u8>>; 2]>,
    short: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer with room for at least `len` bytes. `largest` is what the core's settings
    /// allow, so that there are two classes and no others.
    pub(super) fn take_input(&self, len: usize, largest: usize) -> Vec<u8> {
        let (class, capacity) = class(len, SMALL_INPUT_LEN, largest);
        let free = self.input.borrow_mut()[class].pop();
        free.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    pub(super) fn give_input(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let class = usize::from(buffer.capacity() > SMALL_INPUT_LEN);
        keep(&mut self.input.borrow_mut()[class], buffer);
    }

    /// A buffer whose length is at least `len`, of unspecified content.
    pub(super) fn take_output(&self, len: usize, largest: usize) -> Vec<u8> {
        let (class, capacity) = class(len, SMALL_OUTPUT_LEN, largest);
        let free = self.output.borrow_mut()[class].pop();
        // Longer than the short ones, which are told by their capacity.
        free.unwrap_or_else(|| vec![0; capacity.max(SHORT_OUTPUT_LEN + 1)])
    }

    /// What is to be written of `buffer`, in a buffer that is right for it.
    pub(super) fn fit_output(&self, buffer: Vec<u8>, filled: usize) -> Vec<u8> {
        if filled > SHORT_OUTPUT_LEN {
            return buffer;
        }
        let free = self.short.borrow_mut().pop();
        let mut short = free.unwrap_or_else(|| Vec::with_capacity(SHORT_OUTPUT_LEN));
        short.extend_from_slice(&buffer[..filled]);
        self.give_output(buffer);
        short
    }

    pub(super) fn give_output(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == SHORT_OUTPUT_LEN {
            buffer.clear();
            keep(&mut self.short.borrow_mut(), buffer);
            return;
        }
        let class = usize::from(buffer.len() > SMALL_OUTPUT_LEN);
        keep(&mut self.output.borrow_mut()[class], buffer);
    }
}

fn class(len: usize, small: usize, largest: usize) -> (usize, usize) {
    if len <= small {
        // Where the settings allow only less, it is less: that is how memory is traded.
        (0, small.min(largest))
    } else {
        debug_assert!(
            len <= largest,
            "no connection negotiates above the settings"
        );
        (1, largest)
    }
}

fn keep(free: &mut Vec<Vec<u8>>, buffer: Vec<u8>) {
    if free.len() * buffer.capacity() < KEEP_LEN {
        free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_by_class() {
        let buffers = Buffers::default();
        let mut small = buffers.take_input(300, 70_000);
        small.push(1);
        let (large, output) = (
            buffers.take_input(65_536, 70_000),
            buffers.take_output(9, 70_000),
        );
        assert_eq!(
            (small.capacity(), large.capacity()),
            (SMALL_INPUT_LEN, 70_000)
        );
        assert_eq!(output.len(), SMALL_OUTPUT_LEN);
        let at = small.as_ptr();
        buffers.give_input(large);
        buffers.give_input(small);
        let again = buffers.take_input(300, 70_000);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert_eq!(buffers.take_input(20_000, 70_000).capacity(), 70_000);
    }

    #[test]
    fn small_frames_get_small_buffers() {
        let buffers = Buffers::default();
        assert_eq!(buffers.take_input(0, 260).capacity(), 260);
        let output = buffers.take_output(output_len(256), output_len(256));
        assert!(output.len() >= output_len(256));
        let at = output.as_ptr();
        let short = buffers.fit_output(output, 12);
        assert_eq!((short.len(), short.capacity()), (12, SHORT_OUTPUT_LEN));
        let at_short = short.as_ptr();
        buffers.give_output(short);
        let output = buffers.take_output(9, output_len(256));
        assert_eq!(output.as_ptr(), at);
        let short = buffers.fit_output(output, 1);
        assert_eq!(short.as_ptr(), at_short);
    }

    #[test]
    fn a_peak_is_not_kept() {
        const LARGE: usize = 1024 * 1024;
        let buffers = Buffers::default();
        let peak: Vec<_> = (0..100).map(|_| buffers.take_input(LARGE, LARGE)).collect();
        for buffer in peak {
            buffers.give_input(buffer);
        }
        assert_eq!(buffers.input.borrow()[1].len(), KEEP_LEN / LARGE);
    }
}
