//! Small PDF files, written by hand.

use miniz_oxide::deflate::compress_to_vec_zlib;

/// A file of these objects; the first one is its catalog.
pub(crate) fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    let objects: Vec<(u32, Vec<u8>)> = (1..).zip(objects.iter().cloned()).collect();
    let mut file = numbered(&objects);
    file.extend(b"trailer\n<< /Root 1 0 R >>\n%%EOF\n");
    file
}

/// Objects by their numbers. There is no table of objects: readers do without.
pub(crate) fn numbered(objects: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n".to_vec();
    for (number, object) in objects {
        file.extend(format!("{number} 0 obj\n").into_bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    file
}

/// A stream that is compressed; `entries` are those of its dictionary.
pub(crate) fn stream(entries: &str, content: &[u8]) -> Vec<u8> {
    let packed = compress_to_vec_zlib(content, 6);
    let head = format!("<< {entries} /Filter /FlateDecode /Length {} >>\nstream\n", packed.len());
    [head.as_bytes(), &packed, b"\nendstream"].concat()
}

/// A file with a page for each content, in Helvetica (`/F1`); `more` are its objects from 4 on.
pub(crate) fn pages(contents: &[&str], more: &[Vec<u8>]) -> Vec<u8> {
    let first = 4 + more.len();
    let kids: Vec<String> = (0..contents.len()).map(|index| format!("{} 0 R", first + 2 * index)).collect();
    let tree = format!(
        "<< /Type /Pages /Kids [{}] /Count {} /Resources << /Font << /F1 3 0 R /F2 4 0 R >> /XObject << /X 5 0 R >> >> >>",
        kids.join(" "),
        contents.len()
    );
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        tree.into_bytes(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec(),
    ];
    objects.extend_from_slice(more);
    for (index, content) in contents.iter().enumerate() {
        let page = format!("<< /Type /Page /Parent 2 0 R /Contents {} 0 R >>", first + 2 * index + 1);
        objects.extend([page.into_bytes(), stream("", content.as_bytes())]);
    }
    file(&objects)
}
