//! All keys of the server.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use super::{
    KeysFile,
    key::{Key, KeySpec, digest},
};
use crate::ServerError;

/// The keys that open the API: those of the command line, which never change, and those of a file.
pub(crate) struct KeyRing {
    plain: Vec<KeySpec>,
    file: RwLock<Option<KeysFile>>,
    keys: RwLock<Arc<[Arc<Key>]>>,
}

impl KeyRing {
    /// `plain` keys have no limits and no names of their own.
    pub(crate) fn new(plain: &[String], file: Option<KeysFile>) -> Self {
        let plain = (1..).zip(plain).map(|(number, key)| KeySpec::plain(format!("api-key-{number}"), key));
        let ring = Self { plain: plain.collect(), file: RwLock::new(None), keys: RwLock::new(Arc::new([])) };
        ring.put(file);
        ring
    }

    /// Whether everybody may come in.
    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// All keys.
    pub(crate) fn all(&self) -> Arc<[Arc<Key>]> {
        // Replaced as a whole, so a poisoned lock still guards a sound list; the same holds below.
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key that was presented. Compares with every key, whichever matches.
    pub(crate) fn find(&self, presented: &[u8]) -> Option<Arc<Key>> {
        let presented = digest(presented);
        let mut found = None;
        for key in self.all().iter() {
            if key.has(&presented) {
                found = Some(key.clone());
            }
        }
        found
    }

    /// The key for which `owner` stands in stores.
    pub(crate) fn owned_by(&self, owner: &str) -> Option<Arc<Key>> {
        self.all().iter().find(|key| key.owner() == owner).cloned()
    }

    /// Reads the file anew, if there is one, and says how many keys there are now. Budgets and counts of names that
    /// stay go on.
    ///
    /// # Errors
    /// What is wrong with the file; the old keys stay.
    pub(crate) fn reload(&self) -> Result<Option<usize>, ServerError> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(file) = file else { return Ok(None) };
        self.put(Some(file.reopen()?));
        Ok(Some(self.all().len()))
    }

    fn put(&self, file: Option<KeysFile>) {
        let (now, before) = (Instant::now(), self.all());
        let specs = self.plain.iter().chain(file.iter().flat_map(|file| &file.keys));
        let keys = specs.map(|spec| {
            let same = before.iter().find(|key| key.name() == spec.name);
            Arc::new(Key::new(spec.clone(), same.map(Arc::as_ref), now))
        });
        let keys = keys.collect();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = file;
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({})", self.all().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_several_keys_is_found_and_nothing_else() {
        let ring = KeyRing::new(&["one".into(), "two".into()], None);
        assert_eq!(ring.find(b"one").unwrap().name(), "api-key-1");
        assert_eq!(ring.find(b"two").unwrap().name(), "api-key-2");
        let owner = ring.find(b"two").unwrap().owner();
        assert_eq!(ring.owned_by(&owner).unwrap().name(), "api-key-2");
        assert!(ring.owned_by("").is_none() && !owner.contains("two"));
        for wrong in [&b"onet"[..], b"", b"on", b"One", b"one "] {
            assert!(ring.find(wrong).is_none());
        }
        assert_eq!(format!("{ring:?}"), "KeyRing(2)");
        assert!(matches!(ring.reload(), Ok(None)));
    }

    #[test]
    fn a_bad_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.yaml");
        let entry =
            |name: &str| format!("keys: [{{name: {name}, key: key-of-{name}, requests_per_minute: 1}}]");
        std::fs::write(&path, entry("ada")).unwrap();
        let ring = KeyRing::new(&["plain".into()], Some(KeysFile::open(&path).unwrap()));
        let ada = ring.find(b"key-of-ada").unwrap();
        ada.take_request().unwrap();

        std::fs::write(&path, "keys: [").unwrap();
        assert!(ring.reload().is_err());
        assert!(ring.find(b"key-of-ada").unwrap().take_request().is_err(), "the old key, and its budget");

        std::fs::write(&path, entry("bob")).unwrap();
        assert_eq!(ring.reload().unwrap(), Some(2));
        assert!(ring.find(b"key-of-ada").is_none() && ring.find(b"plain").is_some());
        assert_eq!(ring.find(b"key-of-bob").unwrap().name(), "bob");
    }
}
