//! A published file into a folder of this machine: fetched once, resumed where it was cut, checked before it has its name.

mod announced;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use md5::Md5;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use announced::Announced;

use crate::bundle::hex;
use crate::options::DownloadOptions;
use crate::{Error, ErrorKind, Options, Result};

const MAX_REDIRECTS: usize = 10;
const CHUNK: usize = 1 << 18;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const REPORT_EVERY: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Fetches `url` into `file`, which appears under its name only when it is whole and its hash is right.
///
/// A file that is there already is checked and nothing is fetched. What arrived of a cut download lies beside the target
/// and is continued where the server still has the same version. Of several processes one fetches, the others wait and
/// use its file. Without a hash the one counts that the server announces (`x-goog-hash`), else the announced size; what is
/// not known to be whole is not used. `goes_on` is called between chunks; its error stops the download and is returned.
///
/// Options: `url` (http or https), `file`, `hash` (hex, or empty) with `hashAlgorithm` (`md5`, `sha256`), `maxBytes`,
/// `connectSeconds`, `stallSeconds` (without a byte), `retries`, `pauseMillis` (before the first retry, then doubled),
/// `httpProxy`, `httpsProxy`, `noProxy` (hosts separated by `,` or `|`; all three empty: the environment's), `advice`
/// (ends the message of an error). Errors are of kind `Io`, or `InvalidArgument` where an option is wrong.
pub fn fetch(options: &Options, goes_on: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let options = DownloadOptions::parse(options)?;
    let mut wanted = Fetching { options: &options, goes_on };
    if wanted.is_there()? {
        return Ok(());
    }
    let _lock = wanted.lock()?;
    if wanted.is_there()? {
        return Ok(());
    }
    wanted.fetch()
}

/// Why one attempt ended.
enum Failure {
    /// Another attempt may go better.
    Passing(String),
    /// No attempt will go better.
    Lasting(String),
    /// What was kept of an earlier attempt is of no use.
    Stale(String),
    /// Of this machine, or the caller's wish.
    Ours(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Ours(error)
    }
}

struct Fetching<'a> {
    options: &'a DownloadOptions,
    goes_on: &'a mut dyn FnMut() -> Result<()>,
}

impl Fetching<'_> {
    fn fetch(&mut self) -> Result<()> {
        let mut pause = self.options.pause;
        let mut left = self.options.retries;
        loop {
            let reason = match self.attempt() {
                Ok(()) => return Ok(()),
                Err(Failure::Ours(error)) => return Err(error),
                Err(Failure::Lasting(reason)) => return Err(self.failed(&reason)),
                Err(Failure::Stale(reason)) => {
                    self.forget()?;
                    reason
                }
                Err(Failure::Passing(reason)) => reason,
            };
            if left == 0 {
                return Err(self.failed(&reason));
            }
            left -= 1;
            info!("{}: {reason}; trying again in {:.1} s", self.options.url, pause.as_secs_f64());
            self.wait(pause)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn attempt(&mut self) -> std::result::Result<(), Failure> {
        let kept = self.kept();
        let (response, asked) = self.ask(kept.as_ref())?;
        let status = response.status();
        let (start, total) = match (status, &kept) {
            (StatusCode::OK, _) => (0, header(&response, "content-length").and_then(|v| v.parse().ok())),
            (StatusCode::PARTIAL_CONTENT, Some(kept)) => {
                let range = header(&response, "content-range").and_then(content_range);
                let same = validator(&response).is_none_or(|found| found == kept.validator);
                match range {
                    Some((first, total)) if first == kept.length && same => (first, total),
                    _ => return Err(Failure::Stale("the server continued another version".to_owned())),
                }
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                return Err(Failure::Stale("the server has no such range".to_owned()));
            }
            (status, _) => {
                let reason = format!("{asked} answered {status}");
                let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
                return Err(if passing { Failure::Passing(reason) } else { Failure::Lasting(reason) });
            }
        };
        if let Some(total) = total
            && total > self.options.max_bytes
        {
            return Err(Failure::Lasting(self.too_large(total)));
        }
        let announced = Announced::of(&response).filter(|_| self.options.hash.is_empty());
        let chunked = header(&response, "transfer-encoding").is_some_and(|how| how.ends_with("chunked"));
        if total.is_none() && !chunked && announced.is_none() && self.options.hash.is_empty() {
            let reason = "the server tells neither its size nor its hash, so nobody knows when it is whole";
            return Err(Failure::Lasting(reason.to_owned()));
        }
        if start == 0 {
            self.forget()?;
            if let Some(validator) = validator(&response) {
                let from = format!("{}\n{validator}\n", self.options.url);
                fs::write(self.beside("from"), from).map_err(|e| self.unwritable(e))?;
            }
        }
        let partial = self.beside("part");
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&partial)
            .map_err(|e| Failure::Ours(self.unwritable(e)))?;
        let received = self.copy(response.into_body(), &mut file, start, total);
        file.sync_all().map_err(|e| Failure::Ours(self.unwritable(e)))?;
        if received.is_err() && !self.beside("from").exists() {
            // Without a validator nobody can tell whether the rest belongs to it.
            self.forget()?;
        }
        received?;
        let wrong = match (&announced, self.wrong_hash(&partial)?) {
            (_, Some(found)) => {
                let (algorithm, hash) = (&self.options.hash_algorithm, &self.options.hash);
                Some(format!("its {algorithm} hash is not {hash}, which is published, but {found}"))
            }
            (Some(announced), None) => announced.difference(&partial).map_err(|e| unreadable(&partial, e))?,
            (None, None) => None,
        };
        if let Some(reason) = wrong {
            if start > 0 {
                return Err(Failure::Stale(reason));
            }
            self.forget()?;
            return Err(Failure::Lasting(reason));
        }
        if announced.is_none() && self.options.hash.is_empty() {
            warn!("{}: no hash of it is known, so only its size was checked", self.options.url);
        }
        fs::rename(&partial, &self.options.file).map_err(|e| self.unwritable(e))?;
        self.forget()?;
        Ok(())
    }

    /// Asks for the file, or for what is missing of it; follows redirects. The response, and the address that gave it.
    fn ask(&mut self, kept: Option<&Kept>) -> std::result::Result<(Response<Body>, String), Failure> {
        let mut url = self.options.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            (self.goes_on)()?;
            let uri: Uri = url.parse().map_err(|e| Failure::Lasting(format!("{url} is no address: {e}")))?;
            let mut request = self.agent(&uri)?.get(&url).header("accept-encoding", "identity");
            if let Some(kept) = kept {
                request = request
                    .header("range", format!("bytes={}-", kept.length))
                    .header("if-range", kept.validator.clone());
            }
            let response = request.call().map_err(|e| match e {
                ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Lasting(e.to_string()),
                _ => Failure::Passing(e.to_string()),
            })?;
            if !response.status().is_redirection() {
                return Ok((response, url));
            }
            let Some(next) = header(&response, "location").and_then(|to| joined(&uri, to)) else {
                return Err(Failure::Lasting(format!("{url} redirects to no address")));
            };
            let plain = next.starts_with("http://");
            if !plain && !next.starts_with("https://") || plain && url.starts_with("https://") {
                return Err(Failure::Lasting(format!("{url} redirects to {next}, which is not https")));
            }
            url = next;
        }
        Err(Failure::Lasting(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    fn agent(&self, uri: &Uri) -> Result<Agent> {
        let secure = uri.scheme_str() == Some("https");
        let stall = Some(self.options.stall);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(self.options.connect))
            .timeout_recv_response(stall)
            .timeout_per_read(stall)
            .timeout_per_write(stall)
            .user_agent(concat!("sparkdl/", env!("CARGO_PKG_VERSION")))
            .proxy(self.options.proxy(secure, uri.host().unwrap_or_default()).map_or(Ok(None), |proxy| {
                Proxy::new(&proxy).map(Some).map_err(|e| {
                    Error::new(ErrorKind::InvalidArgument, "The address of the proxy is none.").with_source(e)
                })
            })?);
        if secure {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                return Err(self.failed(
                    "this machine has no certificates to check the server by: install ca-certificates, or set \
                     SSL_CERT_FILE to a file with them",
                ));
            }
            let roots = found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned());
            config = config.tls_config(
                TlsConfig::builder()
                    .root_certs(RootCerts::from(roots))
                    .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                    .build(),
            );
        }
        Ok(config.build().new_agent())
    }

    fn copy(
        &mut self,
        body: Body,
        file: &mut File,
        start: u64,
        total: Option<u64>,
    ) -> std::result::Result<(), Failure> {
        let url = &self.options.url;
        let mut body = body.into_reader();
        let mut chunk = vec![0; CHUNK];
        let mut received = start;
        let began = Instant::now();
        let mut reported = (began, start);
        match start {
            0 => info!("{url}: fetching {}", total.map_or("a file".to_owned(), megabytes)),
            _ => {
                info!(
                    "{url}: going on at {} of {}",
                    megabytes(start),
                    total.map_or("?".to_owned(), megabytes)
                );
            }
        }
        loop {
            (self.goes_on)()?;
            let count = body.read(&mut chunk).map_err(|e| {
                let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
                Failure::Passing(format!("{received}{of} bytes arrived, then: {e}"))
            })?;
            if count == 0 {
                break;
            }
            received += count as u64;
            if received > self.options.max_bytes {
                self.forget()?;
                return Err(Failure::Lasting(self.too_large(received)));
            }
            if let Some(total) = total
                && received > total
            {
                return Err(Failure::Stale(format!("more than the announced {total} bytes arrived")));
            }
            file.write_all(chunk.get(..count).unwrap_or_default()).map_err(|e| self.unwritable(e))?;
            let tenth = total.is_some_and(|total| received - reported.1 >= (total / 10).max(CHUNK as u64));
            if tenth || reported.0.elapsed() >= REPORT_EVERY {
                reported = (Instant::now(), received);
                let of = total.map(|total| format!(" of {}", megabytes(total))).unwrap_or_default();
                info!("{url}: {}{of}", megabytes(received));
            }
        }
        if let Some(total) = total
            && received < total
        {
            return Err(Failure::Passing(format!("{received} of {total} bytes arrived")));
        }
        let seconds = began.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a speed for people")]
        let speed = (received - start) as f64 / 1e6 / seconds.max(1e-3);
        info!("{url}: {} in {seconds:.1} s, {speed:.1} MB/s", megabytes(received));
        Ok(())
    }

    /// Whether the target is there; one that is not the wanted file is an error.
    fn is_there(&self) -> Result<bool> {
        let file = &self.options.file;
        if !file.try_exists().map_err(|e| self.unwritable(e))? {
            return Ok(false);
        }
        match self.wrong_hash(file)? {
            None => Ok(true),
            Some(found) => {
                let (algorithm, hash) = (&self.options.hash_algorithm, &self.options.hash);
                let message = format!(
                    "The file {} is damaged or not the published one: its {algorithm} is {found}, not {hash}. \
                     Delete the file, or put the right one in its place.",
                    file.display()
                );
                Err(Error::new(ErrorKind::Io, message))
            }
        }
    }

    fn wrong_hash(&self, path: &Path) -> Result<Option<String>> {
        let found = match self.options.hash_algorithm.as_str() {
            "md5" => hash_of::<Md5>(path),
            "sha256" => hash_of::<Sha256>(path),
            _ => return Ok(None),
        };
        let found = found.map_err(|e| unreadable(path, e))?;
        Ok((found != self.options.hash).then_some(found))
    }

    /// Holds the right to make the file, as the Python side's `locked` does; the system's lock dies with its process.
    fn lock(&mut self) -> Result<File> {
        let folder = self.options.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|e| self.unwritable(e))?;
        let file = File::create(self.beside("lock")).map_err(|e| self.unwritable(e))?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => self.wait(LOCK_POLL)?,
                Err(e) => return Err(self.unwritable(e.into())),
            }
        }
    }

    fn wait(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            (self.goes_on)()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOCK_POLL));
        }
    }

    /// What an earlier attempt left, where it can be continued.
    fn kept(&self) -> Option<Kept> {
        let from = fs::read_to_string(self.beside("from")).ok()?;
        let (url, validator) = from.split_once('\n')?;
        let length = fs::metadata(self.beside("part")).ok()?.len();
        let usable = url == self.options.url && !validator.trim().is_empty() && length > 0;
        usable.then(|| Kept { length, validator: validator.trim().to_owned() })
    }

    fn forget(&self) -> Result<()> {
        for end in ["part", "from"] {
            match fs::remove_file(self.beside(end)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(self.unwritable(e)),
                _ => {}
            }
        }
        Ok(())
    }

    fn beside(&self, end: &str) -> PathBuf {
        let name = self.options.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.options.file.with_file_name(format!(".{name}.{end}"))
    }

    fn too_large(&self, found: u64) -> String {
        format!("it has {found} bytes or more, and at most {} are taken", self.options.max_bytes)
    }

    fn failed(&self, reason: &str) -> Error {
        let DownloadOptions { url, file, advice, .. } = self.options;
        let message =
            format!("Cannot fetch {url}: {reason}. Put the file at {} by hand{advice}.", file.display());
        Error::new(ErrorKind::Io, message)
    }

    fn unwritable(&self, error: std::io::Error) -> Error {
        let folder = self.options.file.parent().unwrap_or(Path::new("."));
        Error::new(ErrorKind::Io, format!("Cannot write to the folder {}.", folder.display()))
            .with_source(error)
    }
}

fn unreadable(path: &Path, cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("Cannot read {}.", path.display())).with_source(cause)
}

/// What lies beside the target.
struct Kept {
    length: u64,
    validator: String,
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// What tells versions of a file apart, byte for byte: weak tags do not.
fn validator(response: &Response<Body>) -> Option<String> {
    let tag = header(response, "etag").filter(|tag| !tag.starts_with("W/"));
    tag.or_else(|| header(response, "last-modified")).map(str::to_owned)
}

/// First byte and, where it is told, the size of the whole.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

/// Where a redirect leads.
fn joined(base: &Uri, to: &str) -> Option<String> {
    let (scheme, host) = (base.scheme_str()?, base.authority()?);
    let before_query = to.split(['?', '#']).next().unwrap_or_default();
    if before_query.contains("://") {
        Some(to.to_owned())
    } else if to.starts_with("//") {
        Some(format!("{scheme}:{to}"))
    } else if to.starts_with('/') {
        Some(format!("{scheme}://{host}{to}"))
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        Some(format!("{scheme}://{host}{folder}/{to}"))
    }
}

fn hash_of<D: Digest>(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = D::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(chunk.get(..count).unwrap_or_default());
    }
}

#[allow(clippy::cast_precision_loss, reason = "a size for people")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
