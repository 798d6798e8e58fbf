//! Health and metrics over HTTP, read-only (O4).

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use waypost_net::server::SharedLimits;

use crate::core::Core;
use crate::metrics::{Format, Found, Process};

/// The longest head of a request.
const REQUEST: usize = 8 << 10;
/// What a client may still say once it was answered.
const LEFT_OVER: usize = 64 << 10;
/// For a request and its answer.
const TIME: Duration = Duration::from_secs(10);
/// Requests at once; more wait to be accepted.
const AT_ONCE: usize = 64;
/// Messages of the queue counted in one go; senders wait for no longer than that takes.
const STEP: usize = 5_000;

/// What the pages are about.
pub(crate) struct Admin {
    pub(crate) core: Arc<Core>,
    pub(crate) limits: SharedLimits,
}

/// Answers `GET` and `HEAD` of `/healthz` or `/health`, `/readyz` or `/ready`, and `/metrics`, one
/// request a connection, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, admin: Admin) {
    let admin = Arc::new(admin);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(TIME, converse(stream, &admin)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin: accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, admin: &Admin) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    let answer = loop {
        if let Some(request) = whole(&head) {
            break match Request::read(request) {
                Ok(request) => {
                    let answer = admin.answer(&request).await;
                    if request.is_head { answer.without_body() } else { answer }
                }
                Err(answer) => answer,
            };
        }
        if head.len() >= REQUEST {
            break Answer::new(431, "the head of a request may have 8 KiB\n");
        }
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            read => head.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    };
    stream.write_all(&answer.bytes()).await?;
    stream.shutdown().await?;
    // A socket closed with unread octets in it takes the answer with it.
    let mut left = LEFT_OVER;
    while left > 0 {
        match stream.read(&mut chunk).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// The head of a request, once it is all there. A bare LF ends a line as well (RFC 9112 section 2.2).
fn whole(head: &[u8]) -> Option<&[u8]> {
    let crlf = head.windows(4).position(|end| end == b"\r\n\r\n");
    let lf = head.windows(2).position(|end| end == b"\n\n");
    let end = [crlf, lf].into_iter().flatten().min()?;
    head.get(..end)
}

/// What of a request is looked at.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    is_head: bool,
    path: &'a str,
    accept: Option<&'a str>,
}

impl<'a> Request<'a> {
    fn read(head: &'a [u8]) -> Result<Self, Answer> {
        let bad = || Answer::new(400, "this is no HTTP request\n");
        let head = std::str::from_utf8(head).map_err(|_| bad())?;
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad());
        };
        if !target.starts_with('/') || !version.starts_with("HTTP/") {
            return Err(bad());
        }
        if !version.starts_with("HTTP/1.") {
            return Err(Answer::new(505, "only HTTP/1.0 and HTTP/1.1 are spoken\n"));
        }
        let is_head = match method {
            "GET" => false,
            "HEAD" => true,
            _ => {
                let mut answer = Answer::new(405, "only GET and HEAD are answered\n");
                answer.fields = "Allow: GET, HEAD\r\n";
                return Err(answer);
            }
        };
        let accept = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("accept").then(|| value.trim())
        });
        let path = target.split('?').next().unwrap_or_default();
        Ok(Self { is_head, path, accept })
    }
}

/// What goes back.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    content_type: &'static str,
    fields: &'static str,
    body: String,
    length: usize,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Answer {
    fn new(status: u16, body: impl Into<String>) -> Self {
        let body = body.into();
        Self { status, content_type: TEXT, fields: "", length: body.len(), body }
    }

    fn of_type(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }

    /// For HEAD: the length stays that of GET.
    fn without_body(self) -> Self {
        Self { body: String::new(), ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { status, content_type, fields, body, length } = self;
        let words = match status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "HTTP Version Not Supported",
        };
        let head = format!(
            "HTTP/1.1 {status} {words}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
             {fields}Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\n"
        );
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

impl Admin {
    async fn answer(&self, request: &Request<'_>) -> Answer {
        match request.path {
            "/healthz" | "/health" => Answer::new(200, "ok\n"),
            "/readyz" | "/ready" => self.readiness(request),
            "/metrics" => {
                let format = Format::accepted(request.accept);
                let found = self.look().await;
                match self.core.metrics.page(format, &found) {
                    Ok(page) => Answer::new(200, page).of_type(format.content_type()),
                    Err(error) => {
                        tracing::error!(%error, "the metrics cannot be written");
                        Answer::new(500, "the metrics cannot be written; see the log\n")
                    }
                }
            }
            _ => Answer::new(404, "there are /healthz, /readyz and /metrics\n"),
        }
    }

    /// As text, or as JSON for whom accepts that.
    fn readiness(&self, request: &Request<'_>) -> Answer {
        let reasons = self
            .core
            .health
            .not_ready(&self.core.spool, self.core.policy().server.limits.message_size);
        let status = if reasons.is_empty() { 200 } else { 503 };
        if request.accept.is_some_and(|accept| accept.contains(JSON)) {
            let reasons: Vec<_> = reasons
                .iter()
                .map(|reason| {
                    serde_json::json!({ "reason": reason.as_str(), "text": reason.to_string() })
                })
                .collect();
            let body = serde_json::json!({ "ready": status == 200, "reasons": reasons });
            return Answer::new(status, format!("{body}\n")).of_type(JSON);
        }
        if reasons.is_empty() {
            return Answer::new(status, "ready\n");
        }
        let lines = reasons.iter().map(|reason| format!("{}: {reason}\n", reason.as_str()));
        Answer::new(status, lines.collect::<String>())
    }

    async fn look(&self) -> Found {
        let core = &self.core;
        let process = tokio::task::spawn_blocking(Process::now).await.unwrap_or_default();
        let (connections, totals) = {
            let limits = self.limits.lock();
            (limits.open(), limits.totals())
        };
        Found {
            now: core.clock.now(),
            queue: core.spool.tally(STEP).await,
            connections,
            totals,
            store: core.spool.counts(),
            store_open: core.spool.is_open(),
            process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_at_its_empty_line() {
        for (head, want) in [
            ("", None),
            ("GET / HTTP/1.1\r\n", None),
            ("GET / HTTP/1.1\r\n\r\n", Some("GET / HTTP/1.1")),
            ("GET / HTTP/1.1\n\nmore", Some("GET / HTTP/1.1")),
            ("a\r\nb: c\r\n\r\n\n\n", Some("a\r\nb: c")),
        ] {
            assert_eq!(whole(head.as_bytes()), want.map(str::as_bytes), "{head:?}");
        }
    }

    #[test]
    fn requests_are_read_strictly() {
        let request = |is_head, path, accept| Ok(Request { is_head, path, accept });
        for (head, want) in [
            ("GET /metrics HTTP/1.1", request(false, "/metrics", None)),
            ("HEAD /metrics?x=y HTTP/1.0\r\nHost: a", request(true, "/metrics", None)),
            ("GET / HTTP/1.1\r\nACCEPT:  a/b ", request(false, "/", Some("a/b"))),
            ("", Err(400)),
            ("GET", Err(400)),
            ("GET /", Err(400)),
            ("GET  / HTTP/1.1", Err(400)),
            ("GET metrics HTTP/1.1", Err(400)),
            ("GET http://x/metrics HTTP/1.1", Err(400)),
            ("GET / SMTP/1.1", Err(400)),
            ("GET / HTTP/2", Err(505)),
            ("POST /metrics HTTP/1.1", Err(405)),
            ("get /metrics HTTP/1.1", Err(405)),
        ] {
            let found = Request::read(head.as_bytes()).map_err(|answer| answer.status);
            assert_eq!(found, want, "{head:?}");
        }
        assert_eq!(Request::read(b"GET /\xff HTTP/1.1").map_err(|a| a.status), Err(400));
    }

    #[test]
    fn head_has_the_length_of_get() {
        let whole = Answer::new(200, "ok\n");
        let text = String::from_utf8(whole.bytes()).unwrap();
        assert!(text.ends_with("\r\n\r\nok\n") && text.contains("\r\nContent-Length: 3\r\n"));
        let head = String::from_utf8(whole.without_body().bytes()).unwrap();
        assert_eq!(text.strip_suffix("ok\n"), Some(&*head));
    }
}
