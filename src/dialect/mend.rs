//! Events with whole characters: strict readers refuse a document that holds half a surrogate pair,
//! and an upstream may send one, be it by cutting a pair between two deltas.

use crate::dialect::event::{Call, Event, Part, Sink};
use crate::wire::json::{Escaped, Raw, Surrogates};

/// Stands between a decoder and what goes to a client. Parts never overlap, so one state is enough.
#[derive(Debug, Default)]
pub struct Mend {
    surrogates: Surrogates,
    text: String,
}

impl Mend {
    /// What is passed on of a delta's text, if anything.
    #[inline]
    pub fn delta<'t>(&'t mut self, text: Escaped<'t>) -> Option<Escaped<'t>> {
        let text = self.surrogates.pass(text, &mut self.text);
        (!text.is_empty()).then_some(text)
    }

    /// Passes `event` on, its texts mended: half a pair at the end of a delta waits for the next
    /// delta of the part, any other becomes U+FFFD. Allocates only when something has to change.
    pub fn event(&mut self, event: Event<'_>, sink: &mut Sink<'_>) {
        let (mut one, mut two, mut three) = (String::new(), String::new(), String::new());
        match event {
            Event::Delta { part, text, logprobs } => {
                let text = self.surrogates.pass(text, &mut self.text);
                let logprobs = logprobs.map(|array: Raw<'_>| array.paired(&mut one));
                if !text.is_empty() || logprobs.is_some() {
                    sink(Event::Delta { part, text, logprobs });
                }
            }
            Event::Seal { part, opaque } => {
                self.flush(part, sink);
                sink(Event::Seal { part, opaque: opaque.paired(&mut one) });
            }
            Event::Close { part } => {
                self.flush(part, sink);
                sink(event);
            }
            Event::Annotation { part, object } => {
                sink(Event::Annotation { part, object: object.paired(&mut one) });
            }
            Event::Start { id, model } => {
                sink(Event::Start { id: id.paired(&mut one), model: model.paired(&mut two) });
            }
            Event::Open { part, kind: Part::Call(call) } => {
                let call = Call {
                    kind: call.kind,
                    id: call.id.paired(&mut one),
                    namespace: call.namespace.paired(&mut two),
                    name: call.name.paired(&mut three),
                };
                sink(Event::Open { part, kind: Part::Call(call) });
            }
            Event::Open { part, kind: Part::Opaque { dialect, item } } => {
                let item = item.paired(&mut one);
                sink(Event::Open { part, kind: Part::Opaque { dialect, item } });
            }
            Event::Open { .. } | Event::Usage(_) | Event::Stop(_) | Event::Fail(_) => sink(event),
        }
    }

    fn flush(&mut self, part: u32, sink: &mut Sink<'_>) {
        if let Some(text) = self.surrogates.finish() {
            sink(Event::Delta { part, text, logprobs: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::event::CallKind;

    /// What comes out, one line an event.
    fn mended(events: &[Event<'_>]) -> Vec<String> {
        let (mut mend, mut lines) = (Mend::default(), Vec::new());
        for event in events {
            mend.event(*event, &mut |event| {
                lines.push(match event {
                    Event::Delta { text, logprobs, .. } => {
                        format!("delta {}{}", text.raw(), logprobs.map_or("", Raw::text))
                    }
                    Event::Seal { opaque, .. } => format!("seal {}", opaque.raw()),
                    Event::Close { .. } => "close".to_owned(),
                    Event::Annotation { object, .. } => format!("note {}", object.text()),
                    Event::Start { id, model } => format!("start {} {}", id.raw(), model.raw()),
                    Event::Open { kind: Part::Call(call), .. } => {
                        format!("{} {} {}", call.id.raw(), call.namespace.raw(), call.name.raw())
                    }
                    Event::Open { kind: Part::Opaque { item, .. }, .. } => item.text().to_owned(),
                    other => format!("{other:?}"),
                });
            });
        }
        lines
    }

    fn e(text: &str) -> Escaped<'_> {
        Escaped::trusted(text)
    }

    fn delta(text: &str) -> Event<'_> {
        Event::Delta { part: 0, text: e(text), logprobs: None }
    }

    #[test]
    fn a_cut_pair_is_joined_and_an_orphan_replaced_before_its_part_closes() {
        let close = Event::Close { part: 0 };
        let pair = [delta("a\\ud83d"), delta("\\ude00b"), close];
        assert_eq!(mended(&pair), ["delta a", "delta \\ud83d\\ude00b", "close"]);
        let orphan = [delta("\\ud83d"), close, delta("\\ude00")];
        assert_eq!(mended(&orphan), ["delta \\ufffd", "close", "delta \\ufffd"]);
        let sealed = [delta("a\\ud83d"), Event::Seal { part: 0, opaque: e("\\ud83d") }, close];
        assert_eq!(mended(&sealed), ["delta a", "delta \\ufffd", "seal \\ufffd", "close"]);
    }

    #[test]
    fn every_text_of_every_event_is_mended() {
        let (half, value) = (e("\\ud83d"), Raw::trusted("[\"\\ude00\"]"));
        let call = Call { kind: CallKind::Function, id: half, namespace: half, name: half };
        let events = [
            Event::Start { id: half, model: half },
            Event::Open { part: 0, kind: Part::Call(call) },
            Event::Open { part: 1, kind: Part::Opaque { dialect: "x", item: value } },
            Event::Annotation { part: 1, object: value },
            Event::Delta { part: 1, text: e(""), logprobs: Some(value) },
        ];
        let mended = mended(&events);
        let expected = [
            "start \\ufffd \\ufffd",
            "\\ufffd \\ufffd \\ufffd",
            "[\"\\ufffd\"]",
            "note [\"\\ufffd\"]",
            "delta [\"\\ufffd\"]",
        ];
        assert_eq!(mended, expected);
    }
}
