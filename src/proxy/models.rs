//! `GET /models`: the models of the configuration, and behind them those that upstreams list, each
//! asked in an errand of its own, not more often than a list changes.

use crate::config::{Config, Credential, Model, Provider};
use crate::dialect::codex;
use crate::dialect::models::{self, Entry, Listed};
use crate::fault::{Failure, Fault, Kind, Side};
use crate::proxy::auth;
use crate::proxy::call::{Call, Place};
use crate::proxy::errand::{Agenda, Errand, Next, Purpose, Reply, Setting};
use crate::proxy::order::Intake;
use crate::proxy::reply::Answer;
use crate::proxy::route;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// The operation's path below an API's base URL.
const PATH: &str = "/models";
/// An upstream's list is good for so long.
const GOOD_S: u64 = 300;
/// Who wants a fresh one gets one that is not older.
const FRESH_S: u64 = 5;
/// An upstream that failed is left alone for so long.
const FAILED_S: u64 = 5;
/// So many seconds may one upstream keep the lists of all others waiting.
const PATIENCE_S: u16 = 10;
/// Longest list.
const REPLY_BYTES_MAX: usize = 4 << 20;
/// When a model of the configuration was made is not known here, and the field must be there.
const CREATED_S: u64 = 0;

/// The lists that upstreams gave to the proxy's own account. Shared by all workers.
#[derive(Debug)]
pub(crate) struct ModelBoard {
    slots: Vec<Mutex<Slot>>,
}

/// What one upstream said, and when, in Unix seconds.
#[derive(Debug, Default)]
struct Slot {
    list: Option<(Arc<[Listed]>, u64)>,
    failure: Option<(Failure, u64)>,
}

/// What a board knows of an upstream.
#[derive(Debug)]
enum Known {
    List(Arc<[Listed]>),
    Failure(Failure),
    /// It is to be asked.
    Nothing,
}

impl ModelBoard {
    /// A board for so many providers, with nothing on it.
    pub(crate) fn new(providers: usize) -> Self {
        Self { slots: (0..providers).map(|_| Mutex::default()).collect() }
    }

    /// What is known at `unix_s`, for one who wants it `fresh`.
    fn look(&self, provider: usize, fresh: bool, unix_s: u64) -> Known {
        let age_s_max = if fresh { FRESH_S } else { GOOD_S };
        self.with(provider, |slot| match slot {
            Slot { list: Some((list, at_s)), .. } if unix_s < *at_s + age_s_max => {
                Known::List(Arc::clone(list))
            }
            Slot { list, failure: Some((failure, at_s)) } if unix_s < *at_s + FAILED_S => {
                let list = list.as_ref().map(|(list, _)| Arc::clone(list));
                list.map_or_else(|| Known::Failure(failure.clone()), Known::List)
            }
            _ => Known::Nothing,
        })
    }

    /// Notes a list that somebody keeps fresh, so that nobody has to ask for it.
    pub(crate) fn pin(&self, provider: usize, list: &Arc<[Listed]>) {
        self.put(provider, list, u64::MAX - GOOD_S);
    }

    /// The last list of an upstream.
    pub(crate) fn list(&self, provider: usize) -> Option<Arc<[Listed]>> {
        self.with(provider, |slot| slot.list.as_ref().map(|(list, _)| Arc::clone(list)))
    }

    fn put(&self, provider: usize, list: &Arc<[Listed]>, unix_s: u64) {
        self.with(provider, |slot| {
            *slot = Slot { list: Some((Arc::clone(list), unix_s)), failure: None };
        });
    }

    /// Notes that an upstream failed; its last list, if there was one, is better than none.
    fn fail(&self, provider: usize, failure: &Failure, unix_s: u64) -> Option<Arc<[Listed]>> {
        self.with(provider, |slot| {
            slot.failure = Some((failure.clone(), unix_s));
            slot.list.as_ref().map(|(list, _)| Arc::clone(list))
        })
    }

    fn with<T>(&self, provider: usize, use_it: impl FnOnce(&mut Slot) -> T) -> T {
        let mut none = Slot::default();
        match self.slots.get(provider) {
            // Slots are written at once, so a panic elsewhere cannot have left half of one.
            Some(slot) => use_it(&mut slot.lock().unwrap_or_else(PoisonError::into_inner)),
            None => use_it(&mut none),
        }
    }
}

/// What a client wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The list of OpenAI's API.
    List,
    /// The Codex CLI's.
    Catalog,
    /// One model.
    One(String),
}

impl Wanted {
    /// What a request for `/models` with this query wants.
    pub(crate) fn of_query(query: &str) -> Self {
        // Codex asks with its version, and reads its own shape only.
        if route::has_parameter(query, "client_version") { Self::Catalog } else { Self::List }
    }
}

/// A request for models that upstreams may have.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    wanted: Wanted,
    /// Lists are to be fresh.
    refresh: bool,
    board: Arc<ModelBoard>,
}

impl Ask {
    /// What upstreams have to be asked for, or may have been; `None` when none of them lists models,
    /// or the model is one of the configuration.
    pub(crate) fn new(
        config: &Config,
        key: Option<usize>,
        wanted: &Wanted,
        query: &str,
        board: &Arc<ModelBoard>,
    ) -> Option<Self> {
        let own = |id: &String| known(config, key).any(|model| model.id == *id);
        let settled = matches!(wanted, Wanted::One(id) if own(id));
        let refresh = query.split('&').any(|pair| matches!(pair, "refresh=1" | "refresh=true"));
        let lists = config.providers.iter().any(|provider| provider.list_models);
        (lists && !settled).then(|| Self {
            wanted: wanted.clone(),
            refresh,
            board: Arc::clone(board),
        })
    }

    /// Makes the errands that are needed, or the answer if none is.
    ///
    /// # Errors
    /// A request cannot be written; or there is nothing to tell but an upstream's failure.
    pub(crate) fn agenda(
        &self,
        config: &Config,
        intake: &Intake,
        unix_s: u64,
    ) -> Result<Agenda, Failure> {
        let mut listing = Listing {
            ask: self.clone(),
            asked: 0,
            left: VecDeque::new(),
            found: Vec::new(),
            failure: None,
        };
        for (index, provider) in config.providers.iter().enumerate() {
            let known = match provider.list_models {
                false => continue,
                true if is_own(provider, intake) => self.board.look(index, self.refresh, unix_s),
                true => Known::Nothing,
            };
            match known {
                Known::List(list) => listing.found.push((index, list)),
                Known::Failure(failure) => listing.failure = Some(failure),
                // A command is asked elsewhere.
                Known::Nothing if provider.exec.is_some() => {}
                Known::Nothing => listing.left.push_back(index),
            }
        }
        let provider = listing.left.front().copied();
        let mut agenda = Agenda { provider, ..Agenda::default() };
        match Box::new(listing).go_on(config, intake)? {
            Next::Answer(answer) => agenda.answer = Some(answer),
            Next::Errands(errands) => agenda.errands.extend(errands),
            Next::GoOn | Next::Work(_) => {}
        }
        Ok(agenda)
    }
}

/// Whether a provider is asked for the proxy's own account, so that all who have no other see the
/// same list.
fn is_own(provider: &Provider, intake: &Intake) -> bool {
    intake.caller(provider).is_none() && provider.credential != Credential::Client
}

/// Lists of upstreams being gathered.
#[derive(Debug)]
struct Listing {
    ask: Ask,
    /// Index of the provider that is asked now.
    asked: usize,
    /// Those that are still to be asked.
    left: VecDeque<usize>,
    found: Vec<(usize, Arc<[Listed]>)>,
    /// Why one of them listed nothing.
    failure: Option<Failure>,
}

impl Purpose for Listing {
    fn done(mut self: Box<Self>, reply: &Reply<'_>, setting: Setting<'_>) -> Result<Next, Failure> {
        let list: Arc<[Listed]> = match Listed::read(reply.body) {
            Ok(list) => list.into(),
            Err(failure) => return self.recover(failure, setting),
        };
        if is_own(setting.provider, setting.intake) {
            self.ask.board.put(self.asked, &list, setting.unix_s);
        }
        self.found.push((self.asked, list));
        self.go_on(setting.config, setting.intake)
    }

    /// One list less is no reason to tell of no model at all.
    fn recover(
        mut self: Box<Self>,
        failure: Failure,
        setting: Setting<'_>,
    ) -> Result<Next, Failure> {
        if failure.fault.side == Side::Client {
            // The account that the client brought is no good, and it has to know.
            return Err(failure);
        }
        log::warn!("provider {} lists no models: {failure}", setting.provider.name);
        if is_own(setting.provider, setting.intake) {
            let last = self.ask.board.fail(self.asked, &failure, setting.unix_s);
            self.found.extend(last.map(|list| (self.asked, list)));
        }
        self.failure = Some(failure);
        self.go_on(setting.config, setting.intake)
    }
}

impl Listing {
    /// Asks the next upstream, or makes the answer.
    fn go_on(mut self: Box<Self>, config: &Config, intake: &Intake) -> Result<Next, Failure> {
        let Some(index) = self.left.pop_front() else {
            return self.answer(config, intake.key).map(Next::Answer);
        };
        let Some(provider) = config.providers.get(index) else { return self.go_on(config, intake) };
        let mut call = Call::get(index, Place::Beside(PATH.into())).within(PATIENCE_S);
        call.write(provider, intake, Vec::new())?;
        self.asked = index;
        let errand = Errand { call, reply_bytes_max: REPLY_BYTES_MAX, purpose: self };
        Ok(Next::Errands(vec![errand]))
    }

    fn answer(mut self: Box<Self>, config: &Config, key: Option<usize>) -> Result<Answer, Failure> {
        self.found.sort_by_key(|(index, _)| *index);
        let own = known(config, key).map(|model| model.id.as_str());
        let mut seen: HashSet<&str> = own.collect();
        let mut listed: Vec<(&Provider, &Listed)> = Vec::new();
        for (index, list) in &self.found {
            let Some(provider) = config.providers.get(*index) else { continue };
            let may = list.iter().filter(|model| leads_there(config, key, *index, &model.id));
            listed.extend(may.filter(|it| seen.insert(&it.id)).map(|it| (provider, it)));
        }
        match (seen.is_empty(), self.failure) {
            (true, Some(failure)) => Err(failure),
            _ => tell(config, key, &self.ask.wanted, &listed),
        }
    }
}

/// Whether a client that asks for this model gets to this provider.
fn leads_there(config: &Config, key: Option<usize>, provider: usize, id: &str) -> bool {
    let target = route::target(config, id).filter(|target| target.provider == provider);
    target.zip(config.providers.get(provider)).is_some_and(|(target, provider)| {
        route::check_allowed(provider, id, target.model).is_ok() && auth::may_use(config, key, id)
    })
}

/// What is known without asking anybody.
///
/// # Errors
/// There is no such model.
pub(crate) fn configured(
    config: &Config,
    key: Option<usize>,
    wanted: &Wanted,
) -> Result<Answer, Failure> {
    tell(config, key, wanted, &[])
}

/// Tells of the configuration's models, and behind them of those that upstreams `listed`.
fn tell(
    config: &Config,
    key: Option<usize>,
    wanted: &Wanted,
    listed: &[(&Provider, &Listed)],
) -> Result<Answer, Failure> {
    let own = known(config, key).map(|model| Entry::own(&model.id, CREATED_S));
    let mut all = own.chain(listed.iter().map(|(_, model)| Entry::from(*model)));
    let mut body = Vec::new();
    match wanted {
        Wanted::List => models::list(all, &mut body),
        Wanted::One(id) => match all.find(|entry| entry.id == id) {
            Some(entry) => entry.write(&mut body),
            None => {
                let id: String = id.chars().take(100).collect();
                let message = format!("the model \"{id}\" is not listed here");
                let failure = Failure::new(Fault::client(Kind::ModelNotFound), message);
                return Err(failure.with_param("model"));
            }
        },
        Wanted::Catalog => {
            let answers = listed.iter().filter(|(_, model)| model.answers());
            let guess = |(provider, model): &(&Provider, &Listed)| {
                Model::guess(model.id.clone(), &provider.quirks)
            };
            let all: Vec<Model> = known(config, key).cloned().chain(answers.map(guess)).collect();
            codex::catalog(&all, &mut body);
        }
    }
    Ok(Answer::json(200, body))
}

/// Every model of the configuration that a key may ask for, once: the first provider that has it
/// wins, as with routes.
fn known(config: &Config, key: Option<usize>) -> impl Iterator<Item = &Model> {
    let all = || config.providers.iter().flat_map(|provider| &provider.models);
    all()
        .enumerate()
        .filter(move |(place, model)| !all().take(*place).any(|earlier| earlier.id == model.id))
        .map(|(_, model)| model)
        .filter(move |model| auth::may_use(config, key, &model.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(id: &str) -> Arc<[Listed]> {
        vec![Listed { id: id.to_owned(), ..Listed::default() }].into()
    }

    fn told(known: Known) -> String {
        match known {
            Known::List(list) => list[0].id.clone(),
            Known::Failure(failure) => failure.message,
            Known::Nothing => "ask".to_owned(),
        }
    }

    #[test]
    fn a_list_is_good_for_a_while_and_better_than_a_failure() {
        let board = ModelBoard::new(2);
        let look = |fresh, at_s| told(board.look(0, fresh, at_s));
        assert_eq!((look(false, 100), look(true, 100)), ("ask".to_owned(), "ask".to_owned()));
        let failure = Failure::bad_request("down");
        assert!(board.fail(0, &failure, 100).is_none());
        assert_eq!((look(false, 104), look(true, 104)), ("down".to_owned(), "down".to_owned()));
        assert_eq!(look(false, 105), "ask");
        board.put(0, &list("a"), 200);
        assert_eq!((look(false, 499), look(false, 500)), ("a".to_owned(), "ask".to_owned()));
        assert_eq!((look(true, 204), look(true, 205)), ("a".to_owned(), "ask".to_owned()));
        assert!(board.fail(0, &failure, 600).is_some());
        assert_eq!((look(true, 604), look(false, 605)), ("a".to_owned(), "ask".to_owned()));
        // Another provider's slot, and one that there is not.
        assert_eq!(
            (told(board.look(1, false, 200)), told(board.look(2, false, 200))),
            ("ask".to_owned(), "ask".to_owned())
        );
    }
}
