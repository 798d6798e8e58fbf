//! A filter on a free port, which answers by a function of what it was told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use waypost_milter::server::Server;
use waypost_milter::{
    Actions, Command, FieldName, FieldValue, HeaderEdit, Modification, Response, Steps,
};

/// What a filter was told of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    /// The address of the client, or what stands for it.
    pub(crate) client: String,
    pub(crate) helo: String,
    /// In angle brackets.
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// Field names and values.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Macros: `auth_authen`, `tls_version`, `i`, `gateway_addr`.
    pub(crate) facts: Vec<(&'static str, String)>,
}

impl Asked {
    /// The value of a field, without blanks around it.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name));
        field.map(|field| field.1.trim())
    }

    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts.iter().find(|fact| fact.0 == name).map_or("", |fact| &fact.1)
    }
}

type Answer = dyn Fn(&Asked) -> Vec<Response> + Send + Sync;

/// A running filter.
pub(crate) struct FakeFilter {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeFilter {
    /// A filter that gives these answers at the end of each message; without any it never answers.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Vec<Response> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (all, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &all, &*answer));
            }
        });
        Self { address, asked }
    }

    /// As `[server] filter` has it.
    pub(crate) fn configured(&self) -> String {
        format!("milter:{}", self.address)
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, all: &Mutex<Vec<Asked>>, answer: &Answer) {
    let mut server = Server::new(Actions::ALL, Steps::default());
    let mut now = Asked::default();
    let (mut chunk, mut out) = ([0; 16 << 10], Vec::new());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    loop {
        let Ok(read @ 1..) = stream.read(&mut chunk) else { return };
        server.handle_bytes(&chunk[..read]);
        loop {
            let mut is_end = false;
            match server.next(&mut out).unwrap() {
                None => break,
                Some(Command::Quit) => return,
                Some(Command::Connect { peer, .. }) => {
                    now = Asked::default();
                    now.client = match peer {
                        waypost_milter::Peer::Ip(ip, _) => ip.to_string(),
                        other => format!("{other:?}"),
                    };
                }
                Some(Command::Helo(name)) => now.helo = text(name),
                Some(Command::Mail { path, .. }) => now.from = text(path),
                Some(Command::Rcpt { path, .. }) => now.to.push(text(path)),
                Some(Command::Header { name, value }) => {
                    now.fields.push((text(name), text(value)));
                }
                Some(Command::Body(piece)) => now.body.extend_from_slice(piece),
                Some(Command::EndOfMessage(piece)) => {
                    now.body.extend_from_slice(piece);
                    is_end = true;
                }
                Some(_) => {}
            }
            if is_end {
                for name in ["auth_authen", "tls_version", "cipher", "i", "gateway_addr", "j"] {
                    let value = server.fact(name).map(text).unwrap_or_default();
                    now.facts.push((name, value));
                }
                let answers = answer(&now);
                all.lock().unwrap().push(now.clone());
                if answers.is_empty() {
                    // Until the other side has enough of it.
                    while let Ok(1..) = stream.read(&mut chunk) {}
                    return;
                }
                for answer in answers {
                    server.answer(&answer, &mut out).unwrap();
                }
            } else if server.waiting().is_some() {
                server.answer(&Response::Continue, &mut out).unwrap();
            }
        }
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
    }
}

/// An added field.
pub(crate) fn add(name: &str, value: &str) -> Response {
    let (name, value) = (FieldName::new(name).unwrap(), FieldValue::new(value).unwrap());
    Response::Modify(Modification::Header(HeaderEdit::Add { name, value }))
}

/// A changed field.
pub(crate) fn change(name: &str, nth: u32, value: &str) -> Response {
    let (name, value) = (FieldName::new(name).unwrap(), FieldValue::new(value).unwrap());
    Response::Modify(Modification::Header(HeaderEdit::Change { name, nth, value }))
}

/// A field taken away.
pub(crate) fn delete(name: &str, nth: u32) -> Response {
    let name = FieldName::new(name).unwrap();
    Response::Modify(Modification::Header(HeaderEdit::Delete { name, nth }))
}
