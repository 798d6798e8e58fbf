//! Tables: one look-up, one answer.

use std::sync::Arc;

use waypost_config::postfix::{Looked, Table, Tables};
use waypost_postfix::{
    NetstringReader, RequestError, SocketmapReply, SocketmapRequest, TableReader, TableReply,
};

use super::connection::Conversation;
use super::requests;
use crate::core::Core;

/// Octets of a look-up; the longest address has 320.
const MOST: usize = 4096;

fn look_up(core: &Core, front: &'static str, table: Table, key: &str) -> Looked {
    let policy = core.policy();
    let looked = Tables::new(&policy, core.draw_key).look_up(table, key);
    let answer = match &looked {
        Looked::Found(_) => "found",
        Looked::NotFound => "not-found",
        Looked::Unavailable(because) => {
            tracing::warn!(table = table.as_str(), key, because, "a table cannot answer");
            "later"
        }
    };
    requests::count(&core.metrics.front, front, answer);
    tracing::debug!(front, table = table.as_str(), key, ?looked, "looked up");
    looked
}

/// All tables, by name.
pub(super) struct Socketmap {
    core: Arc<Core>,
    reader: NetstringReader,
}

impl Socketmap {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, reader: NetstringReader::new(MOST) }
    }
}

impl Conversation for Socketmap {
    fn feed(&mut self, octets: &[u8]) {
        self.reader.feed(octets);
    }

    fn octets(&self) -> usize {
        self.reader.octets()
    }

    async fn answer(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let Some(inside) = self.reader.next_octets()? else { return Ok(None) };
        let SocketmapRequest { name, key } = SocketmapRequest::decode(&inside)?;
        let reply = match name.parse::<Table>() {
            Ok(table) => match look_up(&self.core, "socketmap", table, &key) {
                Looked::Found(value) => SocketmapReply::Ok(value.into()),
                Looked::NotFound => SocketmapReply::NotFound,
                Looked::Unavailable(because) => SocketmapReply::Temp(because.into()),
            },
            Err(error) => {
                requests::count(&self.core.metrics.front, "socketmap", "wrong");
                tracing::warn!(%error, "a socketmap is asked for in main.cf that there is not");
                SocketmapReply::Perm(error.to_string().into())
            }
        };
        Ok(Some(reply.encode()))
    }
}

/// One table.
pub(super) struct TcpTable {
    core: Arc<Core>,
    table: Table,
    reader: TableReader,
}

impl TcpTable {
    pub(super) fn new(core: Arc<Core>, table: Table) -> Self {
        Self { core, table, reader: TableReader::default() }
    }
}

impl Conversation for TcpTable {
    fn feed(&mut self, octets: &[u8]) {
        self.reader.feed(octets);
    }

    fn octets(&self) -> usize {
        self.reader.octets()
    }

    async fn answer(&mut self) -> Result<Option<Vec<u8>>, RequestError> {
        let Some(request) = self.reader.next_request()? else { return Ok(None) };
        let reply = match look_up(&self.core, "tcp-table", self.table, &request.key) {
            Looked::Found(value) => TableReply::Found(value.into()),
            Looked::NotFound => TableReply::NotFound,
            Looked::Unavailable(because) => TableReply::Failed(because.into()),
        };
        Ok(Some(reply.encode()))
    }
}
