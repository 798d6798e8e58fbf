//! A connection to Redis: over TCP, TLS or a socket of this machine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, ConnectionAddr, Pipeline, RedisError, RedisFuture, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;

use crate::complaint;
use crate::settings::Settings;
use crate::tls::Tls;

/// One connection, over which many may ask at once. Its errors say what to do and hold no password.
#[derive(Clone)]
pub(crate) struct Connection {
    asks: MultiplexedConnection,
    /// User and password, as far as there are.
    secrets: Arc<[String]>,
    /// With its last copy, the connection ends, also one to a server that hangs.
    _carrier: Arc<Carrier>,
}

/// The task that reads and writes.
struct Carrier(AbortHandle);

impl Drop for Carrier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects, and shows who this is, all within [`Settings::timeout`].
    pub(crate) async fn open(settings: &Settings) -> Result<Self, RedisError> {
        let opened = tokio::time::timeout(settings.timeout, Self::open_at_leisure(settings)).await;
        opened
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
            .map_err(|error| complaint::plain(&error, &settings.secrets()))
    }

    async fn open_at_leisure(settings: &Settings) -> Result<Self, RedisError> {
        match (settings.place(), settings.tls()) {
            (ConnectionAddr::Unix(path), _) => {
                Self::over(UnixStream::connect(path).await?, settings).await
            }
            (ConnectionAddr::Tcp(host, port), None) => {
                Self::over(tcp(host, *port).await?, settings).await
            }
            (ConnectionAddr::Tcp(host, port), Some(tls)) => {
                let stream = secured(tls, tcp(host, *port).await?, settings.timeout).await?;
                Self::over(stream, settings).await
            }
            _ => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }

    async fn over<S>(stream: S, settings: &Settings) -> Result<Self, RedisError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(settings.timeout));
        let (asks, carrier) =
            MultiplexedConnection::new_with_config(settings.credentials(), stream, config).await?;
        let carrier = Carrier(tokio::spawn(carrier).abort_handle());
        Ok(Self { asks, secrets: settings.secrets().into(), _carrier: Arc::new(carrier) })
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let answer = self.asks.send_packed_command(command).await.and_then(no_error);
            answer.map_err(|error| complaint::plain(&error, &self.secrets))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let answers = self.asks.send_packed_commands(commands, offset, count).await;
            let answers = answers.and_then(|all| all.into_iter().map(no_error).collect());
            answers.map_err(|error| complaint::plain(&error, &self.secrets))
        })
    }

    fn get_db(&self) -> i64 {
        self.asks.get_db()
    }
}

fn no_error(answer: Value) -> Result<Value, RedisError> {
    match answer {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

/// To the first address of a host that answers; all are tried at once.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut tries = JoinSet::new();
    for address in tokio::net::lookup_host((host, port)).await? {
        tries.spawn(TcpStream::connect(address));
    }
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "its host has no address");
    while let Some(tried) = tries.join_next().await {
        match tried.map_err(io::Error::other).flatten() {
            Ok(stream) => {
                // What is asked is small, and others wait for nothing.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn secured(
    tls: &Arc<Tls>,
    stream: TcpStream,
    within: Duration,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let reads = Arc::clone(tls);
    let config = tokio::task::spawn_blocking(move || reads.config()).await?;
    let connector = TlsConnector::from(config.map_err(io::Error::other)?);
    // A little less than all that there is, so that it is known where it hung.
    let secured = tokio::time::timeout(within.mul_f64(0.9), connector.connect(tls.host(), stream));
    let secured = secured.await.map_err(|_| {
        io::Error::other(
            "it did not answer in time in the TLS handshake; does this port speak TLS?",
        )
    })?;
    secured.map_err(|error| io::Error::other(tls.in_words(&error)))
}
