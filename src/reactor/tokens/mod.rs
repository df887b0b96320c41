//! Tokens that change while the process runs: those of `codex login`, which are in a file, and those
//! that token endpoints give for a secret. Threads fetch them, workers only read tables.

mod file;
mod grants;
mod keep;
mod login;
mod post;

pub use file::read as read_auth_file;

use super::wake::Wake;
use crate::config::Config;
use crate::proxy::net::{Token, TokenState};
use crate::proxy::token::Caller;
use crate::proxy::transport::TlsTable;
use grants::Grants;
use login::Logins;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A handle to both tables; their threads end after the last.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    logins: Logins,
    grants: Option<Grants>,
}

impl Tokens {
    /// Reads the files and starts the threads that are needed; `wakes` are told of every change.
    ///
    /// # Errors
    /// A file is missing or of no use, or no thread can be had, in words for people.
    pub(super) fn start(
        config: &Config,
        tls: &Arc<TlsTable>,
        wakes: &[Arc<Wake>],
    ) -> Result<Self, String> {
        let logins = Logins::start(config, tls, wakes.to_vec())?;
        let grants = Grants::start(config, tls, wakes.to_vec())?;
        Ok(Self { logins, grants })
    }

    /// Tables of nobody.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { logins: Logins::none(), grants: None }
    }

    /// The token of a caller, or of the server itself; asks for another when it is too old.
    pub(super) fn token(&self, provider: usize, caller: Option<&Arc<Caller>>) -> TokenState {
        match &self.grants {
            Some(grants) if caller.is_some() || !self.logins.has(provider) => {
                grants.token(provider, caller)
            }
            _ => self.logins.token(provider),
        }
    }

    /// Asks for another token than this one.
    pub(super) fn refused(
        &self,
        provider: usize,
        caller: Option<&Arc<Caller>>,
        token: &Arc<Token>,
    ) {
        match &self.grants {
            Some(grants) if caller.is_some() || !self.logins.has(provider) => {
                grants.refused(provider, caller, token);
            }
            _ => self.logins.refused(provider, token),
        }
    }
}

/// The time since 1970. A system clock before that shows as 1970.
fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Unix time in seconds.
fn unix_s() -> u64 {
    unix().as_secs()
}
