//! The right to use a loaded model.

use std::{ops::Deref, sync::Arc, time::Instant};

use super::Shared;
use crate::ServedModel;

/// A loaded model, for as long as somebody uses it: it isn't unloaded while there is a lease on it.
#[derive(Debug, Clone)]
pub struct Lease {
    // Dropped before its hold: whoever unloads the model then finds nobody else with it.
    model: Arc<ServedModel>,
    _hold: Hold,
}

impl Lease {
    /// A lease that the table has counted already.
    pub(super) fn counted(model: Arc<ServedModel>, shared: Arc<Shared>, index: usize) -> Self {
        Self { model, _hold: Hold { shared, index } }
    }
}

impl Deref for Lease {
    type Target = ServedModel;

    fn deref(&self) -> &ServedModel {
        &self.model
    }
}

/// Counts in the table.
struct Hold {
    shared: Arc<Shared>,
    index: usize,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hold({})", self.index)
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.shared.with(|table| table.share(self.index));
        Self { shared: self.shared.clone(), index: self.index }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.with(|table| table.release(self.index, Instant::now()));
    }
}
