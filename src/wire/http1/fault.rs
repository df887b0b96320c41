//! Why a head is refused, in words for people.

use std::fmt;

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// A byte that no head may carry: a control byte, or one above 0x7e in a request line.
    ForbiddenByte(u8),
    /// A CR that no LF follows.
    BareCr,
    /// An LF that no CR precedes.
    BareLf,
    /// More than two empty lines before the request line.
    LeadingLines,
    /// The request line is not `METHOD SP target SP HTTP/1.1`.
    RequestLine,
    /// The request line is longer than so many bytes.
    RequestLineTooLong(usize),
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// `CONNECT` or `TRACE`.
    Method,
    /// The target is neither a path nor an absolute `http` URL.
    Target,
    /// The status line is not `HTTP/1.1 DDD` with 100 to 599.
    StatusLine,
    /// 101, though no upgrade was asked for.
    Switching,
    /// A field line is not `name: value`.
    FieldLine,
    /// A field value goes on in the next line (obs-fold).
    Folded,
    /// The head is longer than so many bytes.
    HeadTooLong(usize),
    /// The head has more than so many fields.
    TooManyFields(usize),
    /// A field that may come once came twice.
    Repeated(&'static str),
    /// A field's value is not one that it may have.
    BadValue(&'static str),
    /// An HTTP/1.1 request without `Host`.
    NoHost,
    /// `Content-Length` and `Transfer-Encoding` together.
    TwoLengths,
    /// `Transfer-Encoding` is not exactly `chunked`.
    TransferCoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    OldTransferCoding,
    /// An `Expect` other than `100-continue`.
    Expectation,
}

impl HeadFault {
    /// The status to answer a request with that has this fault (RFC 9110 section 15.5, RFC 6585).
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::RequestLineTooLong(_) => 414,
            Self::Expectation => 417,
            Self::HeadTooLong(_) | Self::TooManyFields(_) => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for HeadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ForbiddenByte(byte) => {
                write!(f, "the HTTP head has the byte 0x{byte:02x}, which is not allowed there")
            }
            Self::BareCr => f.write_str("the HTTP head has a CR without an LF after it"),
            Self::BareLf => f.write_str("the HTTP head has an LF without a CR before it"),
            Self::LeadingLines => f.write_str("more than two empty lines before the request line"),
            Self::RequestLine => f.write_str("the request line is not 'METHOD target HTTP/1.1'"),
            Self::RequestLineTooLong(max) => {
                write!(f, "the request line is longer than {max} bytes; shorten the URL")
            }
            Self::Version => f.write_str("only HTTP/1.1 and HTTP/1.0 are spoken here"),
            Self::Method => f.write_str("CONNECT and TRACE are not served"),
            Self::Target => {
                f.write_str("the request target must be a path or an absolute http URL")
            }
            Self::StatusLine => f.write_str("the status line is not 'HTTP/1.1' and 100 to 599"),
            Self::Switching => f.write_str("the server switched protocols without being asked"),
            Self::FieldLine => f.write_str("a header line is not 'name: value'"),
            Self::Folded => f.write_str("a header value is continued on a second line"),
            Self::HeadTooLong(max) => write!(f, "the HTTP head is longer than {max} bytes"),
            Self::TooManyFields(max) => write!(f, "the HTTP head has more than {max} fields"),
            Self::Repeated(name) => write!(f, "the header '{name}' is there more than once"),
            Self::BadValue(name) => write!(f, "the header '{name}' has a value it cannot have"),
            Self::NoHost => f.write_str("the header 'host' is missing"),
            Self::TwoLengths => {
                f.write_str("'content-length' and 'transfer-encoding' exclude each other")
            }
            Self::TransferCoding => f.write_str("'transfer-encoding' may only be 'chunked'"),
            Self::OldTransferCoding => f.write_str("HTTP/1.0 knows no 'transfer-encoding'"),
            Self::Expectation => f.write_str("'expect' may only be '100-continue'"),
        }
    }
}

impl std::error::Error for HeadFault {}
