//! Byte buffers that exist only while they hold bytes: an idle connection owns none.
//!
//! A [`Buffer`] is filled at its end, either by reading into [`Buffer::spare`] or by
//! [`Buffer::append`], and emptied at its front. Its memory comes from a [`Pool`] and goes back
//! there as soon as it is empty.

/// Smallest allocation that [`Buffer::spare`] makes.
const BYTES_MIN: usize = 1024;

/// A queue of bytes in one piece.
///
/// Memory is zeroed once, when it is allocated, and never again: the vector's length is what was
/// initialised, and `start..end` is what is filled.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer that owns no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0 }
    }

    /// The bytes that were added and not yet consumed.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How many bytes are filled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True when nothing is filled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes of memory it owns.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes `count` bytes off the front; all, when there are fewer.
    pub fn consume(&mut self, count: usize) {
        self.start += count.min(self.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets the filled bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Room for at least `min` bytes behind the filled ones, all of it that there is. What is in it
    /// is old bytes or zeros; what was written there counts after [`Buffer::commit`].
    pub fn spare(&mut self, min: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < min {
            self.make_room(min);
        }
        &mut self.bytes[self.end..]
    }

    /// Adds the first `count` bytes of the last [`Buffer::spare`] to the filled ones. The caller
    /// vouches that it wrote them: the memory may have held bytes of another connection.
    pub fn commit(&mut self, count: usize) {
        debug_assert!(count <= self.bytes.len() - self.end, "more bytes than there was room for");
        self.end += count.min(self.bytes.len() - self.end);
    }

    /// Adds whatever `write` appends to the vector. `write` may change what it appended itself, as
    /// one who patches a length does, but nothing before it.
    pub fn append<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.bytes.truncate(self.end);
        if self.start >= self.len() {
            self.compact();
            self.bytes.truncate(self.end);
        }
        let result = write(&mut self.bytes);
        debug_assert!(self.bytes.len() >= self.end, "append must not shorten");
        self.end = self.bytes.len();
        self.start = self.start.min(self.end);
        result
    }

    /// Adds a copy of `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.append(|vec| vec.extend_from_slice(bytes));
    }

    /// Takes memory from the pool, if it owns none.
    pub fn rent(&mut self, pool: &mut Pool) {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.pop();
        }
    }

    /// Gives the memory back to the pool, if nothing is filled.
    pub fn rest(&mut self, pool: &mut Pool) {
        if self.is_empty() && self.bytes.capacity() > 0 {
            self.abandon(pool);
        }
    }

    /// Forgets the filled bytes and gives the memory back to the pool.
    pub fn abandon(&mut self, pool: &mut Pool) {
        self.clear();
        pool.push(std::mem::take(&mut self.bytes));
    }

    /// Moves bytes only when at least as many were consumed since, or the vector doubles: so every
    /// byte is moved a constant number of times, however small the reads are.
    #[cold]
    fn make_room(&mut self, min: usize) {
        if self.start >= self.len() {
            self.compact();
        }
        if self.bytes.len() - self.end < min {
            self.compact();
            let needed = self.end.saturating_add(min);
            let usual = self.bytes.len().saturating_mul(2).max(BYTES_MIN);
            let usual = usual.max(self.bytes.capacity());
            self.bytes.resize(needed.max(usual), 0);
        }
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

/// Memory that waits to be used again. Bounded in number and in size, so that one large answer does
/// not stay for ever.
#[derive(Debug)]
pub struct Pool {
    free: Vec<Vec<u8>>,
    count_max: usize,
    bytes_new: usize,
    bytes_max: usize,
}

impl Pool {
    /// A pool that keeps at most `count_max` pieces of at most `bytes_max` bytes each, and makes
    /// new ones of `bytes_new` bytes.
    #[must_use]
    pub const fn new(count_max: usize, bytes_new: usize, bytes_max: usize) -> Self {
        Self { free: Vec::new(), count_max, bytes_new, bytes_max }
    }

    /// An empty vector, used or new.
    #[must_use]
    pub fn lease(&mut self) -> Vec<u8> {
        let mut bytes = self.pop();
        bytes.clear();
        bytes
    }

    /// Takes a vector back. Drops it when it is too large or the pool is full.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.push(bytes);
    }

    /// How many pieces wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// True when no piece waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// Frees what waits beyond `count` pieces: an idle worker gives its memory back.
    pub fn shrink(&mut self, count: usize) {
        self.free.truncate(count);
        self.free.shrink_to(count);
    }

    /// The last piece that came back, which is the likeliest to be in the cache; its length is what
    /// is initialised of it.
    fn pop(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_else(|| Vec::with_capacity(self.bytes_new))
    }

    fn push(&mut self, bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        if capacity > 0 && capacity <= self.bytes_max && self.free.len() < self.count_max {
            self.free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(buffer: &mut Buffer, min: usize, bytes: &[u8]) {
        let spare = buffer.spare(min.max(bytes.len()));
        spare[..bytes.len()].copy_from_slice(bytes);
        buffer.commit(bytes.len());
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut buffer = Buffer::new();
        read(&mut buffer, 1, b"hello ");
        buffer.extend(b"world");
        assert_eq!(buffer.filled(), b"hello world");
        buffer.consume(6);
        assert_eq!(buffer.filled(), b"world");
        buffer.consume(99);
        assert!(buffer.is_empty());
        assert_eq!(buffer.filled(), b"");
    }

    #[test]
    fn reading_again_does_not_zero_the_memory_again() {
        let mut buffer = Buffer::new();
        buffer.spare(100).fill(7);
        buffer.commit(10);
        buffer.consume(10);
        assert!(buffer.spare(100).iter().all(|&byte| byte == 7));
    }

    #[test]
    fn memory_from_the_pool_is_not_zeroed_again_either() {
        let mut pool = Pool::new(2, 64, 4096);
        let mut buffer = Buffer::new();
        buffer.rent(&mut pool);
        buffer.spare(64).fill(7);
        buffer.rest(&mut pool);
        assert_eq!((buffer.capacity(), pool.len()), (0, 1));
        buffer.rent(&mut pool);
        assert!(buffer.is_empty() && pool.is_empty());
        assert!(buffer.spare(64).iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_buffer_with_bytes_keeps_its_memory() {
        let mut pool = Pool::new(2, 64, 4096);
        let mut buffer = Buffer::new();
        buffer.extend(b"x");
        buffer.rest(&mut pool);
        assert_eq!((buffer.filled(), pool.len()), (&b"x"[..], 0));
        buffer.abandon(&mut pool);
        assert_eq!((buffer.filled(), pool.len()), (&b""[..], 1));
    }

    #[test]
    fn the_pool_is_bounded_in_number_and_size() {
        let mut pool = Pool::new(2, 64, 128);
        for capacity in [64, 129, 0, 128, 64] {
            pool.give_back(Vec::with_capacity(capacity));
        }
        assert_eq!(pool.len(), 2);
        pool.shrink(1);
        assert_eq!(pool.len(), 1);
        let leased = pool.lease();
        assert!(leased.is_empty() && leased.capacity() >= 64);
    }

    #[test]
    fn a_leased_vector_never_shows_old_bytes() {
        let mut pool = Pool::new(2, 64, 128);
        pool.give_back(vec![1; 64]);
        assert_eq!(pool.lease(), b"");
    }

    #[test]
    fn a_drained_queue_does_not_grow() {
        let mut buffer = Buffer::new();
        for _ in 0..10_000 {
            read(&mut buffer, 512, &[1; 500]);
            buffer.extend(&[2; 30]);
            buffer.consume(530);
        }
        assert!(buffer.capacity() <= 4 * BYTES_MIN, "{}", buffer.capacity());
    }

    #[test]
    fn a_queue_that_is_never_quite_empty_does_not_grow() {
        let mut buffer = Buffer::new();
        buffer.extend(b"x");
        for _ in 0..10_000 {
            read(&mut buffer, 512, &[1; 500]);
            buffer.consume(500);
            assert_eq!(buffer.len(), 1);
        }
        assert!(buffer.capacity() <= 4 * BYTES_MIN, "{}", buffer.capacity());
    }

    proptest! {
        #[test]
        fn equals_a_queue(ops in proptest::collection::vec((0u8..4, 0usize..3000), 0..60)) {
            let mut buffer = Buffer::new();
            let mut model: Vec<u8> = Vec::new();
            let mut fresh = (0u8..=255).cycle();
            for (op, count) in ops {
                let bytes: Vec<u8> = fresh.by_ref().take(count).collect();
                match op {
                    0 => {
                        read(&mut buffer, 1, &bytes);
                        model.extend(bytes);
                    }
                    1 => {
                        buffer.extend(&bytes);
                        model.extend(bytes);
                    }
                    2 => {
                        buffer.consume(count);
                        model.drain(..count.min(model.len()));
                    }
                    _ => {
                        prop_assert!(buffer.spare(count).len() >= count);
                    }
                }
                prop_assert_eq!(buffer.filled(), &model[..]);
                prop_assert_eq!(buffer.len(), model.len());
            }
        }
    }
}
