//! The tables, and what is done in one transaction.

use std::ops::RangeInclusive;

use millrace_api::openai::{batches::BatchRecord, files::FileRecord};
use redb::{Error, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};

/// Files by id, as JSON.
pub(super) const FILES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("files");
/// Batches by id, as JSON.
pub(super) const BATCHES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("batches");
/// Lines, with their line breaks, by file and number (from 1). The results of a batch are kept under the numbers of their
/// requests, so a result that is there is never computed again, and the files of results are in the order of the input.
pub(super) const LINES: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("lines");
/// By [`BYTES`]: how many bytes all lines count together.
pub(super) const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
pub(super) const BYTES: &str = "bytes";

/// What a line counts besides its own bytes.
const LINE_COST: u64 = 64;

/// The tables within a transaction.
pub(super) struct Tables<'t> {
    pub(super) files: Table<'t, &'static str, &'static [u8]>,
    pub(super) batches: Table<'t, &'static str, &'static [u8]>,
    pub(super) lines: Table<'t, (&'static str, u32), &'static [u8]>,
    totals: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            files: transaction.open_table(FILES)?,
            batches: transaction.open_table(BATCHES)?,
            lines: transaction.open_table(LINES)?,
            totals: transaction.open_table(TOTALS)?,
        })
    }

    pub(super) fn bytes(&self) -> Result<u64, Error> {
        Ok(self.totals.get(BYTES)?.map_or(0, |bytes| bytes.value()))
    }

    /// Puts a line in, if all lines count at most `max_bytes` then.
    pub(super) fn put_line(
        &mut self,
        file: &str,
        number: u32,
        line: &[u8],
        max_bytes: u64,
    ) -> Result<bool, Error> {
        let bytes = self.bytes()? + cost(line);
        if bytes > max_bytes {
            return Ok(false);
        }
        self.lines.insert((file, number), line)?;
        self.totals.insert(BYTES, bytes)?;
        Ok(true)
    }

    /// Forgets all lines of a file.
    pub(super) fn drop_lines(&mut self, file: &str) -> Result<(), Error> {
        let mut freed = 0;
        self.lines.retain_in(all_of(file), |_, line| {
            freed += cost(line);
            false
        })?;
        let bytes = self.bytes()?.saturating_sub(freed);
        self.totals.insert(BYTES, bytes)?;
        Ok(())
    }

    pub(super) fn put_file(&mut self, file: &FileRecord) -> Result<(), Error> {
        self.files.insert(file.id.as_str(), encode(file)?.as_slice())?;
        Ok(())
    }

    pub(super) fn put_batch(&mut self, batch: &BatchRecord) -> Result<(), Error> {
        self.batches.insert(batch.id.as_str(), encode(batch)?.as_slice())?;
        Ok(())
    }

    /// All batches that have not ended.
    pub(super) fn open_batches(&self) -> Result<Vec<BatchRecord>, Error> {
        open_batches(&self.batches)
    }
}

/// The keys of a file's lines.
pub(super) fn all_of(file: &str) -> RangeInclusive<(&str, u32)> {
    (file, 0)..=(file, u32::MAX)
}

/// All batches that have not ended, the oldest first.
pub(super) fn open_batches(
    batches: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<BatchRecord>, Error> {
    let mut open = Vec::new();
    for entry in batches.iter()? {
        open.extend(decode::<BatchRecord>(entry?.1.value()).filter(|batch| !batch.is_final()));
    }
    Ok(open)
}

/// A record of this id.
pub(super) fn find<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    id: &str,
) -> Result<Option<T>, Error> {
    Ok(table.get(id)?.and_then(|bytes| decode(bytes.value())))
}

/// A stored record. What another version wrote and this one can't read is as if it weren't there.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::warn!("a stored record can't be read: {error}"))
        .ok()
}

fn encode(record: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|error| Error::Io(error.into()))
}

fn cost(line: &[u8]) -> u64 {
    line.len() as u64 + LINE_COST
}
