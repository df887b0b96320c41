//! One text of an answer while it comes: a message, a reasoning, a call's arguments.

use crate::bench::defect::{Defect, Found, apart, shown};
use crate::bench::expect::{Walk, Want};
use crate::wire::json::{self, Escaped, Unescaper};

/// Deltas behind the first wrong one that are kept to tell what happened.
const KEPT: usize = 3;

/// How far a missing run of deltas is looked for.
const MISSING_MAX: usize = 64;

/// A text under way.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// What was compared with the script so far.
    walk: Walk,
    /// Deltas so far.
    pub(super) deltas: usize,
    /// A delta was not exactly one of the script's.
    uneven: bool,
    /// What came from the first wrong delta on.
    astray: Option<Box<Astray>>,
    /// The text, when no script says what it must be.
    heard: String,
    unescaper: Unescaper,
}

/// The rest of a text that left the script.
#[derive(Debug, Default)]
struct Astray {
    /// Which delta left it.
    delta: usize,
    /// Where in the text that delta began.
    start: usize,
    /// The first deltas from there on.
    first: Vec<String>,
    /// All text from there on.
    text: String,
}

impl Lane {
    /// Forgets the last answer.
    pub(super) fn clear(&mut self) {
        self.walk = Walk::default();
        self.deltas = 0;
        self.uneven = false;
        self.astray = None;
        self.heard.clear();
        self.unescaper = Unescaper::default();
    }

    /// Whether nothing has come.
    pub(super) fn is_empty(&self) -> bool {
        self.walk.position == 0 && self.heard.is_empty() && self.astray.is_none()
    }

    /// The script's next delta, escaped, if everything so far was the script's.
    pub(super) fn next<'w>(&self, want: &'w Want) -> Option<&'w [u8]> {
        if self.astray.is_some() || self.walk.position != want.start(self.deltas) {
            return None;
        }
        want.escaped(self.deltas)
    }

    /// Goes on by the delta that [`Lane::next`] told.
    pub(super) fn take_next(&mut self, want: &Want, stamp: Option<u64>) {
        let end = want.start(self.deltas + 1);
        self.walk.take(end - self.walk.position, stamp);
        self.deltas += 1;
    }

    /// Takes a delta; `stamps` gets the stamps in it.
    pub(super) fn push(
        &mut self,
        delta: Escaped<'_>,
        want: Option<&Want>,
        scratch: &mut String,
        stamps: &mut Vec<u64>,
    ) {
        let Some(want) = want else {
            self.deltas += 1;
            return self.unescaper.push(delta, &mut self.heard);
        };
        let text = plain(delta, scratch);
        if let Some(astray) = &mut self.astray {
            if astray.first.len() < KEPT {
                astray.first.push(text.to_owned());
            }
            astray.text.push_str(text);
            self.deltas += 1;
            return;
        }
        let before = self.walk;
        let compared = self.walk.over(want, text.as_bytes(), &mut |stamp| stamps.push(stamp));
        self.uneven |= self.walk.position != want.start(self.deltas + 1);
        if compared.is_err() {
            self.walk = before;
            let (start, text) = (before.position, text.to_owned());
            let first = vec![text.clone()];
            self.astray = Some(Box::new(Astray { delta: self.deltas, start, first, text }));
        }
        self.deltas += 1;
    }

    /// Whether `whole` is the text that was streamed.
    fn is_whole(&self, whole: &str, want: Option<&Want>) -> bool {
        let Some(want) = want else { return whole == self.heard };
        let mut walk = Walk::default();
        let Some(astray) = &self.astray else {
            let equal = walk.over(want, whole.as_bytes(), &mut |_| {}).is_ok();
            return equal && walk.is_same(&self.walk);
        };
        let Some((front, rest)) = whole.split_at_checked(astray.start) else { return false };
        rest == astray.text
            && walk.over(want, front.as_bytes(), &mut |_| {}).is_ok()
            && walk.is_same(&self.walk)
    }

    /// The text that was streamed, for messages: stamps as zeros.
    fn streamed(&self, want: Option<&Want>) -> Vec<u8> {
        let Some(want) = want else { return self.heard.clone().into_bytes() };
        let mut text = want.text().get(..self.walk.position).unwrap_or_default().to_vec();
        if let Some(astray) = &self.astray {
            text.extend_from_slice(astray.text.as_bytes());
        }
        text
    }

    /// Checks a text that an event repeats as a whole.
    pub(super) fn whole(
        &self,
        whole: Escaped<'_>,
        want: Option<&Want>,
        place: &str,
        scratch: &mut String,
        found: &mut Found,
    ) {
        let whole = plain(whole, scratch);
        if !self.is_whole(whole, want) && !found.has(Defect::WholeText) {
            let (expected, came) = apart(&self.streamed(want), whole.as_bytes());
            found.add(Defect::WholeText, expected, format!("{place}: {came}"));
        }
    }

    /// Takes the text of a document, which comes as a whole.
    pub(super) fn document(
        &mut self,
        text: Escaped<'_>,
        want: Option<&Want>,
        name: &str,
        scratch: &mut String,
        found: &mut Found,
    ) {
        let text = plain(text, scratch);
        let Some(want) = want else { return self.heard.push_str(text) };
        let compared = self.walk.over(want, text.as_bytes(), &mut |_| {});
        if compared.is_err() || self.walk.position != want.text().len() {
            let (expected, came) = apart(want.text(), text.as_bytes());
            found.add(Defect::ChangedText, format!("{name} of {expected}"), came);
            self.astray = Some(Box::default());
        }
    }

    /// Says what is wrong with a text that is over. `exact`: deltas must be the script's own.
    pub(super) fn verdict(&self, want: &Want, name: &str, exact: bool, found: &mut Found) {
        if let Some(astray) = &self.astray {
            return astray.verdict(want, name, found);
        }
        let (came, count) = (self.walk.position, want.text().len());
        if came < count {
            let expected = format!("{} {name} deltas, {count} bytes", want.count());
            let last = format!("{} deltas, {came} bytes: the last are missing", self.deltas);
            found.add(Defect::MissingDelta, expected, last);
        } else if exact && (self.uneven || self.deltas != want.count()) && count > 0 {
            let expected = format!("{} {name} deltas, cut as the script cuts them", want.count());
            let came = format!("the same text in {} deltas", self.deltas);
            found.add(Defect::DeltaCount, expected, came);
        }
    }
}

impl Astray {
    /// Tells a delta that is missing, repeated or in the wrong place from one that was changed.
    fn verdict(&self, want: &Want, name: &str, found: &mut Found) {
        let at = self.delta;
        let is = |index: usize, kept: usize| match self.first.get(kept) {
            Some(text) => want.is_piece(index, text.as_bytes()),
            None => kept > 0 && index >= want.count(),
        };
        let next = want.piece(at).unwrap_or_default();
        let expected = format!("{name} delta {at}: {}", shown(next));
        let first = shown(self.first.first().map_or("", String::as_str).as_bytes());
        if is(at + 1, 0) && self.first.get(1).is_some_and(|it| want.is_piece(at, it.as_bytes())) {
            let came = format!("{first}, which is delta {}, then this one", at + 1);
            return found.add(Defect::SwappedDeltas, expected, came);
        }
        // A delta may equal its neighbour, so what follows must agree too.
        if at > 0 && is(at - 1, 0) && is(at, 1) {
            let came = format!("{first}, which is delta {} once more", at - 1);
            return found.add(Defect::RepeatedDelta, expected, came);
        }
        let missing = (1..=MISSING_MAX).find(|gap| is(at + gap, 0) && is(at + gap + 1, 1));
        if let Some(gap) = missing {
            let came = format!("{first}, which is delta {}: {gap} missing", at + gap);
            return found.add(Defect::MissingDelta, expected, came);
        }
        found.add(Defect::ChangedText, expected, first);
    }
}

/// What an escaped text means.
fn plain<'t>(text: Escaped<'t>, scratch: &'t mut String) -> &'t str {
    if memchr::memchr(b'\\', text.raw().as_bytes()).is_none() {
        return text.raw();
    }
    scratch.clear();
    json::unescape(text.raw(), scratch);
    scratch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::expect::Expected;
    use proptest::prelude::*;

    const SCRIPT: &str = "deltas=12,bytes=30";

    fn want(script: &str) -> Want {
        Expected::of(&script.parse().unwrap()).unwrap().text
    }

    fn pieces(want: &Want) -> Vec<String> {
        (0..want.count())
            .map(|at| String::from_utf8(want.piece(at).unwrap().to_vec()).unwrap())
            .collect()
    }

    fn stream(lane: &mut Lane, want: &Want, pieces: &[String]) -> Vec<u64> {
        let (mut scratch, mut stamps) = (String::new(), Vec::new());
        for piece in pieces {
            let mut raw = Vec::new();
            json::escape(piece, &mut raw);
            let raw = String::from_utf8(raw).unwrap();
            lane.push(Escaped::trusted(&raw), Some(want), &mut scratch, &mut stamps);
        }
        stamps
    }

    /// The kinds of defect in a stream of these pieces, as a proxy that keeps deltas is judged.
    fn judged(want: &Want, pieces: &[String], exact: bool) -> Vec<Defect> {
        let (mut lane, mut found) = (Lane::default(), Found::default());
        stream(&mut lane, want, pieces);
        lane.verdict(want, "text", exact, &mut found);
        Defect::ALL.into_iter().filter(|defect| found.has(*defect)).collect()
    }

    #[test]
    fn each_damage_is_told_by_its_name() {
        for script in [SCRIPT, "deltas=12,bytes=60,stamp=true", "deltas=12,bytes=30,text=code"] {
            let want = want(script);
            let whole = pieces(&want);
            assert_eq!(judged(&want, &whole, true), []);
            for at in 0..whole.len() {
                let mut missing = whole.clone();
                missing.remove(at);
                assert_eq!(judged(&want, &missing, true), [Defect::MissingDelta], "{at}");
                let mut twice = whole.clone();
                twice.insert(at, whole[at].clone());
                assert_eq!(judged(&want, &twice, true), [Defect::RepeatedDelta], "{at}");
                let mut changed = whole.clone();
                changed[at] = whole[at].replace(|c| c == whole[at].chars().last().unwrap(), "#");
                assert_eq!(judged(&want, &changed, true), [Defect::ChangedText], "{at}");
                if at > 0 {
                    let mut swapped = whole.clone();
                    swapped.swap(at - 1, at);
                    assert_eq!(judged(&want, &swapped, true), [Defect::SwappedDeltas], "{at}");
                    let mut merged = whole.clone();
                    let tail = merged.remove(at);
                    merged[at - 1].push_str(&tail);
                    assert_eq!(judged(&want, &merged, true), [Defect::DeltaCount], "{at}");
                    assert_eq!(judged(&want, &merged, false), [], "{at}");
                }
            }
            assert_eq!(judged(&want, &whole[..7], true), [Defect::MissingDelta]);
            assert_eq!(judged(&want, &[], true), [Defect::MissingDelta]);
        }
    }

    #[test]
    fn a_whole_text_must_be_the_one_that_was_streamed() {
        let want = want("deltas=3,bytes=20,stamp=true");
        let mut sent = pieces(&want);
        sent[1] = sent[1].replace("@0000000000000000", "@0000000000000042");
        let check = |sent: &[String], whole: &str, with: Option<&Want>| {
            let (mut lane, mut found, mut scratch) =
                (Lane::default(), Found::default(), String::new());
            let mut stamps = Vec::new();
            for piece in sent {
                lane.push(Escaped::trusted(piece), with, &mut scratch, &mut stamps);
            }
            lane.whole(Escaped::trusted(whole), with, "done", &mut scratch, &mut found);
            found.is_empty()
        };
        let whole = sent.concat();
        for with in [Some(&want), None] {
            assert!(check(&sent, &whole, with));
            assert!(!check(&sent, &whole.replace("42", "43"), with), "another stamp");
            assert!(!check(&sent, &whole[1..], with));
            assert!(!check(&sent, &(whole.clone() + "x"), with));
            sent[2] = "wrong".to_owned();
            assert!(check(&sent, &sent.concat(), with), "wrong, but told the same");
            assert!(!check(&sent, &whole, with));
            sent[2] = whole[40..].to_owned();
        }
    }

    proptest! {
        /// Wherever a proxy cuts a text, it is the same text.
        #[test]
        fn any_cut_is_the_same_text(cuts in prop::collection::vec(0usize..360, 0..8)) {
            let want = want(SCRIPT);
            let text = pieces(&want).concat();
            let mut cuts = cuts;
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let cut: Vec<String> =
                cuts.windows(2).map(|pair| text[pair[0]..pair[1]].to_owned()).collect();
            prop_assert_eq!(judged(&want, &cut, false), []);
        }
    }
}
