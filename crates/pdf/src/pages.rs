//! The tree of pages.

use std::{collections::HashSet, rc::Rc};

use crate::{
    PdfError,
    file::File,
    object::{Dict, Object},
};

/// A page, as far as its text goes.
pub(crate) struct Page {
    pub(crate) contents: Object,
    /// Fonts and forms by name; a page may have them from above.
    pub(crate) resources: Rc<Dict>,
}

/// All pages in their order.
///
/// # Errors
/// If there are none, or too many.
pub(crate) fn list(file: &File<'_>, most: usize) -> Result<Vec<Page>, PdfError> {
    let catalog = file.resolve(file.root())?;
    let top = catalog.as_dict().and_then(|catalog| catalog.get(&b"Pages"[..])).cloned();
    let mut open = vec![(top.unwrap_or(Object::Null), Rc::new(Dict::new()))];
    let (mut seen, mut pages) = (HashSet::new(), Vec::new());
    while let Some((node, inherited)) = open.pop() {
        // A tree has no node twice; what has isn't one.
        if let Object::Ref(number) = node
            && !seen.insert(number)
        {
            continue;
        }
        let node = file.resolve(&node)?;
        let Some(dict) = node.as_dict() else { continue };
        let resources = match file.get(dict, b"Resources")?.as_dict() {
            Some(own) => Rc::new(own.clone()),
            None => inherited,
        };
        if let Some(kids) = file.get(dict, b"Kids")?.as_array() {
            open.extend(kids.iter().rev().map(|kid| (kid.clone(), resources.clone())));
            continue;
        }
        if pages.len() == most {
            return Err(PdfError::TooManyPages(most));
        }
        let contents = dict.get(&b"Contents"[..]).cloned().unwrap_or(Object::Null);
        pages.push(Page { contents, resources });
    }
    if pages.is_empty() { Err(PdfError::Damaged) } else { Ok(pages) }
}
