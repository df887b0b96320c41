//! Simulated model servers: they read requests, decide a fate for each, and send the reply in
//! pieces of any size.

use crate::sim::check;
use crate::sim::client::SHARED;
use crate::sim::http::{Message, Reader, Side};
use crate::sim::net::{ConnId, Got, SimNet};
use crate::sim::script::{self, Api, Content};
use crate::sim::tokens::Account;
use crate::sim::{Profile, Random};
use serde_json::{Value, json};

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Sent whole.
    Whole,
    /// Broken off after so many bytes, by a reset or by an orderly end.
    Cut { at: usize, reset: bool },
    /// Nothing more after so many bytes, until the proxy gives up.
    Stall { at: usize },
}

/// One request that reached an upstream whole.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    /// Whose it is; empty for the upload of an image that many have.
    pub(crate) marker: String,
    /// The file, where this is an upload.
    pub(crate) file: Option<Vec<u8>>,
    pub(crate) conn: ConnId,
    /// Requests served before on this connection.
    pub(crate) served: usize,
    pub(crate) began_us: u64,
    /// What the proxy had read on this connection before.
    read_before: usize,
    /// Bytes of the reply that are on their way.
    pub(crate) sent: usize,
    pub(crate) reply: Reply,
    /// When nothing more will be sent.
    pub(crate) ended_us: Option<u64>,
    /// Refused because of its token: nothing was executed.
    pub(crate) unauthorized: bool,
    /// When a stall began.
    pub(crate) stalled_us: Option<u64>,
}

/// A reply, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content: Content,
    /// It says that a file is gone which had been there.
    pub(crate) forgot: bool,
    pub(crate) fate: Fate,
    /// Offset of the first byte from which on the reader can know that the answer is whole.
    pub(crate) whole_from: usize,
    bytes: Vec<u8>,
    junk: &'static [u8],
    closes: bool,
}

impl Execution {
    /// Whether a client may be told that this was a success.
    pub(crate) fn may_succeed(&self) -> bool {
        self.reply.status == 200 && self.sent >= self.reply.whole_from
    }

    /// Whether the reply left whole and well.
    pub(crate) fn must_succeed(&self, net: &SimNet) -> bool {
        self.may_succeed()
            && self.reply.fate == Fate::Whole
            && self.sent == self.reply.bytes.len()
            && !net.conn(self.conn).was_reset
    }

    /// Whether the connection was reused and died before the proxy saw a byte of the reply.
    pub(crate) fn was_stale(&self, net: &SimNet) -> bool {
        self.served > 0 && net.conn(self.conn).read_total == self.read_before
    }
}

#[derive(Debug)]
struct Link {
    id: ConnId,
    api: Api,
    reader: Reader,
    served: usize,
    current: Option<usize>,
    next_us: u64,
    closes_us: Option<u64>,
    closed: bool,
    /// Never reads.
    deaf: bool,
    /// Dies in the middle of the first request.
    brittle: bool,
}

/// All model servers.
#[derive(Debug)]
pub(crate) struct Server {
    random: Random,
    profile: Profile,
    links: Vec<Link>,
    /// The contents of the files that are there; `None` for those that are gone.
    files: Vec<Option<Vec<u8>>>,
    /// Whose each file is.
    owners: Vec<String>,
    pub(crate) executions: Vec<Execution>,
    /// What the proxy sent that it must not send.
    pub(crate) errors: Vec<String>,
    /// Links that were deaf, for those who look for reasons of a wait.
    pub(crate) deaf: u64,
}

const JUNK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: \
    13\r\n\r\n\"mk_deadbeef\"";

impl Server {
    pub(crate) fn new(seed: u64, profile: Profile) -> Self {
        Self {
            random: Random::new(seed),
            profile,
            links: Vec::new(),
            files: Vec::new(),
            owners: Vec::new(),
            executions: Vec::new(),
            errors: Vec::new(),
            deaf: 0,
        }
    }

    /// Does what can be done now; returns when there is more.
    pub(crate) fn step(&mut self, net: &mut SimNet) -> Option<u64> {
        for id in net.take_fresh() {
            let to = net.conn(id).to.map(|address| address.port());
            let trouble = self.profile.trouble;
            let link = Link {
                id,
                api: match to {
                    Some(81) => Api::Responses,
                    Some(82) => Api::Giga,
                    _ => Api::Chat,
                },
                reader: Reader::new(Side::Requests),
                served: 0,
                current: None,
                next_us: 0,
                closes_us: self.random.chance(trouble / 4).then_some(net.now_us),
                closed: false,
                deaf: self.random.chance(trouble / 8),
                brittle: self.random.chance(trouble / 8),
            };
            self.deaf += u64::from(link.deaf);
            self.links.push(link);
        }
        let mut next: Option<u64> = None;
        for index in 0..self.links.len() {
            if self.links[index].closed {
                continue;
            }
            self.read(index, net);
            self.send(index, net);
            self.close_idle(index, net);
            let link = &self.links[index];
            let sending = link.current.filter(|_| !link.closed).map(|_| link.next_us);
            let wakes = [sending, link.closes_us.filter(|_| !link.closed)];
            let wake = wakes.into_iter().flatten().filter(|at| *at > net.now_us).min();
            next = [next, wake].into_iter().flatten().min();
        }
        next
    }

    /// The requests of this marker that are being served, or were.
    pub(crate) fn of(&self, marker: &str) -> Vec<&Execution> {
        let its = |execution: &&Execution| execution.marker == marker && !execution.unauthorized;
        self.executions.iter().filter(its).collect()
    }

    /// How many requests of this marker were refused because of their token.
    pub(crate) fn unauthorized(&self, marker: &str) -> usize {
        let its = |execution: &&Execution| execution.marker == marker && execution.unauthorized;
        self.executions.iter().filter(its).count()
    }

    fn read(&mut self, index: usize, net: &mut SimNet) {
        let link = &mut self.links[index];
        if link.deaf {
            return;
        }
        loop {
            match net.peer_recv(link.id, 64 << 10) {
                Got::Bytes(bytes) => {
                    link.reader.feed(&bytes);
                    if link.brittle && link.served == 0 {
                        link.closed = true;
                        net.peer_rst(link.id);
                        return;
                    }
                }
                Got::Nothing => break,
                Got::Fin | Got::Rst => {
                    link.closed = true;
                    let id = link.id;
                    if let Some(current) = link.current {
                        self.executions[current].ended_us.get_or_insert(net.now_us);
                    }
                    net.peer_close(id);
                    return;
                }
            }
        }
        if link.current.is_some() {
            return;
        }
        match link.reader.next() {
            Ok(None) => {}
            Ok(Some(request)) => self.begin(index, &request, net),
            Err(error) => self.errors.push(format!("the request is broken: {error}")),
        }
    }

    fn begin(&mut self, index: usize, request: &Message, net: &mut SimNet) {
        let link = &mut self.links[index];
        let markers = check::markers(&request.body);
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let file = (link.api == Api::Giga).then(|| uploaded(request)).flatten();
        let path = match link.api {
            Api::Giga if file.is_some() => "POST /v1/files HTTP/1.1",
            Api::Chat | Api::Giga => "POST /v1/chat/completions HTTP/1.1",
            Api::Responses => "POST /v1/responses HTTP/1.1",
        };
        let right = request.line == path
            && request.field("host").is_some_and(|host| {
                ["chat.sim:80", "chat.sim", "resp.sim:81", "giga.sim:82"].contains(&host)
            })
            && (body["model"] == "up-model" || file.is_some())
            && markers.windows(2).all(|pair| pair[0] == pair[1]);
        let marker = markers.first().cloned();
        let marker =
            marker.or(file.as_deref().filter(|file| *file == SHARED).map(|_| String::new()));
        let (Some(marker), true) = (marker, right) else {
            self.errors.push(format!("a wrong request: {request:?}"));
            return;
        };
        let shown = request.field("authorization").and_then(|it| it.strip_prefix("Bearer "));
        let shown = shown.unwrap_or_default();
        let api = link.api;
        let owner = authorize(api, shown, &marker, net);
        let unauthorized = owner == Ok(None);
        let reply = owner.and_then(|owner| match owner {
            Some(owner) => self.serve(api, &owner, &body, file.as_deref(), &marker),
            None => {
                let stream = body["stream"] == true;
                Ok(make(api, stream, &marker, Some(shown), &self.profile, &mut self.random))
            }
        });
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.errors.push(format!("{marker}: {error}"));
                return;
            }
        };
        let link = &mut self.links[index];
        net.log(link.id, format_args!("executes {marker}: {} {:?}", reply.status, reply.fate));
        link.current = Some(self.executions.len());
        link.next_us = net.now_us + self.random.below(3_000);
        self.executions.push(Execution {
            marker,
            file,
            conn: link.id,
            served: link.served,
            began_us: net.now_us,
            read_before: net.conn(link.id).read_total,
            sent: 0,
            reply,
            ended_us: None,
            unauthorized,
            stalled_us: None,
        });
        link.served += 1;
    }

    /// The reply to whoever has an account.
    fn serve(
        &mut self,
        api: Api,
        owner: &str,
        body: &Value,
        file: Option<&[u8]>,
        marker: &str,
    ) -> Result<Reply, String> {
        if let Some(file) = file {
            let id = self.files.len();
            self.files.push(Some(file.to_vec()));
            self.owners.push(owner.to_owned());
            return Ok(take_in(id, marker, &self.profile, &mut self.random));
        }
        let foreign =
            |index: &usize| self.owners.get(*index).is_none_or(|theirs| *theirs != *owner);
        if let Some(index) = named(body).find(foreign) {
            return Err(format!("{owner} is served with file-{index} of somebody else"));
        }
        let gone = gone(&mut self.files, body, marker, &self.profile, &mut self.random)?;
        let stream = body["stream"] == true;
        Ok(match gone {
            Some(id) => refuse_file(id, &self.profile, &mut self.random),
            None => make(api, stream, marker, None, &self.profile, &mut self.random),
        })
    }

    fn send(&mut self, index: usize, net: &mut SimNet) {
        let link = &mut self.links[index];
        while let Some(current) = link.current
            && !link.closed
            && link.next_us <= net.now_us
        {
            let execution = &mut self.executions[current];
            let reply = &execution.reply;
            let end = match reply.fate {
                Fate::Whole => reply.bytes.len(),
                Fate::Cut { at, .. } | Fate::Stall { at } => at,
            };
            if execution.sent >= end {
                finish(link, execution, &self.profile, &mut self.random, net);
                return;
            }
            let span = *self.random.pick(&[8, 300, 3_000, 30_000]);
            let most = 1 + self.random.below(span);
            let to = end.min(execution.sent + most as usize);
            let last = to == reply.bytes.len() && !reply.junk.is_empty();
            let taken = if last {
                // The junk arrives together with the last bytes, or it could be an answer to the
                // next request.
                let all = [&reply.bytes[execution.sent..], reply.junk].concat();
                net.peer_send(link.id, &all).min(to - execution.sent)
            } else {
                net.peer_send(link.id, &reply.bytes[execution.sent..to])
            };
            execution.sent += taken;
            if taken == 0 {
                // No room: the next look comes when the proxy has read, at this very time.
                return;
            }
            if execution.sent < end && self.random.chance(self.profile.gap) {
                let most = if self.random.chance(100) { 4_000_000 } else { 20_000 };
                link.next_us = net.now_us + 1 + self.random.below(most);
            }
        }
    }

    fn close_idle(&mut self, index: usize, net: &mut SimNet) {
        let link = &mut self.links[index];
        if link.closed || link.current.is_some() || link.closes_us.is_none_or(|at| at > net.now_us)
        {
            return;
        }
        link.closed = true;
        if self.random.chance(300) { net.peer_rst(link.id) } else { net.peer_close(link.id) }
    }
}

/// The reply was sent as far as its fate allows.
fn finish(
    link: &mut Link,
    execution: &mut Execution,
    profile: &Profile,
    random: &mut Random,
    net: &mut SimNet,
) {
    let now = net.now_us;
    match execution.reply.fate {
        Fate::Stall { .. } => {
            execution.stalled_us.get_or_insert(now);
            link.next_us = u64::MAX;
            return;
        }
        Fate::Cut { reset, .. } => {
            if reset {
                net.peer_rst(link.id);
            } else {
                net.peer_close(link.id);
            }
            link.closed = true;
        }
        Fate::Whole => {
            if execution.reply.closes {
                net.peer_close(link.id);
                link.closed = true;
            } else if random.chance(profile.idle_close) {
                link.closes_us = Some(now + random.below(40_000));
            }
        }
    }
    execution.ended_us.get_or_insert(now);
    link.current = None;
}

/// The file of a form.
fn uploaded(request: &Message) -> Option<Vec<u8>> {
    let boundary = request.field("content-type")?.strip_prefix("multipart/form-data; boundary=")?;
    let find = |from: usize, what: &[u8]| {
        let rest = request.body.get(from..)?;
        rest.windows(what.len()).position(|window| window == what).map(|at| from + at)
    };
    let named = find(0, b"name=\"file\"; filename=\"")?;
    let start = find(named, b"\r\n\r\n")? + 4;
    let end = find(start, format!("\r\n--{boundary}--\r\n").as_bytes())?;
    Some(request.body[start..end].to_vec())
}

/// The numbers of the files that a request names.
fn named(body: &Value) -> impl Iterator<Item = usize> {
    let messages = body["messages"].as_array();
    let lists = messages.into_iter().flatten().filter_map(|it| it["attachments"].as_array());
    let number = |id: &Value| id.as_str()?.strip_prefix("file-")?.parse::<usize>().ok();
    lists.flatten().map(move |id| number(id).unwrap_or(usize::MAX))
}

/// The first file that a request names and that is gone. An image that many have may go at any time.
fn gone(
    files: &mut [Option<Vec<u8>>],
    body: &Value,
    marker: &str,
    profile: &Profile,
    random: &mut Random,
) -> Result<Option<usize>, String> {
    for index in named(body) {
        let file = files.get_mut(index).ok_or("a file that never was")?;
        let own = file.as_ref().is_none_or(|file| {
            file == SHARED || check::markers(file).first().is_some_and(|of| of == marker)
        });
        if !own {
            return Err("a file of another request".to_owned());
        }
        if file.as_ref().is_some_and(|file| file == SHARED) && random.chance(profile.trouble / 3) {
            *file = None;
        }
        if file.is_none() {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// Whose the account is that a request shows; `None` when that is no good.
///
/// # Errors
/// It shows what is not its client's.
fn authorize(
    api: Api,
    shown: &str,
    marker: &str,
    net: &mut SimNet,
) -> Result<Option<String>, String> {
    let now_us = net.now_us;
    let Some(tokens) = &mut net.tokens else {
        return match shown {
            "sim-key" => Ok(Some("server".to_owned())),
            _ => Err("a wrong key".to_owned()),
        };
    };
    let provider = match api {
        Api::Chat => 0,
        Api::Responses => 1,
        Api::Giga => 2,
    };
    if marker.is_empty() {
        // A file that many clients have: nobody can tell whose it is.
        return Ok(tokens.owner(provider, shown, now_us));
    }
    let account = Account::of(marker);
    if let Some(owner) = tokens.given_to(shown)
        && account.owner() != Some(owner)
    {
        return Err(format!("{account:?} is served with the account of {owner}"));
    }
    if account == Account::Ended && shown != "tok-ended" {
        return Err(format!("{account:?} shows another token"));
    }
    Ok(tokens.owner(provider, shown, now_us))
}

/// Decides a reply and its fate.
fn make(
    api: Api,
    stream: bool,
    marker: &str,
    unauthorized: Option<&str>,
    profile: &Profile,
    random: &mut Random,
) -> Reply {
    let mut content = script::content(marker, random);
    if api == Api::Giga {
        content.calls.truncate(1);
    }
    let refuse = random.chance(profile.trouble / 3) || unauthorized.is_some();
    let fault = api != Api::Giga && stream && !refuse && random.chance(profile.trouble / 4);
    let status = match unauthorized {
        Some(_) => 401,
        None if refuse => *random.pick(&[400, 429, 500, 503]),
        None => 200,
    };
    let body = if refuse {
        // It repeats what it was shown, as some do.
        let bytes = script::upstream_error(marker, unauthorized).to_string().into_bytes();
        script::Body { whole_from: usize::MAX, bytes, is_stream: false }
    } else {
        script::body(api, stream, marker, &content, fault, random)
    };
    frame(status, content, &body, profile, random)
}

/// A reply to an upload.
fn take_in(id: usize, marker: &str, profile: &Profile, random: &mut Random) -> Reply {
    let refuse = random.chance(profile.trouble / 6);
    let (status, value) = match refuse {
        true => (*random.pick(&[400, 429, 500, 503]), script::upstream_error(marker, None)),
        false => (200, json!({ "id": format!("file-{id}"), "object": "file" })),
    };
    let bytes = value.to_string().into_bytes();
    let whole_from = if refuse { usize::MAX } else { bytes.len() };
    let body = script::Body { whole_from, bytes, is_stream: false };
    frame(status, Content::default(), &body, profile, random)
}

/// A reply to a request that names a file which is gone.
fn refuse_file(id: usize, profile: &Profile, random: &mut Random) -> Reply {
    let message = format!("No such file: file-{id}");
    let bytes = json!({ "status": 404, "message": message }).to_string().into_bytes();
    let body = script::Body { whole_from: usize::MAX, bytes, is_stream: false };
    let reply = frame(404, Content::default(), &body, profile, random);
    Reply { forgot: true, ..reply }
}

/// Decides how a reply is framed, and its fate.
fn frame(
    status: u16,
    content: Content,
    body: &script::Body,
    profile: &Profile,
    random: &mut Random,
) -> Reply {
    let framing = random.below(3);
    let closes = framing == 2 || random.chance(150);
    let mut bytes = Vec::new();
    if random.chance(100) {
        bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    }
    bytes.extend_from_slice(head(status, body, framing, closes).as_bytes());
    let mut whole_from = usize::MAX;
    if framing == 1 {
        let (mut rest, mut done) = (&body.bytes[..], 0);
        while !rest.is_empty() {
            let span = *random.pick(&[5, 400, 9_000]);
            let size = rest.len().min(1 + random.below(span) as usize);
            let extension = if random.chance(30) { ";x=\"y\"" } else { "" };
            bytes.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
            if body.is_stream && (done..=done + size).contains(&body.whole_from) {
                whole_from = whole_from.min(bytes.len() + body.whole_from - done);
            }
            bytes.extend_from_slice(&rest[..size]);
            bytes.extend_from_slice(b"\r\n");
            done += size;
            rest = &rest[size..];
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        if !body.is_stream && body.whole_from != usize::MAX {
            whole_from = bytes.len();
        }
    } else {
        whole_from = body.whole_from.saturating_add(bytes.len());
        bytes.extend_from_slice(&body.bytes);
    }
    let fate = match random.below(1000) {
        n if n < profile.trouble / 2 => {
            let at = if random.chance(300) { 0 } else { random.below(bytes.len() as u64) as usize };
            Fate::Cut { at, reset: random.chance(500) }
        }
        n if n < profile.trouble * 2 / 3 => {
            Fate::Stall { at: random.below(bytes.len() as u64) as usize }
        }
        _ => Fate::Whole,
    };
    // Where reads may stop early, nobody can tell junk from a late answer.
    let whole_reads = profile.rates.short + profile.rates.block == 0;
    let junk = random.chance(profile.trouble / 4) && framing != 2 && whole_reads;
    let junk: &[u8] = if junk { JUNK } else { b"" };
    Reply { status, content, forgot: false, fate, whole_from, bytes, junk, closes }
}

fn head(status: u16, body: &script::Body, framing: u64, closes: bool) -> String {
    let kind = if body.is_stream { "text/event-stream" } else { "application/json" };
    let mut head = format!("HTTP/1.1 {status} Sim\r\nContent-Type: {kind}\r\n");
    match framing {
        0 => head.push_str(&format!("Content-Length: {}\r\n", body.bytes.len())),
        1 => head.push_str("Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    if closes {
        head.push_str("Connection: close\r\n");
    }
    if status == 429 {
        head.push_str("Retry-After: 7\r\n");
    }
    head + "\r\n"
}
