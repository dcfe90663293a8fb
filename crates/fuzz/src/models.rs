//! The demo model's files.

use std::{cell::OnceCell, path::Path};

use millrace_text::TextFiles;

/// The folder of the demo model.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo");

thread_local! {
    static FILES: OnceCell<TextFiles> = const { OnceCell::new() };
}

/// Lends the files of the demo model that say how it reads and writes text.
pub(crate) fn with_files<T>(use_them: impl FnOnce(&TextFiles) -> T) -> T {
    FILES.with(|files| use_them(files.get_or_init(|| TextFiles::from_folder(Path::new(FOLDER)).unwrap())))
}
