//! TLS upon a socket of ours, by rustls (RFC 8446, RFC 5246). Its memory is bounded by its own limits on handshake
//! messages and records; its time by the deadlines of who reads and writes.

use super::client::Roots;
use super::http::{is_pause, late};
use super::left;
use crate::api::TrackerFailure;
use crate::limits;
use crate::proto::metainfo::printable;
use crate::proto::tracker::url::Host;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Where systems keep the certificates that they trust, as one file: Debian, Alpine and Arch; Fedora; openSUSE; OpenWrt,
/// macOS and OpenBSD; FreeBSD.
const SYSTEM_STORES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// How TLS is spoken, and who is trusted.
#[derive(Clone, Debug)]
pub(super) struct Config(Arc<ClientConfig>);

impl Config {
    /// Reads the certificates. Fails only where the user named some and none of them can be had.
    pub(super) fn new(roots: &Roots) -> Result<Config, String> {
        let mut store = RootCertStore::empty();
        match roots {
            Roots::Usual => {
                store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                if let Some(path) = SYSTEM_STORES.iter().map(Path::new).find(|path| path.exists())
                    && let Err(why) = add_file(&mut store, path)
                {
                    log::info!("HTTPS trusts the built-in certificates only: {why}");
                }
            }
            Roots::Only { file, dir } => {
                let mut wrong = "no certificate is trusted".to_string();
                let added = [
                    file.as_ref().map(|file| add_file(&mut store, file)),
                    dir.as_ref().map(|dir| add_dir(&mut store, dir)),
                ];
                if let Some(why) = added.into_iter().flatten().find_map(Result::err) {
                    wrong = why;
                }
                if store.is_empty() {
                    return Err(format!("HTTPS failed: {wrong} (SSL_CERT_FILE, SSL_CERT_DIR)"));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| words(&error))?;
        let mut config = builder.with_root_certificates(store).with_no_client_auth();
        // Tickets of up to 64 KiB each, kept for hundreds of servers, would be the servers' to fill; they would also
        // let a server know us again.
        config.resumption = Resumption::disabled();
        Ok(Config(Arc::new(config)))
    }
}

/// Adds the certificates of a file; those that make no sense are left out.
fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(|error| cannot(&error))?;
    let bounded = BufReader::new(file.take(limits::CERTIFICATES_MAX));
    let certificates: Vec<CertificateDer<'_>> =
        CertificateDer::pem_reader_iter(bounded).filter_map(Result::ok).collect();
    match store.add_parsable_certificates(certificates) {
        (0, _) => Err(cannot(&"it has no certificate in PEM")),
        _ => Ok(()),
    }
}

/// Adds those of the files of a folder.
fn add_dir(store: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let mut last = Err(cannot(&"it has no certificate in PEM"));
    for entry in fs::read_dir(path).map_err(|error| cannot(&error))?.flatten() {
        if entry.path().is_file() {
            let added = add_file(store, &entry.path());
            last = last.or(added);
        }
    }
    last
}

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Tls {
    conn: ClientConnection,
    socket: TcpStream,
}

/// Shakes hands with this host, within the deadline.
pub(super) fn shake(
    config: &Config,
    host: &Host,
    mut socket: TcpStream,
    deadline: Instant,
) -> Result<Tls, TrackerFailure> {
    let name = match host {
        Host::Ip(ip) => ServerName::from(*ip),
        Host::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_string()).map_err(|_| {
            TrackerFailure::Network(format!("HTTPS failed: {name} cannot be in a certificate"))
        })?,
    };
    let failed = |error: &rustls::Error| TrackerFailure::Network(words(error));
    let mut conn = ClientConnection::new(config.0.clone(), name).map_err(|error| failed(&error))?;
    while conn.is_handshaking() {
        let left = Some(left(deadline).ok_or_else(late)?);
        let step =
            socket.set_read_timeout(left).and_then(|()| socket.set_write_timeout(left)).and_then(|()| {
                if conn.wants_write() { conn.write_tls(&mut socket) } else { conn.read_tls(&mut socket) }
            });
        match step {
            Ok(0) => {
                return Err(TrackerFailure::Network("HTTPS failed: the server ended the handshake".into()));
            }
            Ok(_) => {}
            Err(error) if is_pause(&error) => continue,
            Err(error) => return Err(TrackerFailure::Network(format!("HTTPS failed: {error}"))),
        }
        if let Err(error) = conn.process_new_packets() {
            // What is wrong is for the server to know, if it can be told at once.
            let _ = conn.write_tls(&mut socket);
            return Err(failed(&error));
        }
    }
    Ok(Tls { conn, socket })
}

/// The words of an error, kept short: a certificate may bring names of its own, thousands of them.
fn words(error: &rustls::Error) -> String {
    let words: String = error.to_string().chars().take(limits::TRACKER_TEXT_MAX).collect();
    format!("HTTPS failed: {}", printable(&words))
}

impl Tls {
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What has been decrypted and not been taken; None: nothing now. Many servers end without TLS's own farewell, so
    /// whether an answer is whole is for HTTP to tell.
    fn decrypted(&mut self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        match self.conn.reader().read(buf) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Some(Ok(0)),
            read => Some(read),
        }
    }
}

impl Read for Tls {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(read) = self.decrypted(buf) {
            return read;
        }
        self.flush()?;
        self.conn.read_tls(&mut self.socket)?;
        self.conn.process_new_packets().map_err(|error| io::Error::other(words(&error)))?;
        self.decrypted(buf).unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut all = 0;
        for buf in bufs.iter_mut().filter(|buf| !buf.is_empty()) {
            match if all == 0 { Some(self.read(buf)) } else { self.decrypted(buf) } {
                Some(Ok(n)) => {
                    all += n;
                    if n < buf.len() {
                        break;
                    }
                }
                Some(Err(error)) if all == 0 => return Err(error),
                _ => break,
            }
        }
        Ok(all)
    }
}

impl Write for Tls {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.conn.writer().write(buf)?;
        self.flush()?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.conn.wants_write() {
            if self.conn.write_tls(&mut self.socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}
