//! How an input of the targets that make requests is written: a line with the path, the body, and what the model
//! answers behind a separator, if it doesn't matter.

/// Between the body and the model's answer: ASCII's "record separator", which no JSON has.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// The parts of an input.
pub(crate) struct Input<'a> {
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
    /// What the model says.
    pub(crate) answer: Option<&'a [u8]>,
}

impl<'a> Input<'a> {
    /// `None` without a path in the first line.
    pub(crate) fn read(input: &'a [u8]) -> Option<Self> {
        let end = input.iter().position(|byte| *byte == b'\n')?;
        let path = std::str::from_utf8(&input[..end]).ok()?;
        let rest = &input[end + 1..];
        let (body, answer) = match rest.iter().position(|byte| *byte == SEPARATOR) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        Some(Self { path, body, answer })
    }
}
