//! Datagrams that nobody sends who means well: noise, and messages with something changed.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use seedbank::base::Random;
use seedbank::base::limits::KRPC_MAX;
use seedbank::proto::dht::{Dialect, encode};

use crate::messages::{Size, message};

/// What the grammars of both dialects are made of.
const GRAMMAR: [&[u8]; 40] = [
    b"d",
    b"l",
    b"i",
    b"e",
    b":",
    b"0",
    b"1",
    b"2:",
    b"20:",
    b"4:",
    b"-",
    b"1:t",
    b"1:y",
    b"1:q",
    b"1:r",
    b"1:a",
    b"2:id",
    b"6:values",
    b"5:nodes",
    b"6:nodes6",
    b"7:samples",
    b"20:abcdefghij0123456789",
    b"9999999999999999999",
    b"i0e",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\"",
    b"\\u0000",
    b"\"type\":",
    b"\"peers\"",
    b"\"ping\"",
    b"\"t\":\"00\"",
    b"null",
    b"1e999",
    b"\"id\":\"000102030405060708090a0b0c0d0e0f10111213\"",
    b"\xff",
    b"\0",
];

/// An endless stream of bad datagrams in one dialect, of at most [`KRPC_MAX`] and a few bytes; some are messages still.
pub(crate) struct Mutants {
    dialect: Dialect,
    dice: Random,
    /// Sound ones, to be changed.
    sound: Vec<Vec<u8>>,
}

impl Mutants {
    pub(crate) fn new(dialect: Dialect, mut dice: Random) -> Self {
        let mut seed = [0; 32];
        seed[..20].copy_from_slice(&dice.id());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let sound = [Size::Modest, Size::Wild].into_iter().flat_map(|size| {
            let messages = message(size);
            let draw = |_| messages.new_tree(&mut runner).unwrap().current();
            (0..200).map(draw).collect::<Vec<_>>()
        });
        let sound = sound
            .map(|message| encode(dialect, &message))
            .filter(|datagram| !datagram.is_empty());
        Self {
            dialect,
            dice,
            sound: sound.collect(),
        }
    }

    /// The messages that are changed, as they were.
    pub(crate) fn sound(self) -> Vec<Vec<u8>> {
        self.sound
    }

    /// Bytes with the first of the dialect, so that they are looked at.
    fn noise(&mut self) -> Vec<u8> {
        let first = match self.dialect {
            Dialect::Krpc => b'd',
            Dialect::Json => b'{',
        };
        let mut datagram = vec![first];
        let len = 1 << self.dice.below(12);
        let grammatical = self.dice.below(2) == 0;
        while datagram.len() < len {
            if grammatical {
                datagram.extend_from_slice(GRAMMAR[self.dice.below(GRAMMAR.len())]);
            } else {
                datagram.push(self.dice.next() as u8);
            }
        }
        datagram
    }

    fn change(&mut self, datagram: &mut Vec<u8>) {
        let (from, to) = self.range(datagram.len());
        match self.dice.below(16) {
            0 => datagram.truncate(to),
            1 => drop(datagram.drain(from..to)),
            2 => {
                let again = datagram[from..to].to_vec();
                datagram.splice(to..to, again);
            }
            3 => {
                let token = GRAMMAR[self.dice.below(GRAMMAR.len())];
                datagram.splice(from..from, token.iter().copied());
            }
            4 => {
                let other = self.dice.below(self.sound.len());
                let (start, end) = self.range(self.sound[other].len());
                let part = self.sound[other][start..end].to_vec();
                datagram.splice(from..to, part);
            }
            5 => self.renumber(datagram, from),
            6 => datagram.rotate_left(from),
            _ => {
                if let Some(byte) = datagram.get_mut(from) {
                    *byte ^= 1 << self.dice.below(8);
                }
            }
        }
    }

    /// Gives the first number after `from` another value.
    fn renumber(&mut self, datagram: &mut Vec<u8>, from: usize) {
        let digit = |byte: &u8| byte.is_ascii_digit();
        let Some(start) = datagram[from..].iter().position(digit) else {
            return;
        };
        let start = from + start;
        let digits = datagram[start..].iter().take_while(|byte| digit(byte));
        let end = start + digits.count();
        let number = self.dice.next() >> self.dice.below(64);
        datagram.splice(start..end, number.to_string().into_bytes());
    }

    fn range(&mut self, len: usize) -> (usize, usize) {
        let (one, other) = (self.dice.below(len + 1), self.dice.below(len + 1));
        // As a rule few bytes, so that the rest can still be a message.
        let near = one.min(other) + self.dice.below(8);
        let end = if self.dice.below(4) == 0 {
            one.max(other)
        } else {
            near.min(len)
        };
        (one.min(other), end)
    }
}

impl Iterator for Mutants {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.dice.below(4) == 0 {
            return Some(self.noise());
        }
        let mut datagram = self.sound[self.dice.below(self.sound.len())].clone();
        for _ in 0..=self.dice.below(5).saturating_sub(2) {
            self.change(&mut datagram);
        }
        datagram.truncate(KRPC_MAX + 5);
        Some(datagram)
    }
}
