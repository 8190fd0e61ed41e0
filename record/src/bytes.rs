//! Reading and writing the binary formats: big-endian integers and counted byte strings.
//!
//! A [`Reader`] never reads beyond its input and never allocates; what it
//! yields borrows from the input.

/// Input ended early, or went on after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Bytes are missing.
    #[error("ends after {have} bytes where {need} are needed")]
    Short {
        /// Bytes that the next field needs.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// Bytes are left over.
    #[error("{0} bytes too many at the end")]
    Long(usize),
}

/// A cursor over untrusted bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(Malformed::Short { need: len, have: self.0.len() })?;
        self.0 = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// An 8-bit integer.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// A big-endian 16-bit integer.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A big-endian 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A big-endian 64-bit integer.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A byte string after its 8-bit length.
    pub fn counted8(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// A byte string after its 32-bit length.
    pub fn counted32(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Refuses input that goes on.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Long(self.0.len())) }
    }
}

/// Appends `bytes` after their 8-bit length.
///
/// # Panics
/// If there are more than 255: every caller's type bounds them.
pub fn put_counted8(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("bounded by the caller's type"));
    out.extend_from_slice(bytes);
}

/// Appends `bytes` after their 32-bit length.
///
/// # Panics
/// If there are 4 GiB or more: every caller's type bounds them.
pub fn put_counted32(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("bounded by the caller's type");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}
