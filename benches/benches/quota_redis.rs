//! Transactions (reserve, then commit) a second on a ledger in Redis, beside `INCR` and `PING` of the same client, each
//! with 1, 8 and 64 under way, over loopback and over a socket (O5).
//!
//! `scripts/redis --bench` runs it; without `REDIS_SERVER` there is nothing to measure. `--seconds N` for each
//! figure (2).

use std::future::Future;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use waypost_redis::{Settings, SharedLedger};
use waypost_relay::{LimitMode, Limits, QuotaSubject};
use waypost_types::{Mailbox, Timestamp};

const LIMITS: Limits = Limits {
    recipients_per_day: u32::MAX,
    recipients_per_10_minutes: u32::MAX,
    messages_per_user_per_day: u32::MAX,
    unique_recipients_per_user_per_day: u32::MAX,
    recipients_per_login_per_day: None,
    recipients_per_client_per_day: None,
    mode: LimitMode::Enforce,
};
const ORGANIZATIONS: usize = 100;
const USERS: usize = 10_000;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let seconds = arguments.iter().skip_while(|argument| *argument != "--seconds").nth(1);
    let seconds = seconds.map_or(2.0, |text| text.parse().expect("a number of seconds"));
    let span = Duration::from_secs_f64(if is_test { 0.05 } else { seconds });
    let Some(program) = std::env::var_os("REDIS_SERVER") else {
        println!("skipped: REDIS_SERVER is not set; run scripts/redis --bench");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let (port, socket) = (port.expect("a port").port(), folder.path().join("redis.sock"));
    let server = Command::new(program)
        .args(["--save", "", "--appendonly", "no", "--port", &port.to_string(), "--unixsocket"])
        .arg(&socket)
        .stdout(Stdio::null())
        .spawn();
    let _server = Server(server.expect("the server"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    println!("| over | under way | PING/s | INCR/s | reserve alone/s | reserve + commit/s |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (over, address) in [
        ("loopback", format!("redis://127.0.0.1:{port}")),
        ("a socket", format!("redis+unix://{}", socket.display())),
    ] {
        runtime.block_on(measure(over, &address, span));
    }
}

async fn measure(over: &str, address: &str, span: Duration) {
    let settings = Settings::new(address, "bench", [1; 16]).expect("settings");
    let ledger = SharedLedger::start(settings, ());
    assert!(ledger.ready(Duration::from_secs(20)).await, "Redis is there");
    let client = redis::Client::open(address).expect("an address");
    let connection = client.get_multiplexed_async_connection().await.expect("a connection");
    for under_way in [1, 8, 64] {
        let ping = rate(under_way, span, |_| bare(connection.clone(), "PING", None)).await;
        let incr = rate(under_way, span, |_| bare(connection.clone(), "INCR", Some("bench"))).await;
        let reserve = rate(under_way, span, |number| transaction(&ledger, number, false)).await;
        ledger.flush(Duration::from_secs(20)).await;
        let whole = rate(under_way, span, |number| transaction(&ledger, number, true)).await;
        assert!(ledger.flush(Duration::from_secs(20)).await, "all is told");
        println!("| {over} | {under_way} | {ping:.0} | {incr:.0} | {reserve:.0} | {whole:.0} |");
    }
}

async fn bare(mut connection: MultiplexedConnection, command: &str, key: Option<&str>) {
    let mut command = redis::cmd(command);
    command.arg(key);
    let _: redis::Value = command.query_async(&mut connection).await.expect("an answer");
}

/// One message to one recipient.
async fn transaction(ledger: &SharedLedger, number: usize, commits: bool) {
    let user = number.wrapping_mul(7919) % USERS;
    let organization = format!("organization {}", user % ORGANIZATIONS);
    let address = format!("user{user}@solarmora.com");
    let user = Some(address.parse().expect("an address"));
    let mut message = ledger.begin(QuotaSubject::new(organization.into(), user, LIMITS));
    let to: Mailbox =
        format!("r{}@elsewhere.example", number % 50_000).parse().expect("an address");
    let verdicts = ledger.reserve(&mut message, &[to]).await.expect("Redis is there");
    assert!(verdicts.iter().all(Result::is_ok), "nothing is beyond a limit");
    if commits {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let wall = wall.unwrap_or_default().as_millis();
        let at = Timestamp::from_millis(u64::try_from(wall).unwrap_or_default());
        assert!(ledger.commit(at, message).is_some());
    }
}

/// How many a second, with so many under way at a time.
async fn rate<F: Future<Output = ()>>(
    under_way: usize,
    span: Duration,
    one: impl Fn(usize) -> F,
) -> f64 {
    let (begun, next, done) =
        (Instant::now(), std::cell::Cell::new(0), std::cell::Cell::new(0_u32));
    let lanes = (0..under_way).map(|_| async {
        while begun.elapsed() < span {
            next.set(next.get() + 1);
            one(next.get()).await;
            done.set(done.get() + 1);
        }
    });
    futures_util::future::join_all(lanes).await;
    f64::from(done.get()) / begun.elapsed().as_secs_f64()
}
