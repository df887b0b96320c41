//! `patchbay serve`

use super::variables::Variables;
use super::{Flags, common};
use patchbay::config::{Config, addresses};
use patchbay::reactor::Proxy;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// The flags of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,

    /// Address to listen on, IP:PORT, or localhost:PORT for both IPv4 and IPv6; may be repeated
    /// [default: 127.0.0.1 with a free port].
    #[arg(
        long,
        value_name = "ADDR",
        env = "PATCHBAY_LISTEN",
        value_parser = listen,
        value_delimiter = ',',
        conflicts_with = "port"
    )]
    listen: Vec<Listen>,

    /// Port to listen on at 127.0.0.1; 0 takes a free one.
    #[arg(short, long, value_name = "N", env = "PATCHBAY_PORT")]
    port: Option<u16>,

    /// Speak TLS to clients with this certificate (PEM, the chain behind it); SIGHUP reads it anew.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", env = "PATCHBAY_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// Write {"port":N,"pid":N} to this file once listening.
    #[arg(long, value_name = "FILE", env = "PATCHBAY_SERVER_INFO")]
    server_info: Option<PathBuf>,

    /// Let `GET /shutdown` from this machine end the process.
    #[arg(long, env = "PATCHBAY_HTTP_SHUTDOWN")]
    http_shutdown: bool,
}

/// What one `--listen` says.
#[derive(Clone, Debug)]
struct Listen(Vec<SocketAddr>);

fn listen(text: &str) -> Result<Listen, String> {
    addresses(text).map(Listen)
}

impl Args {
    /// The flags that it shares.
    pub(super) fn flags(&self) -> &Flags {
        &self.flags
    }
}

/// Serves until a signal.
pub(crate) fn run(args: &Args, variables: &Variables) -> Result<ExitCode, String> {
    let mut overrides = args.flags.overrides();
    overrides.listen.extend(args.listen.iter().flat_map(|it| &it.0));
    overrides.listen.extend(args.port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    overrides.tls_certificate.clone_from(&args.tls_cert);
    overrides.tls_key.clone_from(&args.tls_key);
    overrides.server_info.clone_from(&args.server_info);
    overrides.http_shutdown = args.http_shutdown;
    let (config, tls) = common::load(args.flags.config.as_deref(), &overrides, variables)?;
    let level = config.log_level.as_deref().unwrap_or("info");
    common::start_log(args.flags.log_level.as_deref(), level, None);

    common::load_certificate(&config, &tls)?;
    let proxy = Proxy::start(&config, &tls)?;
    common::watch(&proxy, &[SIGINT, SIGTERM], config.tls.is_some())?;
    for address in proxy.addresses() {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        common::say(&format!("patchbay listens on {scheme}://{address}"));
        if let Some(warning) = exposed(*address, &config) {
            common::say(&warning);
        }
    }
    if let (Some(path), Some(address)) = (&config.server_info, proxy.addresses().first()) {
        common::write_server_info(path, *address)?;
    }
    Ok(common::keep(proxy, || match common::load_certificate(&config, &tls) {
        Ok(()) => log::info!("the certificate was read again"),
        Err(why) => log::error!("the certificate stays as it was: {why}"),
    }))
}

/// What is open to whom when others than this machine can connect.
fn exposed(address: SocketAddr, config: &Config) -> Option<String> {
    if address.ip().is_loopback() {
        return None;
    }
    if config.client_keys.is_empty() {
        return Some(format!(
            "warning: everybody who can reach {address} can use the upstreams with their keys: \
             add [clients.keys] to a configuration file, or listen on 127.0.0.1"
        ));
    }
    config.tls.is_none().then(|| {
        format!(
            "warning: client keys and answers cross the network to {address} in the clear: give a \
             certificate with --tls-cert and --tls-key"
        )
    })
}
