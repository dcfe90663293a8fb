//! Whole files: what their text is, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use millrace_pdf::{Limits, PdfError, text};
use proptest::prelude::*;
use support::{file, numbered, pages, stream};

fn read(bytes: &[u8]) -> Result<String, PdfError> {
    text(bytes, &Limits::default())
}

#[test]
fn lines_words_and_pages_are_told_apart() {
    let first = "BT /F1 12 Tf 72 700 Td (Hello) Tj ( world) Tj 0 -14 Td [(Sec) 20 (ond) -400 (line)] TJ \
                 0 -40 Td (A caf\\351) Tj ET";
    let second = "BT /F1 10 Tf 1 0 0 1 72 700 Tm (left) Tj 1 0 0 1 200 700 Tm (right) Tj 12 TL T* (next) Tj (last) ' ET";
    let expected = "Hello world\nSecond line\n\nA café\n\nleft right\nnext\nlast";
    assert_eq!(read(&pages(&[first, second], &[])), Ok(expected.to_owned()));
}

#[test]
fn what_turned_or_was_drawn_twice_is_read_once() {
    let content = "BT /F1 12 Tf 72 700 Td (Bold) Tj -26.0 0 Td (Bold) Tj 0 0 Td ET \
                   BT /F1 12 Tf 0 1 -1 0 50 50 Tm (up) Tj ( wards) Tj ET";
    let got = read(&pages(&[content], &[])).unwrap();
    assert!(got.ends_with("up wards"), "{got}");
    let shadow = "BT /F1 12 Tf 1 0 0 1 72 700 Tm (Bold) Tj 1 0 0 1 72.3 700 Tm (Bold) Tj ET";
    assert_eq!(read(&pages(&[shadow], &[])).as_deref(), Ok("Bold"));
}

#[test]
fn composite_fonts_go_by_their_map() {
    let map = "1 begincodespacerange <0000> <ffff> endcodespacerange 1 beginbfrange <0003> <0005> <0041> endbfrange \
               2 beginbfchar <0010> <4f60> <0011> <00660069> endbfchar";
    let font = b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /ToUnicode 5 0 R /DescendantFonts [6 0 R] >>";
    let more = [
        font.to_vec(),
        stream("", map.as_bytes()),
        b"<< /Type /Font /Subtype /CIDFontType2 /DW 500 /W [3 [600 700] 16 17 900] >>".to_vec(),
    ];
    let content = "BT /F2 10 Tf 72 700 Td <0003000400050010> Tj <0011> Tj ET";
    assert_eq!(read(&pages(&[content], &more)).as_deref(), Ok("ABC你fi"));
    let unknown = "BT /F2 10 Tf 72 700 Td <00200021> Tj ET";
    assert_eq!(read(&pages(&[unknown], &more)), Err(PdfError::Unreadable));
}

#[test]
fn differences_and_forms_are_followed() {
    let font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Y /Encoding << /Differences [1 /A /germandbls 7 /fi] >> >>";
    let form = stream(
        "/Type /XObject /Subtype /Form /Matrix [1 0 0 1 0 -50]",
        b"BT /F2 9 Tf 72 700 Td (\\007) Tj ET /X Do",
    );
    let content = "BT /F2 9 Tf 72 700 Td (\\001\\002) Tj ET /X Do";
    assert_eq!(read(&pages(&[content], &[font.to_vec(), form])).unwrap().lines().next(), Some("Aß"));
}

#[test]
fn objects_in_streams_are_found_and_pictures_passed_over() {
    let objects = "1 0 2 34 3 89 << /Type /Catalog /Pages 2 0 R >> << /Kids [4 0 R] /Resources << /Font << /F1 3 0 R >> >> >> \
                   << /Type /Font /Subtype /TrueType /BaseFont /Arial >>";
    let (first, second) = (objects.find("<< /Type /C").unwrap(), objects.find("<< /Kids").unwrap());
    let third = objects.find("<< /Type /F").unwrap();
    let header = format!("1 0 2 {} 3 {} ", second - first, third - first);
    let packed = format!("{header}{}", &objects[first..]);
    let content = "BI /W 1 /H 1 ID \u{1}(EI\u{2} EI BT /F1 9 Tf (found) Tj ET";
    let entries = format!("/Type /ObjStm /N 3 /First {}", header.len());
    let bytes = numbered(&[
        (7, stream(&entries, packed.as_bytes())),
        (8, stream("/Type /XRef /Root 1 0 R", b"")),
        (4, b"<< /Type /Page /Contents 5 0 R >>".to_vec()),
        (5, stream("", content.as_bytes())),
    ]);
    assert_eq!(read(&bytes).as_deref(), Ok("found"));
}

#[test]
fn what_has_no_text_is_refused_with_the_reason() {
    assert_eq!(read(b"hello"), Err(PdfError::NotPdf));
    assert_eq!(read(b"%PDF-1.4 nothing"), Err(PdfError::Damaged));
    assert_eq!(read(&pages(&["0 0 m 100 100 l S"], &[])), Err(PdfError::NoText));
    let mut encrypted = pages(&["BT /F1 9 Tf (x) Tj ET"], &[]);
    encrypted.extend(b"trailer << /Root 1 0 R /Encrypt << /Filter /Standard >> >>");
    assert_eq!(read(&encrypted), Err(PdfError::Encrypted));
}

#[test]
fn limits_hold() {
    let page = "BT /F1 9 Tf (abc) Tj ET";
    let limits = Limits { max_pages: 1, max_chars: 3, ..Limits::default() };
    assert_eq!(text(&pages(&[page], &[]), &limits).as_deref(), Ok("abc"));
    assert_eq!(text(&pages(&[page, page], &[]), &limits), Err(PdfError::TooManyPages(1)));
    let limits = Limits { max_chars: 2, ..limits };
    assert_eq!(text(&pages(&[page], &[]), &limits), Err(PdfError::TooMuchText(2)));
}

#[test]
fn bombs_end_quickly() {
    let wide = "BT /F1 9 Tf (a) Tj ET ".repeat(1 << 20);
    assert_eq!(read(&pages(&[&wide], &[])), Err(PdfError::TooMuchData));
    // Each form draws itself many times.
    let form = stream("/Subtype /Form", "/X Do ".repeat(50).as_bytes());
    assert_eq!(read(&pages(&["/X Do"], &[b"null".to_vec(), form])), Err(PdfError::TooMuchData));
    let deep = format!("%PDF-1.4 1 0 obj {}", "<</A".repeat(100_000));
    assert_eq!(read(deep.as_bytes()), Err(PdfError::TooMuchData));
    let circle = file(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Kids [2 0 R 3 0 R] >>".to_vec(),
        b"3 0 R".to_vec(),
    ]);
    assert_eq!(read(&circle), Err(PdfError::Damaged));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is wrong with a file, reading it ends and nothing panics.
    #[test]
    fn broken_files_are_read_or_refused(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..6)), 1..8),
    ) {
        let font = b"<< /Subtype /Type0 /Encoding /Identity-H /ToUnicode 5 0 R /DescendantFonts [<< /W [1 [2 3] 4 5 6] >>] >>";
        let map = b"1 beginbfrange <0003> <0005> <0041> endbfrange 1 beginbfchar <0010> <4f60> endbfchar";
        let plain = |content: &[u8]| [b"<< /Length 9999 >>\nstream\n", content, b"\nendstream"].concat();
        let content = b"q 1 0 0 1 5 5 cm BT /F2 9 Tf 1 2 Td <00030010> Tj [(a) -3 (b)] TJ T* (c) ' ET Q BI ID x EI /X Do";
        let mut bytes = pages(&[], &[font.to_vec(), plain(map), plain(content)]);
        let tree = b"2 0 obj << /Kids [<< /Contents 6 0 R >>] /Resources << /Font << /F2 4 0 R >> /XObject << /X 6 0 R >> >> >>";
        bytes.extend(tree);
        for (index, new) in cuts {
            let at = index.index(bytes.len());
            let end = (at + new.len()).min(bytes.len());
            bytes.splice(at..end, new);
        }
        let _ = read(&bytes);
    }
}
