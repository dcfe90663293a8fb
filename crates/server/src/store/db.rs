//! The tables, and what is done to them in one transaction.

use std::{ops::Bound, path::Path};

use redb::{
    Database, Error, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use super::open::open;

/// By name: when it was written, in microseconds since 1970, and what.
const VALUES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("values");
/// By time and name: how many bytes it counts.
const AGES: TableDefinition<'_, (u64, &str), u64> = TableDefinition::new("ages");
/// By [`BYTES`]: how many bytes all count together.
const TOTALS: TableDefinition<'_, &str, u64> = TableDefinition::new("totals");
const BYTES: &str = "bytes";

/// Most entries that one transaction removes because of their age: nobody waits for a big clean-up.
const SWEEP: usize = 1000;

/// Bytes after which a page ends.
const PAGE: usize = 1 << 20;

/// One request.
#[derive(Debug)]
pub(super) enum Op {
    Get(String),
    Put(String, Vec<u8>),
    Delete(String),
    Page(Range),
}

/// Names that follow each other.
#[derive(Debug)]
pub(super) struct Range {
    /// Behind this name, in the order that is asked for; by itself it is not a part.
    pub(super) from: Option<String>,
    /// All begin with this.
    pub(super) prefix: String,
    pub(super) descending: bool,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    Found(Option<Vec<u8>>),
    Kept,
    TooLarge,
    Deleted(bool),
    /// Entries up to some bytes; none behind the last one.
    Page(Vec<(String, Vec<u8>)>),
}

/// What the store holds after a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// Entries that this transaction removed to make room.
    pub(super) evicted: u64,
}

/// Bounds on what is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) max_bytes: u64,
    pub(super) ttl_micros: u64,
}

/// An open database.
pub(super) struct Db {
    database: Database,
    bounds: Bounds,
    /// The time of the last entry: no two have the same, so that their order is that of writing.
    last: u64,
    /// What the store holds, if that has changed.
    news: Option<Totals>,
}

impl Db {
    /// Opens the file, or a new database in memory, at `now` microseconds since 1970. A damaged file is renamed.
    pub(super) fn open(path: Option<&Path>, bounds: Bounds, now: u64) -> Result<Self, Error> {
        let make = |database| Self { database, bounds, last: 0, news: None };
        open(path, "response store", make, |db| db.write(&[], now).map(drop))
    }

    /// Does all of it or nothing, at `now` microseconds since 1970.
    pub(super) fn apply(&mut self, ops: &[Op], now: u64) -> Result<Vec<Done>, Error> {
        if ops.iter().all(|op| matches!(op, Op::Get(_) | Op::Page(_))) {
            self.read(ops, self.oldest(now))
        } else {
            self.write(ops, now)
        }
    }

    /// What the store holds, if that has changed since the last call.
    pub(super) fn take_news(&mut self) -> Option<Totals> {
        self.news.take()
    }

    /// No entry may be older.
    fn oldest(&self, now: u64) -> u64 {
        now.saturating_sub(self.bounds.ttl_micros)
    }

    fn write(&mut self, ops: &[Op], now: u64) -> Result<Vec<Done>, Error> {
        let oldest = self.oldest(now);
        let transaction = self.database.begin_write()?;
        let (done, totals) = {
            let mut tables = Tables::open(&transaction)?;
            tables.sweep(oldest)?;
            let mut done = Vec::with_capacity(ops.len());
            for op in ops {
                self.last = now.max(self.last + 1);
                done.push(tables.apply(op, self.last, oldest, self.bounds.max_bytes)?);
            }
            let evicted = tables.evict(self.bounds.max_bytes)?;
            (done, Totals { entries: tables.values.len()?, bytes: tables.bytes()?, evicted })
        };
        transaction.commit()?;
        self.news = Some(totals);
        Ok(done)
    }

    fn read(&self, ops: &[Op], oldest: u64) -> Result<Vec<Done>, Error> {
        let values = self.database.begin_read()?.open_table(VALUES)?;
        let read = |op: &Op| match op {
            Op::Page(range) => Ok(Done::Page(page(&values, range, oldest)?)),
            Op::Get(name) | Op::Put(name, _) | Op::Delete(name) => {
                Ok(Done::Found(find(&values, name, oldest)?))
            }
        };
        ops.iter().map(read).collect()
    }
}

/// The tables within a transaction.
struct Tables<'t> {
    values: Table<'t, &'static str, (u64, &'static [u8])>,
    ages: Table<'t, (u64, &'static str), u64>,
    totals: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            values: transaction.open_table(VALUES)?,
            ages: transaction.open_table(AGES)?,
            totals: transaction.open_table(TOTALS)?,
        })
    }

    fn apply(&mut self, op: &Op, now: u64, oldest: u64, max_bytes: u64) -> Result<Done, Error> {
        Ok(match op {
            Op::Get(name) => Done::Found(find(&self.values, name, oldest)?),
            Op::Page(range) => Done::Page(page(&self.values, range, oldest)?),
            Op::Delete(name) => Done::Deleted(self.remove(name)?),
            Op::Put(name, bytes) => {
                let size = (name.len() + bytes.len()) as u64;
                if size > max_bytes {
                    return Ok(Done::TooLarge);
                }
                self.remove(name)?;
                self.values.insert(name.as_str(), (now, bytes.as_slice()))?;
                self.ages.insert((now, name.as_str()), size)?;
                self.add_bytes(size, 0)?;
                Done::Kept
            }
        })
    }

    fn remove(&mut self, name: &str) -> Result<bool, Error> {
        let Some(written) = self.values.remove(name)?.map(|value| value.value().0) else { return Ok(false) };
        let size = self.ages.remove((written, name))?.map_or(0, |size| size.value());
        self.add_bytes(0, size)?;
        Ok(true)
    }

    /// Removes what is too old.
    fn sweep(&mut self, oldest: u64) -> Result<(), Error> {
        for _ in 0..SWEEP {
            match self.first()? {
                Some((written, name)) if written < oldest => self.remove(&name)?,
                _ => break,
            };
        }
        Ok(())
    }

    /// Removes the oldest until the rest fits; says how many.
    fn evict(&mut self, max_bytes: u64) -> Result<u64, Error> {
        let mut evicted = 0;
        while self.bytes()? > max_bytes
            && let Some((_, name)) = self.first()?
        {
            self.remove(&name)?;
            evicted += 1;
        }
        Ok(evicted)
    }

    fn first(&self) -> Result<Option<(u64, String)>, Error> {
        Ok(self.ages.first()?.map(|(key, _)| {
            let (written, name) = key.value();
            (written, name.to_owned())
        }))
    }

    fn bytes(&self) -> Result<u64, Error> {
        Ok(self.totals.get(BYTES)?.map_or(0, |bytes| bytes.value()))
    }

    fn add_bytes(&mut self, more: u64, less: u64) -> Result<(), Error> {
        let bytes = (self.bytes()? + more).saturating_sub(less);
        self.totals.insert(BYTES, bytes)?;
        Ok(())
    }
}

fn find(
    values: &impl ReadableTable<&'static str, (u64, &'static [u8])>,
    name: &str,
    oldest: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let found = values.get(name)?.and_then(|value| {
        let (written, bytes) = value.value();
        (written >= oldest).then(|| bytes.to_vec())
    });
    Ok(found)
}

fn page(
    values: &impl ReadableTable<&'static str, (u64, &'static [u8])>,
    range: &Range,
    oldest: u64,
) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let (prefix, from) = (range.prefix.as_str(), range.from.as_deref());
    // No character comes behind this one.
    let end = format!("{prefix}{}", char::MAX);
    let bounds = match (range.descending, from) {
        (false, from) => {
            (from.map_or(Bound::Included(prefix), Bound::Excluded), Bound::Excluded(end.as_str()))
        }
        (true, from) => (Bound::Included(prefix), Bound::Excluded(from.unwrap_or(&end))),
    };
    let (mut entries, mut page, mut bytes) = (values.range::<&str>(bounds)?, Vec::new(), 0);
    while let Some(entry) = if range.descending { entries.next_back() } else { entries.next() } {
        let (name, value) = entry?;
        let (written, content) = value.value();
        if written >= oldest {
            bytes += content.len();
            page.push((name.value().to_owned(), content.to_vec()));
        }
        if bytes >= PAGE {
            break;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(max_bytes: u64, ttl_micros: u64) -> Db {
        Db::open(None, Bounds { max_bytes, ttl_micros }, 0).unwrap()
    }

    fn put(name: &str, size: usize) -> Op {
        Op::Put(name.into(), vec![7; size])
    }

    #[test]
    fn old_entries_are_gone_before_and_after_they_are_swept() {
        let mut db = memory(1000, 10);
        db.apply(&[put("a", 5), put("b", 5)], 100).unwrap();
        let mut get = |now| db.apply(&[Op::Get("a".into())], now).unwrap();
        assert_eq!(get(110), [Done::Found(Some(vec![7; 5]))]);
        assert_eq!(get(112), [Done::Found(None)]);
        // A read leaves them in place, the next write doesn't.
        db.apply(&[put("c", 5)], 112).unwrap();
        assert_eq!(db.take_news(), Some(Totals { entries: 1, bytes: 6, evicted: 0 }));
    }

    #[test]
    fn pages_hold_what_begins_alike() {
        let mut db = memory(10 << 20, 10);
        let big = PAGE / 2;
        db.apply(&[put("a/1", 5), put("b/1", big), put("b/2", big), put("b/3", big), put("c/1", 5)], 100)
            .unwrap();
        let mut names = |from: Option<&str>, descending, now| {
            let range = Range { from: from.map(str::to_owned), prefix: "b/".into(), descending };
            let Done::Page(page) = db.apply(&[Op::Page(range)], now).unwrap().remove(0) else { panic!() };
            page.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(None, false, 100), ["b/1", "b/2"]);
        assert_eq!(names(Some("b/2"), false, 100), ["b/3"]);
        assert_eq!(names(None, true, 100), ["b/3", "b/2"]);
        assert_eq!(names(Some("b/2"), true, 100), ["b/1"]);
        assert!(names(Some("b/3"), false, 100).is_empty() && names(None, false, 200).is_empty());
    }

    #[test]
    fn a_batch_sees_its_own_writes_and_counts_them_once() {
        let mut db = memory(12, 10);
        let ops = [
            put("a", 5),
            Op::Get("a".into()),
            put("a", 3),
            put("b", 5),
            Op::Delete("a".into()),
            put("c", 90),
        ];
        let done = db.apply(&ops, 1).unwrap();
        let expected = [
            Done::Kept,
            Done::Found(Some(vec![7; 5])),
            Done::Kept,
            Done::Kept,
            Done::Deleted(true),
            Done::TooLarge,
        ];
        assert_eq!(done, expected);
        assert_eq!(db.take_news(), Some(Totals { entries: 1, bytes: 6, evicted: 0 }));
        db.apply(&[put("d", 5), put("e", 5)], 2).unwrap();
        assert_eq!(db.take_news(), Some(Totals { entries: 2, bytes: 12, evicted: 1 }));
    }
}
