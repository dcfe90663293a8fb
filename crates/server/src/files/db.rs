//! Files in the database.

use std::{ops::Bound, path::Path};

use millrace_api::openai::{batches::BatchRecord, files::FileRecord, paging::ListQuery};
use redb::{
    Database, Error, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use serde::de::DeserializeOwned;

use super::tables::{FILES, LINES, Tables, all_of, decode, find};
use crate::store::open;

/// Most files, and most batches, of a store.
pub(super) const MAX_RECORDS: u64 = 10_000;

/// Bytes after which a page of lines ends, and their greatest number.
pub(super) const PAGE: (usize, usize) = (1 << 20, 1024);

/// Whether something could be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Enough,
    /// Nothing was kept.
    Full,
}

/// What became of a file that was to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deletion {
    Done,
    Unknown,
    /// This batch still reads it.
    InUse(String),
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    /// Whether there are others behind them.
    pub(crate) has_more: bool,
}

/// An open database.
pub(super) struct Db {
    database: Database,
    pub(super) max_bytes: u64,
    /// What the store holds, if that has changed: records and bytes.
    news: Option<(u64, u64)>,
}

impl Db {
    /// Opens the file, or a new database in memory. Lines that belong to nothing are forgotten: what was being uploaded
    /// when the process ended.
    pub(super) fn open(path: Option<&Path>, max_bytes: u64) -> Result<Self, Error> {
        let make = |database| Self { database, max_bytes, news: None };
        open(path, "file store", make, |db| db.write(drop_orphans))
    }

    /// Does all of it or nothing.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let transaction = self.database.begin_write()?;
        let (result, news) = {
            let mut tables = Tables::open(&transaction)?;
            let result = work(&mut tables)?;
            (result, (tables.files.len()? + tables.batches.len()?, tables.bytes()?))
        };
        transaction.commit()?;
        self.news = Some(news);
        Ok(result)
    }

    pub(super) fn read(&self) -> Result<ReadTransaction, Error> {
        Ok(self.database.begin_read()?)
    }

    /// Records and bytes, if they have changed since the last call.
    pub(super) fn take_news(&mut self) -> Option<(u64, u64)> {
        self.news.take()
    }

    /// Forgets files that have expired and batches that ended `ttl` seconds ago.
    pub(super) fn tidy(&mut self, now: u64, ttl: u64) -> Result<(), Error> {
        self.write(|tables| {
            let open = tables.open_batches()?;
            let is_read = |id: &str| open.iter().any(|batch| batch.input_file_id == id);
            let mut old = Vec::new();
            for entry in tables.files.iter()? {
                let file = decode::<FileRecord>(entry?.1.value());
                old.extend(
                    file.filter(|file| file.expires_at <= now && !is_read(&file.id)).map(|file| file.id),
                );
            }
            for id in old {
                tables.files.remove(id.as_str())?;
                tables.drop_lines(&id)?;
            }
            tables.batches.retain(|_, bytes| {
                decode::<BatchRecord>(bytes)
                    .is_none_or(|batch| !batch.is_final() || batch.created_at.saturating_add(ttl) > now)
            })?;
            Ok(())
        })
    }

    /// Puts lines in, or none of them.
    pub(super) fn append(&mut self, file: &str, first: u32, lines: &[Vec<u8>]) -> Result<Room, Error> {
        let max_bytes = self.max_bytes;
        let kept = self.write(|tables| {
            for (number, line) in (first..).zip(lines) {
                if !tables.put_line(file, number, line, max_bytes)? {
                    // The lines before it go with the rest of the file, whose upload ends here.
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(if kept { Room::Enough } else { Room::Full })
    }

    pub(super) fn finish(&mut self, file: &FileRecord) -> Result<Room, Error> {
        self.write(|tables| {
            if tables.files.len()? >= MAX_RECORDS {
                return Ok(Room::Full);
            }
            tables.put_file(file)?;
            Ok(Room::Enough)
        })
    }

    pub(super) fn discard(&mut self, file: &str) -> Result<(), Error> {
        self.write(|tables| tables.drop_lines(file))
    }

    pub(super) fn file(&self, owner: &str, id: &str, now: u64) -> Result<Option<FileRecord>, Error> {
        let file = find::<FileRecord>(&self.read()?.open_table(FILES)?, id)?;
        Ok(file.filter(|file| file.owner == owner && file.expires_at > now))
    }

    pub(super) fn files(&self, owner: &str, query: &ListQuery, now: u64) -> Result<Page<FileRecord>, Error> {
        let purpose = query.purpose.as_deref();
        self.page(FILES, query, |file: &FileRecord| {
            let asked = purpose.is_none_or(|purpose| file.purpose == purpose);
            asked && file.owner == owner && file.expires_at > now
        })
    }

    /// Records in the order of their ids, which is that of their making.
    pub(super) fn page<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'_, &'static str, &'static [u8]>,
        query: &ListQuery,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Page<T>, Error> {
        let table = self.read()?.open_table(table)?;
        let after = query.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (from, to) = if query.ascending { (after, Bound::Unbounded) } else { (Bound::Unbounded, after) };
        let mut range = table.range::<&str>((from, to))?;
        let mut page = Page { entries: Vec::new(), has_more: false };
        while let Some(entry) = if query.ascending { range.next() } else { range.next_back() } {
            let Some(record) = decode(entry?.1.value()).filter(&wanted) else { continue };
            if page.entries.len() == query.limit {
                page.has_more = true;
                break;
            }
            page.entries.push(record);
        }
        Ok(page)
    }

    pub(super) fn delete(&mut self, owner: &str, id: &str, now: u64) -> Result<Deletion, Error> {
        if self.file(owner, id, now)?.is_none() {
            return Ok(Deletion::Unknown);
        }
        self.write(|tables| {
            let open = tables.open_batches()?;
            if let Some(batch) = open.into_iter().find(|batch| batch.input_file_id == id) {
                return Ok(Deletion::InUse(batch.id));
            }
            tables.files.remove(id)?;
            tables.drop_lines(id)?;
            Ok(Deletion::Done)
        })
    }

    pub(super) fn lines(&self, file: &str, from: u32) -> Result<Vec<(u32, Vec<u8>)>, Error> {
        let table = self.read()?.open_table(LINES)?;
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for entry in table.range((file, from)..=*all_of(file).end())? {
            let (key, line) = entry?;
            bytes += line.value().len();
            lines.push((key.value().1, line.value().to_vec()));
            if bytes >= PAGE.0 || lines.len() == PAGE.1 {
                break;
            }
        }
        Ok(lines)
    }
}

/// Forgets lines that are neither a file's nor results of a batch that has not ended.
fn drop_orphans(tables: &mut Tables<'_>) -> Result<(), Error> {
    let results: Vec<String> = tables
        .open_batches()?
        .into_iter()
        .flat_map(|batch| [batch.output_file_id, batch.error_file_id])
        .collect();
    let mut last = String::new();
    loop {
        let behind = (Bound::Excluded((last.as_str(), u32::MAX)), Bound::<(&str, u32)>::Unbounded);
        let next = tables.lines.range(behind)?.next().transpose()?.map(|(key, _)| key.value().0.to_owned());
        let Some(file) = next else { return Ok(()) };
        if tables.files.get(file.as_str())?.is_none() && !results.contains(&file) {
            tables.drop_lines(&file)?;
        }
        last = file;
    }
}
