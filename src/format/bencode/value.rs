//! Walking a [`Document`].

use std::fmt;

use super::Document;

/// A place in a [`Document`]. Copying one costs nothing.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    document: &'a Document<'a>,
    index: usize,
}

impl<'a> Value<'a> {
    pub(super) fn at(document: &'a Document<'a>, index: usize) -> Self {
        Self { document, index }
    }

    fn first_byte(&self) -> u8 {
        self.document.input[self.document.tape[self.index].start as usize]
    }

    /// Index of the token after this value and all within it.
    fn next(&self) -> usize {
        if self.is_list() || self.is_dict() {
            self.document.tape[self.index].link as usize
        } else {
            self.index + 1
        }
    }

    /// The exact bytes that encode this value.
    pub fn raw(&self) -> &'a [u8] {
        let token = self.document.tape[self.index];
        &self.document.input[token.start as usize..token.end as usize]
    }

    /// Whether it is an integer.
    pub fn is_int(&self) -> bool {
        self.first_byte() == b'i'
    }

    /// Whether it is a string.
    pub fn is_bytes(&self) -> bool {
        self.first_byte().is_ascii_digit()
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.first_byte() == b'l'
    }

    /// Whether it is a dictionary.
    pub fn is_dict(&self) -> bool {
        self.first_byte() == b'd'
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        let digits = self.raw().strip_prefix(b"i")?.strip_suffix(b"e")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The content of the string, if it is one.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        let token = self.document.tape[self.index];
        self.is_bytes()
            .then(|| &self.document.input[token.link as usize..token.end as usize])
    }

    /// The content of the string, if it is one and UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<List<'a>> {
        self.is_list().then(|| self.list())
    }

    /// The items of a list; nothing for anything else.
    pub fn list(&self) -> List<'a> {
        List(self.walk(self.is_list()))
    }

    /// The entries of a dictionary in the order of the bytes, duplicates and all; nothing for anything else.
    pub fn dict(&self) -> Dict<'a> {
        Dict(self.walk(self.is_dict()))
    }

    /// The value of `key`, if it is a dictionary that has it; of duplicates the first, as libtorrent takes it.
    pub fn get(&self, key: &[u8]) -> Option<Value<'a>> {
        self.dict()
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    fn walk(&self, inside: bool) -> Walk<'a> {
        let end = if inside { self.next() } else { self.index + 1 };
        Walk {
            document: self.document,
            index: self.index + 1,
            end,
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let raw = self.raw();
        let shown = raw[..raw.len().min(SHOWN)].escape_ascii();
        write!(
            f,
            "Value({shown}{})",
            if raw.len() > SHOWN { "…" } else { "" }
        )
    }
}

#[derive(Clone, Debug)]
struct Walk<'a> {
    document: &'a Document<'a>,
    index: usize,
    end: usize,
}

impl<'a> Iterator for Walk<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.index >= self.end {
            return None;
        }
        let value = Value::at(self.document, self.index);
        self.index = value.next();
        Some(value)
    }
}

/// The items of a list, in order.
#[derive(Clone, Debug)]
pub struct List<'a>(Walk<'a>);

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.next()
    }
}

/// The keys and values of a dictionary, in the order of the bytes.
#[derive(Clone, Debug)]
pub struct Dict<'a>(Walk<'a>);

impl<'a> Iterator for Dict<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?.as_bytes()?;
        Some((key, self.0.next()?))
    }
}
