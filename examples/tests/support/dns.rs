//! A name server on loopback that speaks real DNS, over UDP and TCP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{MX, PTR, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record};

use super::sink::once_free;

/// A record: owner without its last dot, type, value; that of MX may have a preference before the name. The
/// type `SERVFAIL` makes each question about the owner fail, `SILENT` leaves it unanswered, `NODATA` only says that
/// the owner is there.
pub(crate) type Entry = (String, &'static str, String);

/// The most octets of an answer over UDP; a longer one is cut, and asked for over TCP.
const LONGEST: usize = 1232;

/// A running name server; dropped, it ends.
pub(crate) struct Dns {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
}

/// What a name server knows.
struct Answers {
    zone: Vec<Entry>,
    /// Seconds.
    ttl: u32,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    /// Serves a zone on a free port.
    pub(crate) fn start(zone: Vec<Entry>) -> Self {
        // Its number may be taken for TCP.
        for _ in 0..100 {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
                return Self::on(socket, listener, zone, 300);
            }
        }
        panic!("no port is free for both UDP and TCP");
    }

    /// Serves a zone at an address, to be kept for so many seconds. One that served there before may let go
    /// of it a moment later.
    pub(crate) fn at(address: SocketAddr, zone: Vec<Entry>, ttl: u32) -> Self {
        let socket = once_free(|| UdpSocket::bind(address)).unwrap();
        let listener = once_free(|| TcpListener::bind(address)).unwrap();
        Self::on(socket, listener, zone, ttl)
    }

    fn on(socket: UdpSocket, listener: TcpListener, zone: Vec<Entry>, ttl: u32) -> Self {
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Answers { zone, ttl, asked: Arc::clone(&asked) });
        let (over_tcp, ends) = (Arc::clone(&answers), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let answers = Arc::clone(&over_tcp);
                std::thread::spawn(move || drop(answers.talk(stream.unwrap())));
            }
        });
        let ends = Arc::clone(&stopped);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let Some(mut answer) = answers.to(&buffer[..length]) else { continue };
                let mut octets = answer.to_vec().unwrap();
                if octets.len() > LONGEST {
                    answer.answers.clear();
                    answer.metadata.truncation = true;
                    octets = answer.to_vec().unwrap();
                }
                // Who asked may be gone.
                let _ = socket.send_to(&octets, from);
            }
        });
        Self { address, asked, stopped }
    }

    /// The questions so far: name with its last dot, type.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _ = socket.send_to(b"", self.address);
        }
        drop(TcpStream::connect(self.address));
    }
}

impl Answers {
    /// The answer to a question, unless there is to be none.
    fn to(&self, octets: &[u8]) -> Option<Message> {
        let question = Message::from_vec(octets).ok()?;
        let query = question.queries.first()?;
        self.asked.lock().unwrap().push(format!("{} {}", query.name(), query.query_type()));
        answer(&question, &self.zone, self.ttl)
    }

    /// Questions over TCP, each behind its length.
    fn talk(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut octets = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut octets)?;
            let Some(answer) = self.to(&octets) else { continue };
            let octets = answer.to_vec().unwrap();
            let length = u16::try_from(octets.len()).unwrap();
            stream.write_all(&[&length.to_be_bytes()[..], &octets].concat())?;
        }
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn answer(question: &Message, zone: &[Entry], ttl: u32) -> Option<Message> {
    let query = question.queries.first()?;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let asked = query.name().to_lowercase();
    let here: Vec<&Entry> =
        zone.iter().filter(|(owner, ..)| name(&format!("{owner}.")) == asked).collect();
    if here.iter().any(|(_, kind, _)| *kind == "SILENT") {
        return None;
    }
    if here.iter().any(|(_, kind, _)| *kind == "SERVFAIL") {
        answer.metadata.response_code = ResponseCode::ServFail;
        return Some(answer);
    }
    let wanted = query.query_type().to_string();
    for (_, kind, value) in &here {
        if *kind == wanted {
            answer.add_answer(Record::from_rdata(asked.clone(), ttl, data(kind, value)));
        }
    }
    if answer.answers.is_empty() {
        if here.is_empty() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let (ns, admin, kept) = (name("ns.example."), name("admin.example."), ttl.min(60));
        let soa = SOA::new(ns, admin, 1, 60, 60, 60, kept);
        answer.add_authority(Record::from_rdata(name("example."), kept, RData::SOA(soa)));
    }
    Some(answer)
}

fn data(kind: &str, value: &str) -> RData {
    match kind {
        "MX" => {
            let (preference, exchange) = value.split_once(' ').unwrap_or(("10", value));
            RData::MX(MX::new(preference.parse().unwrap(), name(exchange)))
        }
        "A" => RData::A(value.parse().unwrap()),
        "AAAA" => RData::AAAA(value.parse().unwrap()),
        "PTR" => RData::PTR(PTR(name(value))),
        _ => {
            let pieces = value.as_bytes().chunks(200);
            RData::TXT(TXT::new(
                pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect(),
            ))
        }
    }
}
