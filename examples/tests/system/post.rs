//! Clients that send, and what became of each message.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;

use super::step::Mail;
use super::support::smtp_client::SmtpClient;

/// How long a client of a load waits for a server that is gone before it tries again.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a client tries to send a message.
const PATIENCE: Duration = Duration::from_secs(60);

/// The messages of one name.
pub(crate) struct Sent {
    pub(crate) mail: Mail,
    next: AtomicUsize,
    acknowledged: Mutex<BTreeMap<usize, String>>,
    replies: Mutex<Vec<(usize, String)>>,
    /// Sessions that ended before their client did.
    broken: Mutex<Vec<String>>,
}

/// Where to, and whom to trust.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) root: CertificateDer<'static>,
}

/// What stands in each message of a name, with its number.
pub(crate) fn mark(name: &str, number: usize) -> String {
    format!("X-Scenario: {name}-{number};")
}

/// The name and the number in a text with a mark.
pub(crate) fn marked(text: &str) -> Option<(&str, usize)> {
    let behind = text.split("X-Scenario: ").nth(1)?.split(';').next()?;
    let (name, number) = behind.rsplit_once('-')?;
    Some((name, number.parse().ok()?))
}

impl Sent {
    pub(crate) fn new(mail: Mail) -> Self {
        Self {
            mail,
            next: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
            replies: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// A message as it is sent.
    pub(crate) fn text(&self, number: usize) -> Vec<u8> {
        let mail = &self.mail;
        let mark = mark(&mail.name, number);
        let rest = match &mail.text {
            Some(text) => text.replace('\n', "\r\n"),
            None => {
                let lines = format!("{}\r\n", "x".repeat(76)).repeat(mail.size * 1024 / 78);
                let head = format!("From: <{}>\r\nSubject: {}\r\n", mail.from, mail.name);
                format!("{head}\r\n.\r\n..a line that begins with dots\r\n{lines} \r\n")
            }
        };
        format!("{mark}\r\n{rest}").into_bytes()
    }

    /// Numbers and queue ids of what got its 250.
    pub(crate) fn acknowledged(&self) -> BTreeMap<usize, String> {
        self.acknowledged.lock().unwrap().clone()
    }

    pub(crate) fn replies(&self) -> Vec<(usize, String)> {
        self.replies.lock().unwrap().clone()
    }

    pub(crate) fn broken(&self) -> Vec<String> {
        self.broken.lock().unwrap().clone()
    }

    /// Sends `count` messages over some sessions at a time.
    pub(crate) fn send(self: &Arc<Self>, target: &Target) -> Result<(), String> {
        let left = Arc::new(AtomicUsize::new(self.mail.count));
        let threads: Vec<JoinHandle<Result<(), String>>> = (0..self.mail.sessions)
            .map(|_| {
                let (this, left, target) = (Arc::clone(self), Arc::clone(&left), target.clone());
                std::thread::spawn(move || this.send_some(&left, &target))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    }

    fn send_some(&self, left: &AtomicUsize, target: &Target) -> Result<(), String> {
        let gone = |error: io::Error| format!("a session of {} broke: {error}", self.mail.name);
        let one_less = |left: usize| left.checked_sub(1);
        let ordering = Ordering::SeqCst;
        if left.load(ordering) == 0 {
            return Ok(());
        }
        let mut client = self.client(target).map_err(gone)?;
        while left.fetch_update(ordering, ordering, one_less).is_ok() {
            let mut reply = self.one(&mut client).map_err(gone)?;
            let until = Instant::now() + PATIENCE;
            let goes_on = |reply: &str| {
                self.mail.until.as_ref().is_some_and(|want| !reply.starts_with(want.as_str()))
            };
            while goes_on(&reply) && Instant::now() < until {
                // In a new session, since none may have too many refusals.
                std::thread::sleep(2 * PAUSE);
                client = self.client(target).map_err(gone)?;
                reply = self.one(&mut client).map_err(gone)?;
            }
            if let Some(want) = &self.mail.expecting
                && !reply.starts_with(want.as_str())
            {
                return Err(format!("{} got {reply}, not {want}", self.mail.name));
            }
        }
        Ok(())
    }

    /// Sends over some sessions until it is told to stop; who is hung up on comes again.
    pub(crate) fn load(self: &Arc<Self>, target: &Target) -> Load {
        let stops = Arc::new(AtomicBool::new(false));
        let threads = (0..self.mail.sessions).map(|_| {
            let (this, stops, target) = (Arc::clone(self), Arc::clone(&stops), target.clone());
            std::thread::spawn(move || this.send_until(&stops, &target))
        });
        Load { threads: threads.collect(), stops }
    }

    fn send_until(&self, stops: &AtomicBool, target: &Target) {
        while !stops.load(Ordering::SeqCst) {
            let ended = self.client(target).and_then(|mut client| {
                while !stops.load(Ordering::SeqCst) {
                    self.one(&mut client)?;
                }
                Ok(())
            });
            if let Err(error) = ended {
                self.broken.lock().unwrap().push(error.to_string());
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn client(&self, target: &Target) -> io::Result<SmtpClient> {
        let mut client = SmtpClient::try_hello(target.address, "client.elsewhere.example")?;
        if self.mail.is_tls {
            client = client.start_tls_with_host(&target.root, &target.host);
        }
        if let Some((user, password)) = &self.mail.login {
            let reply = client.auth_plain(user, password);
            if !reply.starts_with("235") {
                return Err(io::Error::other(reply));
            }
        }
        Ok(client)
    }

    fn one(&self, client: &mut SmtpClient) -> io::Result<String> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let mail = &self.mail;
        let reply = client.transaction(&mail.from, &mail.to, &self.text(number))?;
        if let Some(id) = reply.strip_prefix("250 2.0.0 Accepted as ") {
            self.acknowledged.lock().unwrap().insert(number, id.to_owned());
        }
        self.replies.lock().unwrap().push((number, reply.clone()));
        Ok(reply)
    }
}

/// Clients that send until they are told to stop.
pub(crate) struct Load {
    threads: Vec<JoinHandle<()>>,
    stops: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn stop(mut self) {
        self.stops.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
    }
}
