//! A reader of HTTP/1.1 messages for the simulated peers: strict, incremental, and not the
//! program's own.

/// Which side's messages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Requests,
    Replies,
}

/// A whole message, or as much of it as came.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Message {
    /// The request line or status line.
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{:?} {:?}\n{body}", self.line, self.fields)
    }
}

impl Message {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn status(&self) -> u16 {
        self.line.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Fixed(usize),
    ChunkSize,
    ChunkData(usize),
    Trailer,
    UntilClose,
}

/// Reads messages off a byte stream.
#[derive(Debug)]
pub(crate) struct Reader {
    side: Side,
    state: State,
    buffer: Vec<u8>,
    /// The message being read.
    pub(crate) message: Message,
}

impl Reader {
    pub(crate) fn new(side: Side) -> Self {
        Self { side, state: State::Head, buffer: Vec::new(), message: Message::default() }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// True when no byte of a next message came.
    pub(crate) fn is_between(&self) -> bool {
        self.state == State::Head && self.buffer.is_empty()
    }

    /// True when the head of the message is read.
    pub(crate) fn has_head(&self) -> bool {
        self.state != State::Head
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, String> {
        loop {
            let done = match self.state {
                State::Head => self.head()?,
                State::Fixed(left) => {
                    let left = self.take_body(left);
                    self.state = State::Fixed(left);
                    if left > 0 {
                        return Ok(None);
                    }
                    Some(true)
                }
                State::ChunkSize => self.chunk_size()?,
                State::ChunkData(left) => self.chunk_data(left)?,
                State::Trailer => match self.line()? {
                    None => None,
                    Some(line) if line.is_empty() => Some(true),
                    Some(line) => return Err(format!("a trailer: {line:?}")),
                },
                State::UntilClose => {
                    let all = self.buffer.len();
                    self.take_body(all);
                    None
                }
            };
            match done {
                None => return Ok(None),
                Some(false) => {}
                Some(true) => {
                    self.state = State::Head;
                    return Ok(Some(std::mem::take(&mut self.message)));
                }
            }
        }
    }

    /// The peer closed: a message that lasts until then is whole now.
    pub(crate) fn close(&mut self) -> Option<Message> {
        if self.state != State::UntilClose {
            return None;
        }
        self.state = State::Head;
        Some(std::mem::take(&mut self.message))
    }

    fn take_body(&mut self, most: usize) -> usize {
        let count = most.min(self.buffer.len());
        self.message.body.extend(self.buffer.drain(..count));
        most - count
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok(None);
        };
        let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
        let line = String::from_utf8(line[..end].to_vec()).map_err(|_| "a line is not UTF-8")?;
        Ok(Some(line))
    }

    fn head(&mut self) -> Result<Option<bool>, String> {
        let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head[..end].to_vec()).map_err(|_| "head is not UTF-8")?;
        let mut lines = head.split("\r\n");
        self.message.line = lines.next().unwrap_or_default().to_owned();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("a field: {line:?}"))?;
            let name = name.to_ascii_lowercase();
            self.message.fields.push((name, value.trim().to_owned()));
        }
        if self.side == Side::Replies && !self.message.line.starts_with("HTTP/1.1 ") {
            return Err(format!("a status line: {:?}", self.message.line));
        }
        if self.side == Side::Replies && self.message.status() < 200 {
            self.message = Message::default();
            return Ok(Some(false));
        }
        let chunked = self.message.field("transfer-encoding") == Some("chunked");
        let length = self.message.field("content-length");
        let length = length.map(|text| text.parse().map_err(|_| format!("length {text:?}")));
        self.state = match (chunked, length.transpose()?, self.side) {
            (true, Some(_), _) => return Err("both framings at once".to_owned()),
            (true, None, _) => State::ChunkSize,
            (false, Some(length), _) => State::Fixed(length),
            (false, None, Side::Requests) => State::Fixed(0),
            (false, None, Side::Replies) => State::UntilClose,
        };
        Ok(Some(false))
    }

    fn chunk_size(&mut self) -> Result<Option<bool>, String> {
        let Some(line) = self.line()? else { return Ok(None) };
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).map_err(|_| format!("chunk {line:?}"))?;
        self.state = if size == 0 { State::Trailer } else { State::ChunkData(size) };
        Ok(Some(false))
    }

    fn chunk_data(&mut self, left: usize) -> Result<Option<bool>, String> {
        let left = self.take_body(left);
        self.state = State::ChunkData(left);
        if left > 0 || self.buffer.len() < 2 {
            return Ok(None);
        }
        let end: Vec<u8> = self.buffer.drain(..2).collect();
        if end != b"\r\n" {
            return Err(format!("behind a chunk: {end:?}"));
        }
        self.state = State::ChunkSize;
        Ok(Some(false))
    }
}
