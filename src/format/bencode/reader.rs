//! One pass over the input that checks it and builds the index.

use super::{BencodeError, Value};
use crate::base::limits::{BENCODE_DEPTH_MAX, BENCODE_VALUES_MAX, METAINFO_MAX};

/// Where a value lies in the input. What it is, its first byte tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// Offset of the first byte.
    pub(super) start: u32,
    /// Offset after the last byte.
    pub(super) end: u32,
    /// Of a string: offset of its content. Of a list or dictionary: index of the token after its last one.
    pub(super) link: u32,
}

/// A bencoded value, checked and indexed; the bytes stay where they are.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    pub(super) input: &'a [u8],
    pub(super) tape: Vec<Token>,
    canonical: bool,
}

impl<'a> Document<'a> {
    /// Reads `input`, all of which must be one value.
    ///
    /// # Errors
    /// If it is not bencode, goes past a bound, or has bytes after the value.
    pub fn parse(input: &'a [u8]) -> Result<Self, BencodeError> {
        let (document, used) = Self::parse_prefix(input)?;
        if used < input.len() {
            return Err(BencodeError::TrailingBytes { at: used });
        }
        Ok(document)
    }

    /// Reads the value that `input` begins with and says how many bytes it takes; in a BEP 9 message the piece of
    /// metadata follows there.
    ///
    /// # Errors
    /// If it is not bencode or goes past a bound.
    pub fn parse_prefix(input: &'a [u8]) -> Result<(Self, usize), BencodeError> {
        if input.len() > METAINFO_MAX {
            return Err(BencodeError::TooLarge { len: input.len() });
        }
        let mut reader = Reader::new(input);
        reader.read()?;
        let document = Self {
            input,
            tape: reader.tape,
            canonical: reader.canonical,
        };
        Ok((document, reader.at))
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value::at(self, 0)
    }

    /// Whether the bytes are the only ones that encode this value: keys sorted and unique, no leading zeros, no minus zero.
    pub fn is_canonical(&self) -> bool {
        self.canonical
    }
}

/// A list or dictionary that is still open.
#[derive(Clone, Copy)]
struct Frame {
    token: u32,
    dict: bool,
    key_due: bool,
    /// Where the last key's content lies; nothing before the first.
    last_key: Option<(u32, u32)>,
}

const CLOSED: Frame = Frame {
    token: 0,
    dict: false,
    key_due: false,
    last_key: None,
};

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    tape: Vec<Token>,
    stack: [Frame; BENCODE_DEPTH_MAX],
    depth: usize,
    canonical: bool,
}

impl<'a> Reader<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            at: 0,
            // Small messages fit without growing; no value takes less than two bytes.
            tape: Vec::with_capacity((input.len() / 2 + 1).min(32)),
            stack: [CLOSED; BENCODE_DEPTH_MAX],
            depth: 0,
            canonical: true,
        }
    }

    fn read(&mut self) -> Result<(), BencodeError> {
        loop {
            let byte = self.peek()?;
            if byte == b'e' {
                self.close()?;
            } else if self.key_is_due() {
                self.key(byte)?;
                continue;
            } else {
                match byte {
                    b'l' | b'd' => {
                        self.open(byte == b'd')?;
                        continue;
                    }
                    b'i' => self.integer()?,
                    b'0'..=b'9' => self.string()?,
                    _ => return Err(BencodeError::InvalidByte { at: self.at }),
                }
            }
            match self.top() {
                None => return Ok(()),
                Some(frame) => frame.key_due = frame.dict,
            }
        }
    }

    fn top(&mut self) -> Option<&mut Frame> {
        self.stack[..self.depth].last_mut()
    }

    fn key_is_due(&mut self) -> bool {
        self.top().is_some_and(|frame| frame.key_due)
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        let at = self.at;
        self.input
            .get(at)
            .copied()
            .ok_or(BencodeError::Truncated { at })
    }

    fn push(&mut self, start: usize, link: usize) -> Result<(), BencodeError> {
        if self.tape.len() == BENCODE_VALUES_MAX {
            return Err(BencodeError::TooManyValues);
        }
        // Offsets fit 32 bits because the input is bounded by METAINFO_MAX.
        self.tape.push(Token {
            start: start as u32,
            end: self.at as u32,
            link: link as u32,
        });
        Ok(())
    }

    fn open(&mut self, dict: bool) -> Result<(), BencodeError> {
        if self.depth == BENCODE_DEPTH_MAX {
            return Err(BencodeError::TooDeep { at: self.at });
        }
        self.stack[self.depth] = Frame {
            token: self.tape.len() as u32,
            dict,
            key_due: dict,
            last_key: None,
        };
        self.depth += 1;
        let start = self.at;
        self.at += 1;
        self.push(start, 0)
    }

    fn close(&mut self) -> Result<(), BencodeError> {
        let at = self.at;
        let Some(&mut frame) = self.top() else {
            return Err(BencodeError::InvalidByte { at });
        };
        if frame.dict && !frame.key_due {
            return Err(BencodeError::MissingValue { at });
        }
        self.at += 1;
        let next = self.tape.len() as u32;
        let token = &mut self.tape[frame.token as usize];
        token.end = self.at as u32;
        token.link = next;
        self.depth -= 1;
        Ok(())
    }

    fn key(&mut self, first: u8) -> Result<(), BencodeError> {
        if !first.is_ascii_digit() {
            return Err(BencodeError::KeyNotString { at: self.at });
        }
        self.string()?;
        let Some(&token) = self.tape.last() else {
            return Ok(());
        };
        let input = self.input;
        let content = |from: u32, to: u32| &input[from as usize..to as usize];
        let mut ascending = true;
        if let Some(frame) = self.top() {
            ascending = frame
                .last_key
                .is_none_or(|(from, to)| content(from, to) < content(token.link, token.end));
            frame.last_key = Some((token.link, token.end));
            frame.key_due = false;
        }
        self.canonical &= ascending;
        Ok(())
    }

    fn integer(&mut self) -> Result<(), BencodeError> {
        let start = self.at;
        let malformed = BencodeError::InvalidInteger { at: start };
        self.at += 1;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let digits = self.at;
        let mut value = 0i64;
        loop {
            let byte = self.peek()?;
            if byte == b'e' {
                break;
            }
            if !byte.is_ascii_digit() {
                return Err(malformed);
            }
            let digit = i64::from(byte - b'0');
            value = value
                .checked_mul(10)
                .and_then(|ten| {
                    if negative {
                        ten.checked_sub(digit)
                    } else {
                        ten.checked_add(digit)
                    }
                })
                .ok_or(BencodeError::IntegerOverflow { at: start })?;
            self.at += 1;
        }
        let count = self.at - digits;
        if count == 0 {
            return Err(malformed);
        }
        if self.input[digits] == b'0' && (negative || count > 1) {
            // Old clients wrote `i-0e` and `i01e`; nobody reads `i-01e`.
            if negative && count > 1 {
                return Err(malformed);
            }
            self.canonical = false;
        }
        self.at += 1;
        self.push(start, 0)
    }

    fn string(&mut self) -> Result<(), BencodeError> {
        let start = self.at;
        let malformed = BencodeError::InvalidString { at: start };
        let mut len = 0usize;
        loop {
            match self.peek()? {
                byte @ b'0'..=b'9' => {
                    len = len
                        .checked_mul(10)
                        .and_then(|ten| ten.checked_add(usize::from(byte - b'0')))
                        .ok_or(malformed)?;
                }
                b':' => break,
                _ => return Err(malformed),
            }
            self.at += 1;
        }
        if self.input[start] == b'0' && self.at - start > 1 {
            self.canonical = false;
        }
        let content = self.at + 1;
        if len > self.input.len() - content {
            return Err(malformed);
        }
        self.at = content + len;
        self.push(start, content)
    }
}
