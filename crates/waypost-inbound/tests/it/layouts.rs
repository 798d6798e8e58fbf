//! What each server writes is read (E4): the rows of `layouts/table.rs`.

use std::net::IpAddr;

use waypost_inbound::Reading;

pub(crate) mod table;

use table::{BY, NOT_READ, READ, clients, filled};

#[test]
fn the_client_is_read_from_every_layout_e4() {
    let mut wrong = Vec::new();
    for row in READ {
        for client in clients(row) {
            let line = filled(row, client);
            let reading = Reading::of(line.as_bytes());
            if reading.ip() != Some(client.parse::<IpAddr>().unwrap()) {
                wrong.push(format!("{line}\n    -> {reading:?}"));
            }
        }
    }
    println!("{} layouts with a client", READ.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_is_read_where_nothing_is_said_e4() {
    let mut wrong = Vec::new();
    for (rows, by) in [(NOT_READ, false), (BY, true)] {
        for row in rows {
            let line = filled(row, "192.0.2.77");
            let reading = Reading::of(line.as_bytes());
            if reading.ip().is_some() || by != (reading == Reading::By) {
                wrong.push(format!("{line}\n    -> {reading:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
