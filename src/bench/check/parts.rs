//! The parts of one answer: which text of the script each of them is.

use super::lane::Lane;
use crate::bench::defect::{Defect, Found};
use crate::bench::expect::{Expected, Want};
use crate::wire::json::{Escaped, Raw};

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Reasoning,
    Refusal,
    Call,
}

impl Kind {
    /// Where a script has it: reasoning, then text, then calls.
    const fn rank(self) -> u8 {
        match self {
            Self::Reasoning => 0,
            Self::Text | Self::Refusal => 1,
            Self::Call => 2,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Reasoning => "reasoning",
            Self::Refusal => "refusal",
            Self::Call => "argument",
        }
    }
}

/// Where the API says that a part is: Responses count items and parts inside of them, Chat counts
/// calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) item: u64,
    pub(super) inside: u64,
}

/// A part under way.
#[derive(Debug)]
pub(super) struct Part {
    kind: Kind,
    place: Place,
    lane: Lane,
    /// How many parts of this kind came before.
    ordinal: usize,
    /// A call whose name was told.
    named: bool,
    /// It stands in the document that ends the answer.
    told: bool,
}

/// All parts of an answer, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Parts {
    list: Vec<Part>,
    /// Lanes of earlier answers, to be used again.
    spare: Vec<Lane>,
}

/// What checking needs besides: what is expected, room to unescape, what was found.
#[derive(Debug)]
pub(super) struct Desk<'d> {
    pub(super) expected: Option<&'d Expected>,
    /// The name that calls must have.
    pub(super) tool: &'d str,
    /// Deltas must be the script's own, not merged or split.
    pub(super) exact: bool,
    pub(super) scratch: &'d mut String,
    /// Deltas of text since the connection asked.
    pub(super) deltas: &'d mut u64,
    /// Their stamps.
    pub(super) stamps: &'d mut Vec<u64>,
    pub(super) found: &'d mut Found,
}

impl<'d> Desk<'d> {
    /// What the script says of the part with this ordinal; `None` without a script, or when the
    /// script has no such part.
    fn want(&self, kind: Kind, ordinal: usize) -> Option<&'d Want> {
        let expected = self.expected?;
        match kind {
            Kind::Text if ordinal == 0 => Some(&expected.text),
            Kind::Reasoning if ordinal == 0 => Some(&expected.reasoning),
            Kind::Call => expected.calls.get(ordinal),
            _ => None,
        }
    }
}

impl Parts {
    /// Forgets the last answer.
    pub(super) fn clear(&mut self) {
        for part in self.list.drain(..) {
            let mut lane = part.lane;
            lane.clear();
            self.spare.push(lane);
        }
    }

    /// The part at a place; made when it is new.
    pub(super) fn at(&mut self, kind: Kind, place: Place, desk: &mut Desk<'_>) -> usize {
        if let Some(index) = self.find(kind, place) {
            return index;
        }
        let ordinal = self.list.iter().filter(|part| part.kind == kind).count();
        if let Some(expected) = desk.expected
            && desk.want(kind, ordinal).is_none_or(|want| want.text().is_empty())
        {
            let expected = format!(
                "{} text, {} reasoning, {} calls",
                usize::from(!expected.text.text().is_empty()),
                usize::from(!expected.reasoning.text().is_empty()),
                expected.calls.len()
            );
            desk.found.add(Defect::Parts, expected, format!("{} part {ordinal}", kind.name()));
        }
        if let Some(last) = self.list.last()
            && desk.expected.is_some()
            && last.kind.rank() > kind.rank()
        {
            let came = format!("{} behind {}", kind.name(), last.kind.name());
            desk.found.add(Defect::Order, "reasoning, then text, then calls", came);
        }
        let lane = self.spare.pop().unwrap_or_default();
        self.list.push(Part { kind, place, lane, ordinal, named: false, told: false });
        self.list.len() - 1
    }

    fn find(&self, kind: Kind, place: Place) -> Option<usize> {
        self.list.iter().rposition(|part| part.kind == kind && part.place == place)
    }

    /// Takes a delta of part `index`.
    pub(super) fn delta(&mut self, index: usize, delta: Escaped<'_>, desk: &mut Desk<'_>) {
        let Some(part) = self.list.get_mut(index) else { return };
        let want = desk.want(part.kind, part.ordinal);
        part.lane.push(delta, want, desk.scratch, desk.stamps);
        *desk.deltas += u64::from(part.kind == Kind::Text);
    }

    /// The script's next delta of part `index`, escaped, and whether it is stamped.
    #[inline]
    pub(super) fn next<'d>(&self, index: usize, desk: &Desk<'d>) -> Option<(&'d [u8], bool)> {
        let part = self.list.get(index)?;
        let want = desk.want(part.kind, part.ordinal)?;
        Some((part.lane.next(want)?, want.is_stamped()))
    }

    /// Goes on by the delta that [`Parts::next`] told.
    #[inline]
    pub(super) fn take_next(&mut self, index: usize, stamp: Option<u64>, desk: &mut Desk<'_>) {
        let Some(part) = self.list.get_mut(index) else { return };
        if let Some(want) = desk.want(part.kind, part.ordinal) {
            part.lane.take_next(want, stamp);
            *desk.deltas += u64::from(part.kind == Kind::Text);
            desk.stamps.extend(stamp);
        }
    }

    /// Checks a whole text that stands for a part; `last` in the document that ends the answer.
    pub(super) fn whole(
        &mut self,
        (kind, place): (Kind, Place),
        text: Escaped<'_>,
        event: &str,
        last: bool,
        desk: &mut Desk<'_>,
    ) {
        let Some(index) = self.find(kind, place) else {
            if !text.is_empty() {
                let came = format!("{event}: a {} that was not streamed", kind.name());
                desk.found.add(Defect::WholeText, "only what was streamed", came);
            }
            return;
        };
        let Some(part) = self.list.get_mut(index) else { return };
        part.told |= last;
        let want = desk.want(part.kind, part.ordinal);
        part.lane.whole(text, want, event, desk.scratch, desk.found);
    }

    /// Takes the whole text of a part of a document.
    pub(super) fn document(
        &mut self,
        (kind, place): (Kind, Place),
        text: Escaped<'_>,
        desk: &mut Desk<'_>,
    ) {
        if text.is_empty() {
            return;
        }
        let index = self.at(kind, place, desk);
        let Some(part) = self.list.get_mut(index) else { return };
        let want = desk.want(part.kind, part.ordinal);
        part.lane.document(text, want, kind.name(), desk.scratch, desk.found);
        part.told = true;
    }

    /// Checks a call's name and id; either may be told once only.
    pub(super) fn call(
        &mut self,
        index: usize,
        (id, name): (Option<Raw<'_>>, Option<Raw<'_>>),
        desk: &mut Desk<'_>,
    ) {
        let Some(part) = self.list.get_mut(index) else { return };
        if let Some(name) = name.and_then(Raw::string).filter(|name| !name.is_empty()) {
            part.named = true;
            if desk.expected.is_some() && !name.is(desk.tool) {
                let came = format!("a call of \"{}\"", name.raw());
                desk.found.add(Defect::Call, format!("a call of \"{}\"", desk.tool), came);
            }
        }
        if id.is_some_and(|id| id.string().is_some_and(Escaped::is_empty)) {
            desk.found.add(Defect::Call, "an id", "an empty one");
        }
    }

    /// The document at the end tells nothing of the parts, and need not.
    pub(super) fn all_told(&mut self) {
        for part in &mut self.list {
            part.told = true;
        }
    }

    /// Says what is wrong with the parts when the answer is over. `told`: the document at the end
    /// should have had all of them.
    pub(super) fn verdict(&self, streamed: bool, told: bool, desk: &mut Desk<'_>) {
        for part in &self.list {
            if part.kind == Kind::Call && !part.named {
                desk.found.add(Defect::Call, "a call with a name", "a call without one");
            }
            if told && !part.told && !part.lane.is_empty() {
                let came = format!("not the {} that was streamed", part.kind.name());
                desk.found.add(Defect::WholeText, "all parts in the last event", came);
            }
            if let Some(want) = desk.want(part.kind, part.ordinal).filter(|_| streamed) {
                // Calls are checked by their text: pieces of JSON mean nothing by themselves.
                let exact = desk.exact && part.kind != Kind::Call;
                part.lane.verdict(want, part.kind.name(), exact, desk.found);
            }
        }
        let Some(expected) = desk.expected else { return };
        let texts = [(Kind::Text, &expected.text), (Kind::Reasoning, &expected.reasoning)];
        let calls = expected.calls.iter().map(|want| (Kind::Call, want));
        let mut calls_seen = self.list.iter().filter(|part| part.kind == Kind::Call).count();
        for (kind, want) in texts.into_iter().chain(calls) {
            let seen = match kind {
                Kind::Call => {
                    let seen = calls_seen > 0;
                    calls_seen = calls_seen.saturating_sub(1);
                    seen
                }
                _ => self.list.iter().any(|part| part.kind == kind),
            };
            if !seen && !want.text().is_empty() {
                let expected = format!("{} bytes in {} deltas", want.text().len(), want.count());
                let came = format!("no {} at all", kind.name());
                desk.found.add(Defect::Parts, expected, came);
            }
        }
    }
}
