//! Batches in the database.

use millrace_api::openai::{
    batches::{BatchRecord, End, unrun_line},
    files::FileRecord,
    paging::ListQuery,
};
use redb::{Error, ReadableTable, ReadableTableMetadata};
use serde_json::Value;

use super::{
    db::{Db, MAX_RECORDS, PAGE, Page, Room},
    tables::{BATCHES, LINES, Tables, all_of, find, open_batches},
};

/// Most batches that have not ended.
const MAX_OPEN: usize = 100;

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ordered {
    Done,
    /// So many have not ended that no more are taken.
    TooMany,
}

/// Requests of a batch that have no result.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// By their numbers.
    pub(crate) lines: Vec<(u32, Vec<u8>)>,
    /// Where to look for more; `None` behind the end of the input.
    pub(crate) next: Option<u32>,
}

/// Why a request was never run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unrun {
    /// In one word.
    pub(crate) code: &'static str,
    /// In one sentence.
    pub(crate) message: &'static str,
}

impl Db {
    pub(super) fn order(&mut self, batch: &BatchRecord) -> Result<Ordered, Error> {
        self.write(|tables| {
            if tables.batches.len()? >= MAX_RECORDS || tables.open_batches()?.len() >= MAX_OPEN {
                return Ok(Ordered::TooMany);
            }
            tables.put_batch(batch)?;
            Ok(Ordered::Done)
        })
    }

    pub(super) fn batch(&self, id: &str) -> Result<Option<BatchRecord>, Error> {
        find(&self.read()?.open_table(BATCHES)?, id)
    }

    pub(super) fn batches(&self, owner: &str, query: &ListQuery) -> Result<Page<BatchRecord>, Error> {
        self.page(BATCHES, query, |batch: &BatchRecord| batch.owner == owner)
    }

    pub(super) fn open_batches(&self) -> Result<Vec<String>, Error> {
        let open = open_batches(&self.read()?.open_table(BATCHES)?)?;
        Ok(open.into_iter().map(|batch| batch.id).collect())
    }

    pub(super) fn change(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut BatchRecord),
    ) -> Result<Option<BatchRecord>, Error> {
        self.write(|tables| {
            let Some(mut batch) = find::<BatchRecord>(&tables.batches, id)? else { return Ok(None) };
            change(&mut batch);
            tables.put_batch(&batch)?;
            Ok(Some(batch))
        })
    }

    pub(super) fn pending(&self, batch: &str, from: u32) -> Result<Pending, Error> {
        let transaction = self.read()?;
        let Some(batch) = find::<BatchRecord>(&transaction.open_table(BATCHES)?, batch)? else {
            return Ok(Pending::default());
        };
        pending(&transaction.open_table(LINES)?, &batch, from)
    }

    /// Keeps a result; one that is there already stays as it is.
    pub(super) fn record(
        &mut self,
        batch: &str,
        number: u32,
        succeeded: bool,
        line: &[u8],
    ) -> Result<Room, Error> {
        let max_bytes = self.max_bytes;
        self.write(|tables| {
            let Some(mut batch) = find::<BatchRecord>(&tables.batches, batch)? else {
                return Ok(Room::Enough);
            };
            if batch.is_final() || has_result(&tables.lines, &batch, number)? {
                return Ok(Room::Enough);
            }
            let kept = put_result(tables, &mut batch, number, succeeded, line, max_bytes)?;
            tables.put_batch(&batch)?;
            Ok(if kept { Room::Enough } else { Room::Full })
        })
    }

    /// Ends a batch, and makes its files of results known.
    pub(super) fn end(
        &mut self,
        batch: &str,
        end: End,
        unrun: Option<Unrun>,
        now: u64,
        ttl: u64,
    ) -> Result<(), Error> {
        let max_bytes = self.max_bytes;
        self.write(|tables| {
            let Some(mut batch) = find::<BatchRecord>(&tables.batches, batch)? else { return Ok(()) };
            if batch.is_final() {
                return Ok(());
            }
            if let Some(unrun) = unrun {
                give_up(tables, &mut batch, unrun, max_bytes)?;
            }
            let input = find::<FileRecord>(&tables.files, &batch.input_file_id)?;
            let lines = input.map_or(0, |input| input.lines);
            for file in batch.end(end, now, ttl, lines) {
                tables.put_file(&file)?;
            }
            tables.put_batch(&batch)
        })
    }
}

/// Writes why they were not run for all requests that have no result, as long as there is room.
fn give_up(
    tables: &mut Tables<'_>,
    batch: &mut BatchRecord,
    unrun: Unrun,
    max_bytes: u64,
) -> Result<(), Error> {
    let mut from = Some(0);
    while let Some(first) = from {
        let Pending { lines, next } = pending(&tables.lines, batch, first)?;
        for (number, line) in lines {
            let request: Value = serde_json::from_slice(&line).unwrap_or_default();
            let custom_id = request["custom_id"].as_str().unwrap_or_default();
            let line = unrun_line(&request_id(&batch.id, number), custom_id, unrun.code, unrun.message);
            if !put_result(tables, batch, number, false, &line, max_bytes)? {
                return Ok(());
            }
        }
        from = next;
    }
    Ok(())
}

fn put_result(
    tables: &mut Tables<'_>,
    batch: &mut BatchRecord,
    number: u32,
    succeeded: bool,
    line: &[u8],
    max_bytes: u64,
) -> Result<bool, Error> {
    let file = if succeeded { &batch.output_file_id } else { &batch.error_file_id };
    let kept = tables.put_line(file, number, line, max_bytes)?;
    if kept {
        batch.count(succeeded, line.len() as u64);
    }
    Ok(kept)
}

fn pending(
    table: &impl ReadableTable<(&'static str, u32), &'static [u8]>,
    batch: &BatchRecord,
    from: u32,
) -> Result<Pending, Error> {
    let input = batch.input_file_id.as_str();
    let (mut found, mut bytes) = (Pending::default(), 0);
    for entry in table.range((input, from)..=*all_of(input).end())? {
        let (key, line) = entry?;
        let number = key.value().1;
        if bytes >= PAGE.0 || found.lines.len() == PAGE.1 {
            found.next = Some(number);
            break;
        }
        if !line.value().trim_ascii().is_empty() && !has_result(table, batch, number)? {
            bytes += line.value().len();
            found.lines.push((number, line.value().to_vec()));
        }
    }
    Ok(found)
}

fn has_result(
    lines: &impl ReadableTable<(&'static str, u32), &'static [u8]>,
    batch: &BatchRecord,
    number: u32,
) -> Result<bool, Error> {
    let kept = |file: &str| lines.get((file, number)).map(|line| line.is_some());
    Ok(kept(&batch.output_file_id)? || kept(&batch.error_file_id)?)
}

/// The name of a request of a batch.
pub(crate) fn request_id(batch: &str, number: u32) -> String {
    format!("batch_req_{}_{number}", batch.trim_start_matches("batch_"))
}
