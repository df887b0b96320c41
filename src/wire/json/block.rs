//! Sixty-four bytes at once: which of them are special, as the bits of a number. Written so that
//! compilers make vector code of it without being told to (checked for SSE2 and NEON).

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// The bit that stands for each byte while rows of eight lie over each other.
const WEIGHTS: [u8; BLOCK] = {
    let mut weights = [0; BLOCK];
    let mut at = 0;
    while at < BLOCK {
        weights[at] = 1 << (at / 8);
        at += 1;
    }
    weights
};

/// Bit `n` says whether byte `n` of the block is a `hit`.
///
/// Vector units of the plain x86-64 can gather bits only by an instruction that no safe code asks
/// for: so the eight rows are laid over each other, and the square of bits is turned afterwards.
#[inline(always)]
fn bits(block: &[u8; BLOCK], hit: impl Fn(u8) -> bool) -> u64 {
    let mut weighed = [0; BLOCK];
    for ((weighed, &byte), &weight) in weighed.iter_mut().zip(block).zip(&WEIGHTS) {
        *weighed = if hit(byte) { weight } else { 0 };
    }
    let rows = weighed.as_chunks::<8>().0;
    turn(rows.iter().fold(0, |square, row| square | u64::from_le_bytes(*row)))
}

/// Turns a square of eight by eight bits around its diagonal.
const fn turn(square: u64) -> u64 {
    let swap = (square ^ (square >> 7)) & 0x00aa_00aa_00aa_00aa;
    let square = square ^ swap ^ (swap << 7);
    let swap = (square ^ (square >> 14)) & 0x0000_cccc_0000_cccc;
    let square = square ^ swap ^ (swap << 14);
    let swap = (square ^ (square >> 28)) & 0x0000_0000_f0f0_f0f0;
    square ^ swap ^ (swap << 28)
}

/// Quotes.
pub(super) fn quotes(block: &[u8; BLOCK]) -> u64 {
    bits(block, |byte| byte == b'"')
}

/// Control characters, which are rare: most blocks are found to have none at half the price.
pub(super) fn controls(block: &[u8; BLOCK]) -> u64 {
    if block.iter().fold(false, |found, &byte| found | (byte < 0x20)) {
        bits(block, |byte| byte < 0x20)
    } else {
        0
    }
}

/// Backslashes.
pub(super) fn slashes(block: &[u8; BLOCK]) -> u64 {
    bits(block, |byte| byte == b'\\')
}

/// The letters of the usual escapes.
pub(super) fn usual_letters(block: &[u8; BLOCK]) -> u64 {
    bits(block, |byte| (byte == b'n') | (byte == b't') | (byte == b'r'))
}

/// True when no byte is a quote, a backslash or a control character.
pub(super) fn is_plain(block: &[u8; BLOCK]) -> bool {
    !block
        .iter()
        .fold(false, |found, &byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'))
}

/// The bytes behind a backslash that is not itself behind one. `slashes` are the backslashes of a
/// block; `first` says whether its first byte is escaped by the block before, and then whether the
/// next block's is.
pub(super) const fn behind_slashes(slashes: u64, first: &mut bool) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let carried = *first as u64;
    let slashes = slashes & !carried;
    let behind = slashes << 1 | carried;
    // A run of backslashes escapes every second byte from its start on; adding carries through it.
    let odd_starts = slashes & !EVEN & !behind;
    let (even_runs, over) = odd_starts.overflowing_add(slashes);
    *first = over;
    (EVEN ^ (even_runs << 1)) & behind
}
