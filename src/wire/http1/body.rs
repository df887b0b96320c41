//! Where a body's bytes are: by length, by chunks (RFC 9112 section 7.1), or up to the end of the
//! connection. The bytes are handed on where they lie.

use super::BodyFraming;
use super::fields::{TOKEN, VALUE};
use std::fmt;

/// Bounds of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of content. [`BodyFault::TooLarge`] comes as soon as more are announced.
    pub body_bytes_max: u64,
    /// Chunk extensions and trailers together.
    pub overhead_bytes_max: usize,
}

/// One chunk may have at most 4 GiB: more digits are only ever sent to make a counter wrap.
const CHUNK_BYTES_MAX: u64 = u32::MAX as u64;

/// Digits of a chunk size; more are only ever sent to be a nuisance.
const SIZE_DIGITS_MAX: u8 = 16;

/// What [`BodyDecoder::decode`] found at the front of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep<'b> {
    /// Content, never empty.
    Data(&'b [u8]),
    /// All input is used and the body goes on.
    NeedMore,
    /// The body is complete; what follows belongs to the next message.
    End,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// A chunk size is not 1 to 16 hexadecimal digits, or above 4 GiB.
    ChunkSize,
    /// A chunk extension breaks the grammar.
    ChunkExtension,
    /// A line of the chunk framing does not end in CRLF.
    ChunkLineEnd,
    /// A trailer line is not `name: value`.
    Trailer,
    /// Extensions and trailers are more than so many bytes.
    Overhead(usize),
    /// The content is more than so many bytes.
    TooLarge(u64),
    /// The connection ended before the body.
    Truncated,
}

impl BodyFault {
    /// The status to answer a request with whose body has this fault.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            _ => 400,
        }
    }
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChunkSize => f.write_str("a chunk size is not a plain hexadecimal number"),
            Self::ChunkExtension => f.write_str("a chunk extension is malformed"),
            Self::ChunkLineEnd => f.write_str("a chunk does not end in CRLF where it should"),
            Self::Trailer => f.write_str("a trailer line is not 'name: value'"),
            Self::Overhead(max) => {
                write!(f, "chunk extensions and trailers are more than {max} bytes")
            }
            Self::TooLarge(max) => write!(f, "the body is larger than {max} bytes"),
            Self::Truncated => f.write_str("the connection ended before the body"),
        }
    }
}

impl std::error::Error for BodyFault {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes to go, then the end.
    Length(u64),
    UntilClose,
    End,
    /// In the digits of a chunk size.
    Size {
        digits: u8,
        value: u64,
    },
    /// After `;`.
    ExtensionStart {
        value: u64,
    },
    ExtensionName {
        value: u64,
    },
    /// After `=`.
    ExtensionValue {
        value: u64,
    },
    ExtensionToken {
        value: u64,
    },
    Quoted {
        value: u64,
    },
    /// After a backslash in a quoted string.
    QuotedPair {
        value: u64,
    },
    /// After a quoted string.
    QuotedEnd {
        value: u64,
    },
    /// After the CR of the size line.
    SizeLf {
        value: u64,
    },
    /// So many bytes of the chunk to go; never 0.
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// After the CR of the empty line.
    EndLf,
}

/// Reads one body. Any cut of the input gives the same content and the same verdict.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    limits: BodyLimits,
    /// Bytes of content that chunks announced so far.
    announced: u64,
    /// Bytes of extensions and trailers so far.
    overhead: usize,
}

impl BodyDecoder {
    /// A decoder for one body.
    ///
    /// # Errors
    /// [`BodyFault::TooLarge`] when the announced length is over the limit.
    pub const fn new(framing: BodyFraming, limits: BodyLimits) -> Result<Self, BodyFault> {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::End,
            BodyFraming::Length(length) if length > limits.body_bytes_max => {
                return Err(BodyFault::TooLarge(limits.body_bytes_max));
            }
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size { digits: 0, value: 0 },
            BodyFraming::UntilClose => State::UntilClose,
        };
        Ok(Self { state, limits, announced: 0, overhead: 0 })
    }

    /// Looks at the front of `input`; returns what is there and how many bytes it took, the framing
    /// before it included. Take those bytes away and call again, until [`BodyStep::NeedMore`] or
    /// [`BodyStep::End`].
    ///
    /// # Errors
    /// What is wrong with the body. The connection is of no use any more.
    pub fn decode<'b>(&mut self, input: &'b [u8]) -> Result<(BodyStep<'b>, usize), BodyFault> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let left = match self.state {
                State::End => return Ok((BodyStep::End, used)),
                State::Length(left) | State::Data { left } => left,
                State::UntilClose => self.limits.body_bytes_max.saturating_sub(self.announced),
                _ => {
                    let whole = self.whole_line(rest)?;
                    if whole > 0 {
                        used += whole;
                        continue;
                    }
                    let Some(&byte) = rest.first() else { return Ok((BodyStep::NeedMore, used)) };
                    self.state = self.framing_byte(byte)?;
                    used += 1;
                    continue;
                }
            };
            if rest.is_empty() {
                return Ok((BodyStep::NeedMore, used));
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let data = rest.get(..length).unwrap_or_default();
            self.content(length as u64)?;
            return Ok((BodyStep::Data(data), used + length));
        }
    }

    /// Bytes that are still to come, as far as the head told; 0 for a body in chunks.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        match self.state {
            State::Length(left) => left,
            _ => 0,
        }
    }

    /// Whether all of the body was read: the connection can be used for the next message.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// The connection ended in an orderly way.
    ///
    /// # Errors
    /// [`BodyFault::Truncated`] unless the body was complete, or only the end of the connection
    /// could end it.
    pub const fn finish(&self) -> Result<(), BodyFault> {
        match self.state {
            State::End | State::UntilClose => Ok(()),
            _ => Err(BodyFault::Truncated),
        }
    }

    /// Goes on by `length` bytes of content.
    fn content(&mut self, length: u64) -> Result<(), BodyFault> {
        self.state = match self.state {
            State::Length(left) if left > length => State::Length(left - length),
            State::Length(_) => State::End,
            State::Data { left } if left > length => State::Data { left: left - length },
            State::Data { .. } => State::DataCr,
            State::UntilClose if length == 0 => {
                return Err(BodyFault::TooLarge(self.limits.body_bytes_max));
            }
            State::UntilClose => {
                self.announced = self.announced.saturating_add(length);
                State::UntilClose
            }
            other => other,
        };
        Ok(())
    }

    /// What nearly all chunk framing is made of, taken at once as far as it is whole: the line end
    /// behind a chunk, and a size line. Returns its length; 0 when it is to be read byte by byte.
    fn whole_line(&mut self, rest: &[u8]) -> Result<usize, BodyFault> {
        match self.state {
            State::DataCr => {
                let Some(next) = rest.strip_prefix(b"\r\n") else { return Ok(0) };
                self.state = State::Size { digits: 0, value: 0 };
                self.whole_line(next).map(|length| length + 2)
            }
            State::Size { digits: 0, .. } => match size_line(rest) {
                Some((value, length)) => {
                    self.state = self.size_end(value, b'\n')?;
                    Ok(length)
                }
                None => Ok(0),
            },
            _ => Ok(0),
        }
    }

    /// One byte of chunk framing; returns the next state.
    fn framing_byte(&mut self, byte: u8) -> Result<State, BodyFault> {
        match self.state {
            State::Size { digits, value } => return size_byte(digits, value, byte),
            State::SizeLf { value } => return self.size_end(value, byte),
            State::DataCr if byte == b'\r' => return Ok(State::DataLf),
            State::DataLf if byte == b'\n' => return Ok(State::Size { digits: 0, value: 0 }),
            State::DataCr | State::DataLf => return Err(BodyFault::ChunkLineEnd),
            State::TrailerLf if byte == b'\n' => return Ok(State::TrailerStart),
            State::EndLf if byte == b'\n' => return Ok(State::End),
            State::TrailerLf | State::EndLf => return Err(BodyFault::ChunkLineEnd),
            _ => {}
        }
        self.overhead = self.overhead.saturating_add(1);
        if self.overhead > self.limits.overhead_bytes_max {
            return Err(BodyFault::Overhead(self.limits.overhead_bytes_max));
        }
        match self.state {
            State::TrailerStart | State::TrailerName | State::TrailerValue => {
                trailer_byte(self.state, byte)
            }
            state => extension_byte(state, byte),
        }
    }

    /// The LF of a size line.
    fn size_end(&mut self, value: u64, byte: u8) -> Result<State, BodyFault> {
        if byte != b'\n' {
            return Err(BodyFault::ChunkLineEnd);
        }
        if value == 0 {
            return Ok(State::TrailerStart);
        }
        if value > CHUNK_BYTES_MAX {
            return Err(BodyFault::ChunkSize);
        }
        let max = self.limits.body_bytes_max;
        match self.announced.checked_add(value) {
            Some(sum) if sum <= max => self.announced = sum,
            _ => return Err(BodyFault::TooLarge(max)),
        }
        Ok(State::Data { left: value })
    }
}

/// A whole size line without extensions: its value and its length, line end included. `None` when
/// it has to be read byte by byte, because it is not whole, or not of this kind.
fn size_line(line: &[u8]) -> Option<(u64, usize)> {
    /// More digits than that are rare.
    const DIGITS_MAX: usize = 8;
    let mut value = 0;
    for (at, &byte) in line.iter().enumerate().take(DIGITS_MAX + 1) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if at > 0 && line.get(at + 1) == Some(&b'\n') => return Some((value, at + 2)),
            _ => return None,
        };
        value = value << 4 | u64::from(digit);
    }
    None
}

fn size_byte(digits: u8, value: u64, byte: u8) -> Result<State, BodyFault> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b';' if digits > 0 => return Ok(State::ExtensionStart { value }),
        b'\r' if digits > 0 => return Ok(State::SizeLf { value }),
        _ => return Err(BodyFault::ChunkSize),
    };
    if digits == SIZE_DIGITS_MAX {
        return Err(BodyFault::ChunkSize);
    }
    // 16 digits fit into 64 bits exactly.
    Ok(State::Size { digits: digits + 1, value: value << 4 | u64::from(digit) })
}

/// `;name`, `;name=token`, `;name="quoted"`, without white space: the standard allows a sender none
/// and no sender has a use for it.
fn extension_byte(state: State, byte: u8) -> Result<State, BodyFault> {
    let token = TOKEN[usize::from(byte)];
    Ok(match (state, byte) {
        (State::ExtensionStart { value } | State::ExtensionName { value }, _) if token => {
            State::ExtensionName { value }
        }
        (State::ExtensionName { value }, b'=') => State::ExtensionValue { value },
        (State::ExtensionValue { value }, b'"')
        | (State::QuotedPair { value }, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted { value },
        (State::ExtensionValue { value } | State::ExtensionToken { value }, _) if token => {
            State::ExtensionToken { value }
        }
        (State::Quoted { value }, b'"') => State::QuotedEnd { value },
        (State::Quoted { value }, b'\\') => State::QuotedPair { value },
        (State::Quoted { value }, _) if VALUE[usize::from(byte)] => State::Quoted { value },
        (
            State::ExtensionName { value }
            | State::ExtensionToken { value }
            | State::QuotedEnd { value },
            b';' | b'\r',
        ) => {
            if byte == b';' {
                State::ExtensionStart { value }
            } else {
                State::SizeLf { value }
            }
        }
        _ => return Err(BodyFault::ChunkExtension),
    })
}

/// Trailers are read for their grammar and dropped: merged into the head, they could say what was
/// never checked there.
fn trailer_byte(state: State, byte: u8) -> Result<State, BodyFault> {
    Ok(match (state, byte) {
        (State::TrailerStart, b'\r') => State::EndLf,
        (State::TrailerStart | State::TrailerName, _) if TOKEN[usize::from(byte)] => {
            State::TrailerName
        }
        (State::TrailerName, b':') => State::TrailerValue,
        (State::TrailerValue, b'\r') => State::TrailerLf,
        (State::TrailerValue, _) if VALUE[usize::from(byte)] => State::TrailerValue,
        _ => return Err(BodyFault::Trailer),
    })
}
