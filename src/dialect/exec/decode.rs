//! The lines of `codex exec --json` into events.
//!
//! A message comes whole. It is held back until the next line, because the agent may have lost its
//! own stream in the middle of it: it says so (`Reconnecting...`) and tells everything of the broken
//! attempt once more.

use super::Run;
use super::activity;
use super::fault::{self, End};
use super::line::{Item, Line};
use crate::dialect::event::{Event, Part, Sink, Stop, Usage};
use crate::dialect::{Decode, Sent};
use crate::fault::{Failure, Fault, Kind};
use crate::wire::json::{self, Bad, Escaped};
use crate::wire::sse::Frame;

/// Decodes one run.
#[derive(Debug)]
pub(super) struct Decoder {
    run: Run,
    /// The next part's number.
    next: u32,
    /// Ordinal of the next message.
    message: u32,
    /// The id of the thread.
    thread: String,
    /// An answer is told of with its first part: until then its failure can be a status.
    started: bool,
    /// A message that is not known to be whole.
    held: Option<String>,
    /// What was said since the agent last used a tool.
    said: Vec<Said>,
    /// The agent began anew: how much of that it said again.
    again: Option<usize>,
    usage: Option<Usage>,
    /// It used a tool.
    acted: bool,
    done: bool,
}

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    voice: Voice,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    Message,
    Reasoning,
}

impl Decoder {
    pub(super) fn new(sent: Sent) -> Self {
        Self {
            run: sent.run.map(|run| *run).unwrap_or_default(),
            next: 0,
            message: 0,
            thread: String::new(),
            started: false,
            held: None,
            said: Vec::new(),
            again: None,
            usage: None,
            acted: false,
            done: false,
        }
    }

    fn take(&mut self, line: &Line<'_>, sink: &mut Sink<'_>) {
        match line.kind.raw() {
            "thread.started" => line.thread.raw().clone_into(&mut self.thread),
            "item.started" => self.act(sink),
            "item.completed" => self.item(&line.item, sink),
            "error" if is_passing(line.message) => {
                self.held = None;
                self.again = Some(0);
            }
            "turn.completed" => {
                // The sum over the thread, which has no other turn.
                self.usage = line.usage;
                self.stop(Stop::End, sink);
            }
            "turn.failed" => match fault::read(&line.message.decode()) {
                End::Stop(stop) => self.stop(stop, sink),
                End::Fail(failure) => {
                    self.release(false, sink);
                    self.fail(&failure, sink);
                }
            },
            _ => {}
        }
    }

    fn item(&mut self, item: &Item<'_>, sink: &mut Sink<'_>) {
        match item.kind.raw() {
            "agent_message" => {
                if !item.text.is_empty() && !self.is_repeated(Voice::Message, item.text) {
                    self.release(false, sink);
                    self.held = Some(item.text.raw().to_owned());
                }
            }
            "reasoning" => {
                if item.text.is_empty() || self.is_repeated(Voice::Reasoning, item.text) {
                    return;
                }
                self.release(false, sink);
                self.note(Voice::Reasoning, item.text);
                if self.run.hide_reasoning != Some(true) {
                    self.part(Part::Reasoning { raw: false }, item.text, sink);
                }
            }
            // A warning of the agent's is no step of its work.
            "error" if self.run.show_activity != Some(true) => {}
            kind => {
                if kind != "error" {
                    self.act(sink);
                }
                if self.run.show_activity == Some(true) {
                    let mut words = Vec::new();
                    activity::tell(item, &mut words);
                    if let Ok(words) = std::str::from_utf8(&words)
                        && !words.is_empty()
                    {
                        self.release(false, sink);
                        let kind = Part::Reasoning { raw: false };
                        self.part(kind, Escaped::trusted(words), sink);
                    }
                }
            }
        }
    }

    /// The agent uses a tool: what it said before stands.
    fn act(&mut self, sink: &mut Sink<'_>) {
        self.acted = true;
        self.release(false, sink);
        self.said.clear();
        self.again = None;
    }

    /// Whether this was said before the agent began anew.
    fn is_repeated(&mut self, voice: Voice, text: Escaped<'_>) -> bool {
        let Some(at) = self.again else { return false };
        let same = |said: &Said| said.voice == voice && said.text == text.raw();
        if self.said.get(at).is_some_and(same) {
            self.again = Some(at + 1);
            return true;
        }
        // It takes another way now.
        self.again = None;
        false
    }

    fn note(&mut self, voice: Voice, text: Escaped<'_>) {
        self.said.push(Said { voice, text: text.raw().to_owned() });
    }

    /// Tells the message that was held back. Where the client wants one document as the answer, only
    /// the last message is that.
    fn release(&mut self, last: bool, sink: &mut Sink<'_>) {
        let Some(held) = self.held.take() else { return };
        let text = Escaped::trusted(&held);
        self.note(Voice::Message, text);
        if self.run.last_message && !last {
            if self.run.hide_reasoning != Some(true) {
                self.part(Part::Reasoning { raw: false }, text, sink);
            }
            return;
        }
        let kind = Part::Text { message: self.message };
        self.message += 1;
        self.part(kind, text, sink);
    }

    fn part(&mut self, kind: Part<'_>, text: Escaped<'_>, sink: &mut Sink<'_>) {
        self.start(sink);
        let part = self.next;
        self.next += 1;
        sink(Event::Open { part, kind });
        sink(Event::Delta { part, text, logprobs: None });
        sink(Event::Close { part });
    }

    fn start(&mut self, sink: &mut Sink<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            let id = Escaped::trusted(&self.thread);
            sink(Event::Start { id, model: Escaped::EMPTY });
        }
    }

    fn stop(&mut self, stop: Stop, sink: &mut Sink<'_>) {
        self.release(true, sink);
        if self.next == 0 && !self.acted && stop == Stop::End {
            let message = "the Codex CLI ended its turn without a word";
            self.fail(&Failure::new(Fault::upstream(Kind::BadReply), message), sink);
            return;
        }
        self.start(sink);
        if let Some(usage) = self.usage {
            sink(Event::Usage(usage));
        }
        sink(Event::Stop(stop));
        self.done = true;
    }

    fn fail(&mut self, failure: &Failure, sink: &mut Sink<'_>) {
        sink(Event::Fail(failure));
        self.done = true;
    }
}

impl Decode for Decoder {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut Sink<'_>) -> Result<(), Bad> {
        let data = frame.data.trim_ascii();
        if self.done || data.is_empty() {
            return Ok(());
        }
        let line = Line::read(json::utf8(data)?)?;
        self.take(&line, sink);
        Ok(())
    }

    /// Its replies are lines; a document is all of them.
    fn document(&mut self, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Bad> {
        for line in body.split(|byte| *byte == b'\n') {
            self.frame(Frame { name: b"", data: line }, sink)?;
        }
        self.finish(sink);
        Ok(())
    }

    fn finish(&mut self, sink: &mut Sink<'_>) {
        if self.done {
            return;
        }
        self.release(false, sink);
        let message = "the Codex CLI ended before its turn did";
        self.fail(&Failure::new(Fault::upstream(Kind::Truncated), message), sink);
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

/// Whether the agent tells of trouble that it goes on after.
fn is_passing(message: Escaped<'_>) -> bool {
    message.raw().starts_with("Reconnecting...")
}
