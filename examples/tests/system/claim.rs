//! Claims: what must hold, now or when what goes on has come to its end.

use super::step::{Ask, ask};
use super::text::{Statement, Words, Wrong};

#[derive(Clone, Debug)]
pub(crate) enum Claim {
    Has(Has),
    Nothing {
        places: Vec<Place>,
        name: String,
        is_for_good: bool,
    },
    Duplicates {
        places: Vec<Place>,
        name: String,
        most: usize,
        each_kill: bool,
    },
    Replies {
        name: String,
        code: String,
    },
    Logs {
        server: String,
        texts: Vec<String>,
    },
    NeverLogs {
        server: String,
        texts: Vec<String>,
    },
    Metric {
        server: String,
        name: String,
        relation: Relation,
        value: usize,
    },
    Queue {
        server: String,
        count: usize,
    },
    /// No message of a name that holds one text, or lacks it, came there.
    None {
        places: Vec<Place>,
        name: String,
        holding: Vec<String>,
        lacking: Vec<String>,
    },
    /// No session of this mail ended before its client did.
    Unbroken(String),
    Says(Ask),
    Connections {
        sink: String,
        most: usize,
    },
    /// Recipients of all that came.
    Count {
        places: Vec<Place>,
        relation: Relation,
        count: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Is,
    AtLeast,
    AtMost,
}

/// Where messages arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Sink(String),
    /// Address and server.
    Mailbox(String, String),
}

/// What of a message is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Message,
    Bounce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Often {
    Once,
    AtLeastOnce,
}

/// Each acknowledged message of a name came to one of some places.
#[derive(Clone, Debug)]
pub(crate) struct Has {
    pub(crate) places: Vec<Place>,
    pub(crate) what: What,
    pub(crate) name: String,
    pub(crate) often: Often,
    /// Instead of the recipients it was sent to.
    pub(crate) to: Option<Vec<String>>,
    pub(crate) from: Option<String>,
    pub(crate) is_tls: bool,
    /// The octets as sent are not its end.
    pub(crate) is_changed: bool,
    pub(crate) holding: Vec<String>,
    pub(crate) lacking: Vec<String>,
}

impl Claim {
    /// Reads a `then`.
    pub(crate) fn read(statement: &Statement) -> Result<Self, Wrong> {
        let mut words = Words::of(statement);
        let claim = claim(&mut words)?;
        words.end(false)?;
        Ok(claim)
    }
}

fn claim(words: &mut Words<'_>) -> Result<Claim, Wrong> {
    if words.take("replies of") {
        let name = words.word("a name of mail")?;
        words.expect("are")?;
        return Ok(Claim::Replies { name, code: words.word("a reply")? });
    }
    if words.take("sessions of") {
        let name = words.word("a name of mail")?;
        words.expect("never broke")?;
        return Ok(Claim::Unbroken(name));
    }
    if words.take("queue of") {
        let server = words.word("a server")?;
        if words.take("has") {
            let count = words.number("a count")?;
            words.expect("messages")?;
            return Ok(Claim::Queue { server, count });
        }
        words.expect("is empty")?;
        return Ok(Claim::Queue { server, count: 0 });
    }
    if words.take("metric") {
        let name = words.word("a metric")?;
        words.expect("of")?;
        let server = words.word("a server")?;
        words.expect("is")?;
        let relation = match (words.take("at least"), words.take("at most")) {
            (true, _) => Relation::AtLeast,
            (_, true) => Relation::AtMost,
            _ => Relation::Is,
        };
        let value = words.number("a value")?;
        return Ok(Claim::Metric { server, name, relation, value });
    }
    if words.take("waypost") {
        return Ok(Claim::Says(ask(words)?));
    }
    if words.take("log of") {
        let server = words.word("a server")?;
        let has = words.take("has");
        if !has {
            words.expect("lacks")?;
        }
        let mut texts = Vec::new();
        while let Some(text) = words.quoted() {
            texts.push(text);
        }
        return Ok(if has {
            Claim::Logs { server, texts }
        } else {
            Claim::NeverLogs { server, texts }
        });
    }
    let mut places = vec![place(words)?];
    while words.take("or") {
        places.push(place(words)?);
    }
    words.expect("has")?;
    if words.take("no") {
        let name = words.word("a name of mail")?;
        let (mut holding, mut lacking) = (Vec::new(), Vec::new());
        let texts = match words.take("holding") {
            true => &mut holding,
            false => words.expect("lacking").map(|()| &mut lacking)?,
        };
        texts.push(words.word("a text")?);
        return Ok(Claim::None { places, name, holding, lacking });
    }
    if words.take("nothing of") {
        let name = words.word("a name of mail")?;
        let is_for_good = !words.take("yet");
        return Ok(Claim::Nothing { places, name, is_for_good });
    }
    if words.take("at most") {
        let most = words.number("a number")?;
        if words.take("duplicates of") {
            let name = words.word("a name of mail")?;
            let each_kill = words.take("for each kill");
            return Ok(Claim::Duplicates { places, name, most, each_kill });
        }
        if words.take("recipients") {
            return Ok(Claim::Count { places, relation: Relation::AtMost, count: most });
        }
        words.expect("connections")?;
        return match places.as_slice() {
            [Place::Sink(sink)] => Ok(Claim::Connections { sink: sink.clone(), most }),
            _ => Err(words.wrong("connections are those of one sink", "name one")),
        };
    }
    if words.take("at least") {
        let count = words.number("a number")?;
        words.expect("recipients")?;
        return Ok(Claim::Count { places, relation: Relation::AtLeast, count });
    }
    has(words, places).map(Claim::Has)
}

fn place(words: &mut Words<'_>) -> Result<Place, Wrong> {
    if words.take("mailbox") {
        let address = words.word("an address")?;
        words.expect("on")?;
        return Ok(Place::Mailbox(address, words.word("a server")?));
    }
    Ok(Place::Sink(words.word("a sink")?))
}

fn has(words: &mut Words<'_>, places: Vec<Place>) -> Result<Has, Wrong> {
    let what = if words.take("bounce of") { What::Bounce } else { What::Message };
    let name = words.word("a name of mail")?;
    let often = match words.take("at least once") {
        true => Often::AtLeastOnce,
        false => words.expect("once").map(|()| Often::Once)?,
    };
    let (mut to, mut from, mut is_tls, mut is_changed) = (None, None, false, what == What::Bounce);
    let (mut holding, mut lacking) = (Vec::new(), Vec::new());
    loop {
        if words.take("to") {
            to = Some(words.list("an address")?);
        } else if words.take("from") {
            from = Some(words.word("an address")?);
        } else if words.take("over tls") {
            is_tls = true;
        } else if words.take("changed") {
            is_changed = true;
        } else if words.take("holding") || words.take("and holding") {
            while let Some(text) = words.quoted() {
                holding.push(text);
            }
        } else if words.take("lacking") {
            while let Some(text) = words.quoted() {
                lacking.push(text);
            }
        } else {
            let from = from.map(|from| if from == "<>" { String::new() } else { from });
            return Ok(Has {
                places,
                what,
                name,
                often,
                to,
                from,
                is_tls,
                is_changed,
                holding,
                lacking,
            });
        }
    }
}
