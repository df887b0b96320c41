//! What several subcommands do on their way to a running proxy.

pub(super) use super::log::start as start_log;

use super::variables::Variables;
use patchbay::config::{self, Config, Overrides, UpstreamTls, World};
use patchbay::proxy::transport::{Identity, TlsTable, Trust};
use patchbay::reactor::{Ending, Proxy, watch_signals};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Reads the configuration file, if there is one, and the certificates that it names. What the
/// environment does not set may come from the variables of a `.env` file.
pub(super) fn load(
    file: Option<&Path>,
    overrides: &Overrides,
    variables: &Variables,
) -> Result<(Arc<Config>, Arc<TlsTable>), String> {
    let text = match file {
        Some(path) => Some(read_text(path)?),
        None => None,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let var = |name: &str| std::env::var(name).ok().or_else(|| variables.find(name));
    let config = config::load(file.zip(text.as_deref()), overrides, World { var: &var, cores })?;
    for complaint in
        config.variables.complaints(set_variables(variables).iter().map(String::as_str))
    {
        say(&format!("warning: {complaint}"));
    }
    let tls = tls_table(&config)?;
    // Whatever the log's level is, and wherever it goes.
    if let Some(capture) = &config.capture {
        let folder = capture.folder.display();
        say(&format!("warning: every exchange is captured in {folder}: the files hold prompts"));
    }
    Ok((Arc::new(config), Arc::new(tls)))
}

/// The names of the variables that are set and not empty.
fn set_variables(of_file: &Variables) -> Vec<String> {
    let own = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    own.filter_map(|(name, _)| name.into_string().ok()).chain(of_file.names()).collect()
}

/// What TLS towards the upstreams needs, read from the files that the configuration names.
fn tls_table(config: &Config) -> Result<TlsTable, String> {
    let mut table = TlsTable::new(&[])?;
    for (index, provider) in config.providers.iter().enumerate() {
        if !provider.speaks_tls() {
            continue;
        }
        let (name, tls) = (&provider.name, &provider.tls);
        if tls.unverified {
            say(&format!(
                "warning: certificates of the provider {name} are not checked (verify_tls is \
                 false): whoever is on the way to it can read and change its key and all content; \
                 name its root certificate in ca_file instead"
            ));
        }
        let named = |why: String| format!("[providers.{name}] {why}");
        let trust = trust(tls, provider.dialect.issuer()).map_err(named)?;
        table.set_provider(index, &trust).map_err(|why| named(why + &files(tls)))?;
    }
    Ok(table)
}

fn trust(tls: &UpstreamTls, issuer: Option<&'static str>) -> Result<Trust, String> {
    let roots = match &tls.ca_file {
        Some(path) => read(path, "the CA file")?,
        None => Vec::new(),
    };
    let identity = match &tls.client_certificate {
        Some(files) => Some(Identity {
            certificate: read(&files.certificate, "the client certificate")?,
            key: read(&files.key, "the client certificate's key")?,
        }),
        None => None,
    };
    if tls.ca_file.is_some() && roots.is_empty() {
        return Err("the CA file is empty".to_owned() + &files(tls));
    }
    Ok(Trust { roots, identity, unverified: tls.unverified, issuer })
}

/// The files that TLS towards a provider is made of, for an error.
fn files(tls: &UpstreamTls) -> String {
    let certificate = tls.client_certificate.as_ref();
    let named = [
        ("CA file", tls.ca_file.as_ref()),
        ("certificate", certificate.map(|files| &files.certificate)),
        ("key", certificate.map(|files| &files.key)),
    ];
    let named =
        named.iter().filter_map(|(what, path)| Some(format!("{what} {}", (*path)?.display())));
    format!(" ({})", named.collect::<Vec<_>>().join(", "))
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |why| format!("cannot read the configuration file {}: {why}", path.display());
    fs::read_to_string(path).map_err(cannot)
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|why| format!("cannot read {what} {}: {why}", path.display()))
}

/// Reads the certificate that clients are shown, if one is configured, and lets the proxy use it
/// from now on.
pub(super) fn load_certificate(config: &Config, tls: &TlsTable) -> Result<(), String> {
    let Some(files) = &config.tls else { return Ok(()) };
    let certificate = read(&files.certificate, "the certificate")?;
    let key = read(&files.key, "the private key")?;
    tls.set_server(&certificate, &key).map_err(|why| {
        format!("{why} (certificate {}, key {})", files.certificate.display(), files.key.display())
    })
}

/// Lets these signals reach the proxy's mailbox instead of killing the process, and SIGHUP too if
/// it is to `reload`. To be called before anybody is told that it runs.
pub(super) fn watch(proxy: &Proxy, signals: &[i32], reload: bool) -> Result<(), String> {
    let watched = watch_signals(signals, reload, proxy.mailbox());
    watched.map_err(|why| format!("cannot catch signals: {why}"))
}

/// Keeps a proxy running until a signal, and says how it ended. `reload` is called on SIGHUP.
pub(super) fn keep(proxy: Proxy, reload: impl FnMut()) -> ExitCode {
    match proxy.keep(reload) {
        Ending::Drained => ExitCode::SUCCESS,
        Ending::Signal(signal) => code(128 + signal),
        Ending::Failed => ExitCode::FAILURE,
    }
}

/// An exit code; what does not fit is a plain failure.
pub(super) fn code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Writes a line for the person at the terminal.
pub(super) fn say(line: &str) {
    // A closed stderr is no reason to end.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes `{"port":N,"pid":N}` and a line end, whole or not at all, readable for the owner only.
pub(super) fn write_server_info(path: &Path, address: SocketAddr) -> Result<(), String> {
    let pid = std::process::id();
    let line = format!("{{\"port\":{},\"pid\":{pid}}}\n", address.port());
    write_private(path, line.as_bytes())
        .map_err(|why| format!("cannot write {}: {why}", path.display()))
}

/// Writes a file by way of a temporary one beside it.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = create_private(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates a file that nobody else can read and that was not there before.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A folder for this process alone, removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it below the system's folder for temporary files.
    pub(super) fn new() -> Result<Self, String> {
        use std::hash::{BuildHasher as _, Hasher as _, RandomState};
        use std::os::unix::fs::DirBuilderExt as _;
        let random = RandomState::new().build_hasher().finish();
        let path = std::env::temp_dir().join(format!("patchbay-{random:016x}"));
        // Fails when it exists: nobody can have prepared it for us.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|why| format!("cannot make the folder {}: {why}", path.display()))?;
        Ok(Self(path))
    }

    /// The path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Leaves the folder where it is.
    pub(super) fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_server_info_is_one_private_line_that_replaces_an_old_one() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.file("info.json");
        fs::write(&path, "something old and longer than what follows, in one line").unwrap();
        write_server_info(&path, "127.0.0.1:8787".parse().unwrap()).unwrap();
        let pid = std::process::id();
        let expected = format!("{{\"port\":8787,\"pid\":{pid}}}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let nowhere = scratch.file("no").join("such.json");
        let error = write_server_info(&nowhere, "127.0.0.1:1".parse().unwrap()).unwrap_err();
        assert!(error.starts_with("cannot write "), "{error}");
    }

    #[test]
    fn a_scratch_folder_is_private_and_goes_away() {
        let scratch = Scratch::new().unwrap();
        let file = scratch.file("a");
        let folder = file.parent().unwrap().to_owned();
        create_private(&file).unwrap();
        assert!(create_private(&file).is_err());
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        drop(scratch);
        assert!(!folder.exists());
    }
}
