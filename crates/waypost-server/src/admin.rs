//! Health and metrics over HTTP, read-only (O4).

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::core::Core;

const REQUEST: usize = 8 << 10;
const TIME: Duration = Duration::from_secs(10);

/// Answers `GET /healthz`, `/readyz` and `/metrics`, one request a connection, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, core: Arc<Core>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(TIME, answer(stream, &core)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin: accept failed; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, core: &Core) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        match stream.read(&mut chunk).await? {
            0 => break,
            read => request.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/healthz")) => ("200 OK", "ok\n".to_owned()),
        (Some(b"GET"), Some(b"/readyz")) => {
            match core.spool.room(core.policy().server.limits.message_size) {
                Ok(()) => ("200 OK", "ready\n".to_owned()),
                Err(error) => ("503 Service Unavailable", format!("{error}\n")),
            }
        }
        (Some(b"GET"), Some(b"/metrics")) => ("200 OK", metrics(core)),
        (Some(b"GET"), Some(_)) => {
            ("404 Not Found", "there are /healthz, /readyz and /metrics\n".to_owned())
        }
        _ => ("405 Method Not Allowed", "only GET is answered\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The text format of Prometheus.
fn metrics(core: &Core) -> String {
    let mut out = String::new();
    let mut last = "";
    for (name, label, value) in core.counters.list() {
        if name != last {
            out.push_str(&format!("# TYPE {name} counter\n"));
            last = name;
        }
        let labels = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        out.push_str(&format!("{name}{labels} {value}\n"));
    }
    let counts = core.spool.counts();
    let gauges = [
        ("waypost_queue_messages", "gauge", count(core.spool.messages())),
        ("waypost_store_records_total", "counter", counts.records),
        ("waypost_store_syncs_total", "counter", counts.syncs),
        ("waypost_store_failures_total", "counter", counts.failures),
        ("waypost_store_bodies_read_total", "counter", counts.bodies_read),
        ("waypost_messages_damaged_total", "counter", core.spool.damaged()),
    ];
    for (name, kind, value) in gauges {
        out.push_str(&format!("# TYPE {name} {kind}\n{name} {value}\n"));
    }
    out
}

fn count(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
