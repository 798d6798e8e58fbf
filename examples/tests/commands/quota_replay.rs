//! Each limit's edge, told in the files of `quota/` and played with `waypost quota --replay` (D10 to D13).

use crate::support;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use support::waypost;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    requirements: Vec<String>,
    because: String,
    settings: String,
    #[serde(default)]
    limits: String,
    #[serde(default)]
    user_limits: Option<String>,
    step: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    at: f64,
    #[serde(default)]
    times: Option<u32>,
    #[serde(default)]
    every: f64,
    #[serde(default)]
    from: Option<String>,
    to: Vec<String>,
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    client: Option<String>,
    #[serde(default)]
    helo: Option<String>,
    #[serde(default)]
    accepted: Option<bool>,
    replies: Vec<String>,
    #[serde(default)]
    mail: Option<String>,
    #[serde(default)]
    held: Vec<String>,
    #[serde(default)]
    let_go: Vec<String>,
}

impl Step {
    /// `%N` stands for N different recipients.
    fn recipients(&self) -> (Vec<String>, Vec<String>) {
        match self.to.as_slice() {
            [many] if many.starts_with('%') => {
                let count: usize = many[1..].parse().unwrap();
                let to = (0..count).map(|n| format!("many{n}@elsewhere.example")).collect();
                (to, vec![self.replies[0].clone(); count])
            }
            to => (to.to_vec(), self.replies.clone()),
        }
    }
}

fn configuration(case: &Case) -> String {
    let Case { settings, limits, user_limits, .. } = case;
    let own = user_limits.as_ref().map(|own| format!("limits = {own}\n")).unwrap_or_default();
    format!(
        "[server]\nhostname = \"mx.solarmora.example\"\nspool = \"spool\"\n\
         [[listener]]\nname = \"relay\"\nrole = \"relay\"\nbind = \"127.0.0.1:2587\"\n\
         [[organization]]\nname = \"Solarmora\"\ndomains = [\"solarmora.example\"]\n{settings}\n\
         [[organization.user]]\naddress = \"marie@solarmora.example\"\n\
         aliases = [\"m.paul@solarmora.example\"]\n{own}\
         [[organization.user]]\naddress = \"paul@solarmora.example\"\n\
         [[organization.relay]]\ndescription = \"inside\"\nallowed_senders = \"any\"\n\
         addresses = [{{ range = \"192.0.2.0/24\" }}, {{ range = \"2001:db8::/112\" }}]\nrequire_tls = false\n\
         [organization.limits]\n{limits}\n"
    )
}

#[test]
fn each_limits_edge_d10_d11_d12_d13() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/quota");
    let mut seen = BTreeSet::new();
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    files.sort();
    for path in &files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let case: Case = toml::from_str(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        seen.extend(case.requirements.clone());
        let (mut input, mut wanted) = (String::new(), Vec::new());
        for (number, step) in case.step.iter().enumerate() {
            let (to, replies) = step.recipients();
            for time in 0..step.times.unwrap_or(1) {
                let question = json!({
                    "id": format!("step {number}, time {time}"),
                    "at": step.at + f64::from(time) * step.every,
                    "client_ip": step.client.as_deref().unwrap_or("192.0.2.1"),
                    "helo": step.helo.as_deref().unwrap_or("mail.solarmora.example"),
                    "auth": step.auth,
                    "tls": step.auth.is_some(),
                    "mail_from": step.from.as_deref().unwrap_or("marie@solarmora.example"),
                    "rcpt_to": to,
                    "accepted": step.accepted.unwrap_or(true),
                });
                input += &format!("{question}\n");
                wanted.push((question, step, replies.clone()));
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("waypost.toml");
        std::fs::write(&config, configuration(&case)).unwrap();
        let ran = waypost(&["quota", config.to_str().unwrap(), "--replay"], &input);
        assert_eq!(ran.status, 0, "{name}: {}", ran.stderr);
        let answers = ran.json_lines();
        assert_eq!(answers.len(), wanted.len(), "{name}");
        for (answer, (question, step, replies)) in answers.iter().zip(&wanted) {
            let texts = |key: &str| -> Vec<String> {
                let all = answer[key].as_array().cloned().unwrap_or_default();
                let text = |one: &Value| match one.as_str() {
                    Some(text) => text.to_owned(),
                    None => {
                        let recipient = one["recipient"].as_str().unwrap();
                        format!("{recipient} at {}", one["at"].as_f64().unwrap())
                    }
                };
                all.iter().map(text).collect()
            };
            let about = format!("{name} ({}), {}: {answer}", case.because, question["id"]);
            assert_eq!(answer["mail"], step.mail.as_deref().unwrap_or("250"), "{about}");
            assert_eq!(&texts("rcpt"), replies, "{about}");
            assert_eq!(texts("held"), step.held, "{about}");
            assert_eq!(texts("let_go"), step.let_go, "{about}");
        }
    }
    assert!(files.len() >= 15, "{} files", files.len());
    for requirement in ["D10", "D11", "D12", "D13"] {
        assert!(seen.contains(requirement), "no file proves {requirement}");
    }
}

/// The page for administrators shows what the program says.
#[test]
fn the_page_of_limits_shows_what_is_said() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/LIMITS.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let block = |kind: &str| -> String {
        let (_, rest) = page.split_once(&format!("```{kind}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("waypost.toml");
    std::fs::write(&config, block("toml")).unwrap();
    let config = config.to_str().unwrap();
    let ran = waypost(&["quota", config, "--replay"], &block("jsonl in"));
    let shown = format!("```jsonl out\n{}```", block("jsonl out"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let new = format!("```jsonl out\n{}```", ran.stdout);
        std::fs::write(&path, page.replace(&shown, &new)).unwrap();
        return;
    }
    assert_eq!(ran.stdout, block("jsonl out"), "write it anew with UPDATE_GOLDENS=1");
    let checked = waypost(&["check", config], "");
    assert_eq!(checked.status, 0, "{}", checked.stdout);
}

// The model: a list of what was counted, with the second when its bucket has left the window.

/// What may be done, drawn from a number.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }
}

/// One recipient that was counted.
struct Counted {
    at: u64,
    message: usize,
    user: Option<usize>,
    login: Option<usize>,
    client: usize,
    to: u64,
}

/// Recipients of one message that wait for room.
struct Waits {
    user: Option<usize>,
    login: Option<usize>,
    client: usize,
    to: Vec<u64>,
    look: u64,
}

#[derive(Default)]
struct Naive {
    log: Vec<Counted>,
    waits: Vec<Waits>,
    messages: usize,
}

struct Allowed {
    day: u64,
    ten_minutes: u64,
    messages: u64,
    unique: u64,
    login: Option<u64>,
    client: Option<u64>,
}

fn day_end(at: u64) -> u64 {
    (at / 300 + 1) * 300 + 86_400
}

fn ten_minutes_end(at: u64) -> u64 {
    (at / 2 + 1) * 2 + 600
}

impl Naive {
    /// The code of the first limit that one more recipient breaks, and when there is room; `mine` is what
    /// the message has taken already.
    fn refusal(
        &self,
        now: u64,
        allowed: &Allowed,
        (user, login, client): (Option<usize>, Option<usize>, usize),
        mine: &[u64],
        to: u64,
    ) -> Option<(&'static str, u64)> {
        let live = |end: fn(u64) -> u64| self.log.iter().filter(move |one| end(one.at) > now);
        let room = |mut ends: Vec<u64>, held: usize, most: u64, window: u64| -> Option<u64> {
            let taken = (ends.len() + held) as u64;
            (taken >= most).then(|| {
                ends.sort_unstable();
                let need = (taken + 1 - most) as usize;
                // What is under way may take the whole window from now.
                ends.get(need.wrapping_sub(1)).copied().unwrap_or(now + window)
            })
        };
        let ends = |of: &dyn Fn(&Counted) -> bool| -> Vec<u64> {
            live(day_end).filter(|one| of(one)).map(|one| day_end(one.at)).collect()
        };
        let mut mine_unique = mine.to_vec();
        mine_unique.sort_unstable();
        mine_unique.dedup();
        if let Some(user) = user {
            let of_user = |one: &&Counted| one.user == Some(user);
            if mine.is_empty() {
                let mut seen = std::collections::BTreeMap::new();
                for one in live(day_end).filter(of_user) {
                    seen.insert(one.message, day_end(one.at));
                }
                let ends = seen.into_values().collect();
                if let Some(at) = room(ends, 0, allowed.messages, 86_700) {
                    return Some(("550 5.4.5", at));
                }
            }
            // Each recipient leaves with the last message to it; one of this message is held.
            let mut last = std::collections::BTreeMap::new();
            for one in live(day_end).filter(of_user) {
                let end = last.entry(one.to).or_insert(0);
                *end = day_end(one.at).max(*end);
            }
            if !last.contains_key(&to) && !mine.contains(&to) {
                let ends = last.iter().filter(|(to, _)| !mine_unique.contains(to));
                let ends = ends.map(|(_, end)| *end).collect();
                if let Some(at) = room(ends, mine_unique.len(), allowed.unique, 86_700) {
                    return Some(("550 5.4.5", at));
                }
            }
        }
        if let Some(at) = room(ends(&|_| true), mine.len(), allowed.day, 86_700) {
            return Some(("550 5.7.1", at));
        }
        let short = live(ten_minutes_end).map(|one| ten_minutes_end(one.at)).collect();
        if let Some(at) = room(short, mine.len(), allowed.ten_minutes, 602) {
            return Some(("450 4.2.1", at));
        }
        if let (Some(login), Some(most)) = (login, allowed.login)
            && let Some(at) = room(ends(&|one| one.login == Some(login)), mine.len(), most, 86_700)
        {
            return Some(("550 5.7.1", at));
        }
        if let Some(most) = allowed.client
            && let Some(at) = room(ends(&|one| one.client == client), mine.len(), most, 86_700)
        {
            return Some(("550 5.7.1", at));
        }
        None
    }

    fn count(&mut self, at: u64, who: (Option<usize>, Option<usize>, usize), to: &[u64]) {
        let (user, login, client) = who;
        self.messages += 1;
        let message = self.messages;
        self.log.extend(to.iter().map(|to| Counted { at, message, user, login, client, to: *to }));
    }

    /// Lets go what has room by `now`: recipient and second.
    fn let_go(&mut self, now: u64, allowed: &Allowed) -> Vec<(u64, u64)> {
        let mut gone = Vec::new();
        loop {
            let due = self.waits.iter().enumerate().filter(|(_, one)| one.look <= now);
            let Some((at, place)) = due.map(|(place, one)| (one.look, place)).min() else {
                return gone;
            };
            let mut one = self.waits.remove(place);
            let who = (one.user, one.login, one.client);
            let (mut mine, mut next) = (Vec::new(), None);
            one.to.retain(|to| match self.refusal(at, allowed, who, &mine, *to) {
                None => {
                    mine.push(*to);
                    gone.push((*to, at));
                    false
                }
                Some((_, room)) => {
                    next = next.or(Some(room));
                    true
                }
            });
            if !mine.is_empty() {
                self.count(at, who, &mine);
            }
            if let Some(room) = next {
                self.waits.insert(place, Waits { look: room.max(at + 1), ..one });
            }
        }
    }
}

/// Whatever is sent when, by whom and from where: replies, what is held, and when it goes, are those of
/// a naive log of events.
#[test]
fn what_is_said_agrees_with_a_naive_log_d10_d11_d13() {
    let users = ["marie@solarmora.example", "paul@solarmora.example"];
    let over = [("reject", ""), ("defer", ""), ("hold", "")];
    let mut held_in_all = 0;
    for seed in 1..=45_u64 {
        let mut draw = Draw(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let over = over[(seed % 3) as usize].0;
        let mut pick = |most: u64| if draw.below(2) == 0 { 1_000 } else { 1 + draw.below(most) };
        let mut allowed = Allowed {
            day: pick(20),
            ten_minutes: pick(10),
            messages: pick(6),
            unique: pick(5),
            login: None,
            client: None,
        };
        allowed.login = (draw.below(2) == 0).then(|| 1 + draw.below(8));
        allowed.client = (draw.below(2) == 0).then(|| 1 + draw.below(8));
        let mut limits = format!(
            "recipients_per_day = {}\nrecipients_per_10_minutes = {}\nmessages_per_user_per_day = {}\n\
             unique_recipients_per_user_per_day = {}\n",
            allowed.day, allowed.ten_minutes, allowed.messages, allowed.unique
        );
        for (key, limit) in [("login", allowed.login), ("client", allowed.client)] {
            if let Some(limit) = limit {
                limits += &format!("recipients_per_{key}_per_day = {limit}\n");
            }
        }
        let case = Case {
            requirements: Vec::new(),
            because: String::new(),
            settings: format!("licences = 1\nover_limit = \"{over}\""),
            limits,
            user_limits: None,
            step: Vec::new(),
        };
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("waypost.toml");
        std::fs::write(&config, configuration(&case)).unwrap();

        let (mut naive, mut now, mut input, mut wanted) =
            (Naive::default(), 0, String::new(), vec![]);
        for line in 0..60 {
            now += match draw.below(4) {
                0 => 0,
                1 => draw.below(30),
                2 => draw.below(900),
                _ => draw.below(40_000),
            };
            let user = draw.below(3) as usize;
            let login = (draw.below(2) == 0).then(|| draw.below(2) as usize);
            let client = draw.below(2) as usize;
            let accepted = draw.below(5) > 0;
            let to: Vec<u64> = (0..draw.below(5)).map(|_| draw.below(8)).collect();
            let from = users.get(user).copied().unwrap_or("printer@solarmora.example");
            let shown = |to: &u64| format!("r{to}@elsewhere.example");
            let question = json!({
                "id": line, "at": now, "client_ip": format!("192.0.2.{client}"), "helo": "x",
                "auth": login.map(|login| users[login]), "tls": login.is_some(), "mail_from": from,
                "rcpt_to": to.iter().map(shown).collect::<Vec<_>>(), "accepted": accepted,
            });
            input += &format!("{question}\n");

            let gone = naive.let_go(now, &allowed);
            let who = ((user < 2).then_some(user), login, client);
            let (mut mine, mut held, mut look) = (Vec::new(), Vec::new(), None);
            let mut replies = Vec::new();
            for to in &to {
                let Some((code, room)) = naive.refusal(now, &allowed, who, &mine, *to) else {
                    mine.push(*to);
                    replies.push("250".to_owned());
                    continue;
                };
                let waiting: usize = naive.waits.iter().map(|one| one.to.len()).sum();
                let again = mine.contains(to) || held.contains(to);
                if over == "defer" {
                    replies.push(code.replacen("550 5", "450 4", 1));
                } else if over == "hold" && (again || ((waiting + held.len()) as u64) < allowed.day)
                {
                    if !again {
                        held.push(*to);
                        look = Some(room);
                    }
                    replies.push("250".to_owned());
                } else {
                    replies.push(code.to_owned());
                }
            }
            if !accepted {
                mine.clear();
                held.clear();
            }
            held_in_all += held.len();
            if !mine.is_empty() {
                naive.count(now, who, &mine);
            }
            let held_shown: Vec<_> = held.iter().map(shown).collect();
            if let Some(look) = look.filter(|_| !held.is_empty()) {
                let (user, login, client) = who;
                naive.waits.push(Waits { user, login, client, to: held, look });
            }
            let gone: Vec<_> = gone
                .iter()
                .map(|(to, at)| json!({ "recipient": shown(to), "at": *at as f64 }))
                .collect();
            wanted.push((json!(replies), json!(held_shown), json!(gone), question));
        }
        let ran = waypost(&["quota", config.to_str().unwrap(), "--replay"], &input);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let or_none = |value: &Value| if value.is_null() { json!([]) } else { value.clone() };
        for (answer, (replies, held, gone, question)) in ran.json_lines().iter().zip(&wanted) {
            let about = format!("seed {seed}, {}: {question}: {answer}", case.limits);
            assert_eq!(&answer["rcpt"], replies, "{about}");
            assert_eq!(&or_none(&answer["held"]), held, "{about}");
            assert_eq!(&or_none(&answer["let_go"]), gone, "{about}");
        }
    }
    assert!(held_in_all > 50, "{held_in_all} held");
}
