//! Writing the canonical form.

/// Writes bencoded values one after another into a buffer; within [`Writer::list`] they are the items.
///
/// ```
/// use seedbank::format::bencode::Writer;
/// let mut writer = Writer::new();
/// writer.dict(|dict| {
///     dict.int("length", 5);
///     dict.list("path", |path| path.bytes("a.txt"));
/// });
/// assert_eq!(writer.finish(), b"d6:lengthi5e4:pathl5:a.txtee");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// A writer that has written nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Writes an integer.
    pub fn int(&mut self, value: i64) {
        self.out.extend_from_slice(format!("i{value}e").as_bytes());
    }

    /// Writes a string.
    pub fn bytes(&mut self, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.out
            .extend_from_slice(format!("{}:", value.len()).as_bytes());
        self.out.extend_from_slice(value);
    }

    /// Writes a value that is encoded already; the caller answers for it being one.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// Writes a list of what `items` writes.
    pub fn list(&mut self, items: impl FnOnce(&mut Writer)) {
        self.out.push(b'l');
        items(self);
        self.out.push(b'e');
    }

    /// Writes a dictionary of what `entries` writes.
    pub fn dict(&mut self, entries: impl FnOnce(&mut DictWriter<'_>)) {
        self.out.push(b'd');
        let mut dict = DictWriter {
            writer: self,
            last_key: None,
        };
        entries(&mut dict);
        self.out.push(b'e');
    }
}

/// Writes the entries of a dictionary, whose keys must come in ascending order of their bytes.
///
/// # Panics
/// In debug builds, every method panics if its key is not greater than the one before.
#[derive(Debug)]
pub struct DictWriter<'w> {
    writer: &'w mut Writer,
    last_key: Option<std::ops::Range<usize>>,
}

impl DictWriter<'_> {
    fn key(&mut self, key: &[u8]) -> &mut Writer {
        if let Some(last) = self.last_key.take() {
            debug_assert!(
                &self.writer.out[last] < key,
                "key {} is out of order",
                key.escape_ascii()
            );
        }
        self.writer.bytes(key);
        let end = self.writer.out.len();
        self.last_key = Some(end - key.len()..end);
        self.writer
    }

    /// Writes an entry with an integer.
    pub fn int(&mut self, key: impl AsRef<[u8]>, value: i64) {
        self.key(key.as_ref()).int(value);
    }

    /// Writes an entry with a string.
    pub fn bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.key(key.as_ref()).bytes(value);
    }

    /// Writes an entry whose value is encoded already; the caller answers for it being one value.
    pub fn raw(&mut self, key: impl AsRef<[u8]>, value: &[u8]) {
        self.key(key.as_ref()).raw(value);
    }

    /// Writes an entry with a list of what `items` writes.
    pub fn list(&mut self, key: impl AsRef<[u8]>, items: impl FnOnce(&mut Writer)) {
        self.key(key.as_ref()).list(items);
    }

    /// Writes an entry with a dictionary of what `entries` writes.
    pub fn dict(&mut self, key: impl AsRef<[u8]>, entries: impl FnOnce(&mut DictWriter<'_>)) {
        self.key(key.as_ref()).dict(entries);
    }
}
