//! What proves to an upstream who asks, where that changes while the process runs: as meaning, and as
//! a table of what is known. No clock, no network, no file.

mod caller;
mod grant;
mod login;
mod table;

pub use caller::Caller;
pub(crate) use caller::FORMS;
pub use grant::{Ends, Reply, Request, request};
pub use login::{ADVICE, AuthFile, Offer, Refresh, Renewed, Tokens, refresh_request, rfc3339};
pub use table::{Job, Note, Table};
