//! A vendor with a token endpoint: its API serves who shows a token that the endpoint gave and that
//! has not ended.

use super::{Patchbay, Received, Then, Upstream, Wire, chat_text, reply, reply_stream};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The server's own key, and what is in it.
pub(crate) const KEY: &str = "c2VydmVyOnNlcnZlci1odXNo";
pub(crate) const KEY_SECRET: &str = "server-hush";

/// How an endpoint says when a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Milliseconds,
    Seconds,
    Tok,
    ExpiresIn,
    Nothing,
}

/// What a token is good for.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// The `Basic` credential that it was given for.
    pub(crate) basic: String,
    pub(crate) at: Instant,
    ends: Instant,
}

/// What the endpoint does and did.
pub(crate) struct State {
    pub(crate) life: Duration,
    pub(crate) says: Says,
    /// Said instead of a token: a status line with fields, and a body.
    pub(crate) refuses: Option<(&'static str, Value)>,
    /// These `Basic` credentials get a 401.
    pub(crate) bad: Vec<String>,
    /// Nobody gets a token while it is closed.
    pub(crate) open: bool,
    /// Who asks with these gets one only once they are let go.
    pub(crate) held: Vec<String>,
    /// The API refuses tokens that it gave.
    pub(crate) api_refuses: bool,
    /// Requests to the endpoint, and who is waiting in it now.
    pub(crate) asked: Vec<String>,
    pub(crate) tokens: HashMap<String, Issued>,
    /// The tokens that the API was shown, in their order, good or not.
    pub(crate) shown: Vec<String>,
}

impl State {
    /// How often the endpoint was asked for this credential.
    pub(crate) fn asked_for(&self, basic: &str) -> usize {
        self.asked.iter().filter(|it| *it == basic).count()
    }

    /// When tokens were given for a credential, in their order.
    pub(crate) fn times(&self, basic: &str) -> Vec<Instant> {
        let issued = self.tokens.values().filter(|it| it.basic == basic);
        let mut times: Vec<Instant> = issued.map(|it| it.at).collect();
        times.sort();
        times
    }
}

/// Both servers.
pub(crate) struct Vendor {
    pub(crate) api: Upstream,
    pub(crate) endpoint: Upstream,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Vendor {
    pub(crate) fn start() -> Self {
        Self::start_wrapped(Ok)
    }

    /// Starts it with an endpoint whose connections are wrapped, for instance in TLS.
    pub(crate) fn start_wrapped<W, S>(wrap: W) -> Self
    where
        W: Fn(std::net::TcpStream) -> std::io::Result<S> + Send + Sync + Clone + 'static,
        S: std::io::Read + std::io::Write + Send + 'static,
    {
        let state = State {
            life: Duration::from_secs(1800),
            says: Says::Milliseconds,
            refuses: None,
            bad: Vec::new(),
            open: true,
            held: Vec::new(),
            api_refuses: false,
            asked: Vec::new(),
            tokens: HashMap::new(),
            shown: Vec::new(),
        };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let (of_api, of_endpoint) = (Arc::clone(&shared), Arc::clone(&shared));
        let api = Upstream::start(move |request: &Received, wire: &mut dyn Wire| {
            serve(&mut of_api.0.lock().unwrap(), request, wire);
            Then::Keep
        });
        let script = move |request: &Received, wire: &mut dyn Wire| {
            give(&of_endpoint, request, wire);
            Then::Close
        };
        let endpoint = Upstream::start_wrapped(script, wrap);
        Self { api, endpoint, shared }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// Lets everybody have a token again.
    pub(crate) fn open(&self) {
        self.state().open = true;
        self.state().held.clear();
        self.shared.1.notify_all();
    }

    /// Where keys get tokens.
    pub(crate) fn token_url(&self) -> String {
        format!("http://{}/oauth", self.endpoint.address)
    }

    /// The server's own credential, with a scope.
    pub(crate) fn key(&self) -> String {
        format!(
            "credential = {{ kind = 'client-credentials', env = 'VENDOR_KEY', scope = 'PERS', \
             token_url = '{}' }}",
            self.token_url()
        )
    }

    /// Callers' own, asked for where the server asks.
    pub(crate) fn callers(&self, more: &str) -> String {
        format!(
            "callers = {{ scope = 'PERS', token_url = '{0}', password_url = '{0}'{more} }}",
            self.token_url()
        )
    }

    /// Starts the proxy in front of it, with these lines in the provider's table.
    pub(crate) fn proxy(&self, lines: &str) -> Patchbay {
        self.proxy_with("", lines)
    }

    /// The same, with this text before.
    pub(crate) fn proxy_with(&self, before: &str, lines: &str) -> Patchbay {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("patchbay.toml");
        let config =
            format!("{before}\n[providers.vendor]\nurl = '{}'\n{lines}\n", self.api.chat_url());
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchbay"));
        command.args(["serve", "--workers", "2", "--config"]).arg(path);
        command.env("RUST_LOG", "trace").env("VENDOR_KEY", KEY);
        Patchbay::spawn(command)
    }
}

fn serve(state: &mut State, request: &Received, wire: &mut dyn Wire) {
    let shown = request.header("authorization").unwrap_or_default();
    let shown = shown.strip_prefix("Bearer ").unwrap_or(shown).to_owned();
    let good = state.tokens.get(&shown).is_some_and(|it| Instant::now() < it.ends);
    state.shown.push(shown.clone());
    if good && !state.api_refuses {
        reply_stream(wire, &chat_text("served"));
    } else {
        let body = json!({"error": {"message": format!("bad token: {shown}")}});
        reply(wire, "401 Unauthorized", "application/json", &body.to_string());
    }
}

fn give(shared: &(Mutex<State>, Condvar), request: &Received, wire: &mut dyn Wire) {
    let basic = request.header("authorization").and_then(|it| it.strip_prefix("Basic "));
    let basic = basic.unwrap_or_default().to_owned();
    let mut state = shared.0.lock().unwrap();
    state.asked.push(basic.clone());
    let number = state.asked.len();
    let waits = |state: &mut State| !state.open || state.held.contains(&basic);
    state = shared.1.wait_while(state, waits).unwrap();
    let (status, body) = match &state.refuses {
        Some((status, body)) => (*status, body.clone()),
        None if state.bad.contains(&basic) => {
            ("401 Unauthorized", json!({"code": 6, "message": format!("{basic} is not known")}))
        }
        None => {
            let name = format!("token-hush-{number}");
            let (at, life) = (Instant::now(), state.life);
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + life;
            state.tokens.insert(name.clone(), Issued { basic, at, ends: at + life });
            let body = match state.says {
                Says::Milliseconds => {
                    let ms = u64::try_from(unix.as_millis()).unwrap();
                    json!({"access_token": name, "expires_at": ms})
                }
                Says::Seconds => json!({"access_token": name, "expires_at": unix.as_secs()}),
                Says::Tok => json!({"tok": name, "exp": unix.as_secs()}),
                Says::ExpiresIn => json!({"access_token": name, "expires_in": life.as_secs()}),
                Says::Nothing => json!({"access_token": name}),
            };
            ("200 OK", body)
        }
    };
    drop(state);
    reply(wire, status, "application/json", &body.to_string());
}
