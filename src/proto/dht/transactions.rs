//! Questions that wait for their answers.
//!
//! An answer counts only if it carries the id of a question, comes from where that was sent and is written as that was: whoever
//! cannot see our datagrams has to guess four bytes that follow from a secret. The table of questions is bounded, and every question leaves it by its
//! answer or by its time.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Dialect, Transaction};
use super::round_trip::Patience;
use crate::base::NodeId;
use crate::base::limits::DHT_TRANSACTIONS_MAX;

/// A question that was sent and what it was sent for.
#[derive(Clone, Copy, Debug)]
pub struct Question<P> {
    /// Where to.
    pub to: SocketAddr,
    /// Who is expected to answer, if that is known.
    pub expect: Option<NodeId>,
    /// How it was written.
    pub dialect: Dialect,
    /// When.
    pub sent: Instant,
    /// What for.
    pub purpose: P,
}

impl<P> Question<P> {
    /// How long the answer took that comes at `now`.
    pub fn round_trip(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.sent)
    }
}

/// A question whose answer is late.
#[derive(Clone, Copy, Debug)]
pub enum Overdue<P> {
    /// By [`Patience::stall`].
    Stalled(Question<P>),
    /// By [`Patience::give_up`].
    GivenUp(Question<P>),
    /// By [`Patience::expire`]: it is forgotten now.
    Expired(Question<P>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Stalled,
    GivenUp,
}

#[derive(Debug)]
struct Pending<P> {
    question: Question<P>,
    patience: Patience,
    stage: Stage,
}

impl<P> Pending<P> {
    fn deadline(&self) -> Instant {
        let wait = match self.stage {
            Stage::Fresh => self.patience.stall,
            Stage::Stalled => self.patience.give_up,
            Stage::GivenUp => self.patience.expire,
        };
        self.question.sent + wait
    }
}

/// All questions that are out. `P` is what each was sent for.
#[derive(Debug)]
pub struct Transactions<P> {
    key: [u8; 32],
    drawn: u64,
    pending: HashMap<u32, Pending<P>>,
    deadlines: BTreeSet<(Instant, u32)>,
    /// How many are out to each address.
    asked: HashMap<SocketAddr, u32>,
}

impl<P: Copy> Transactions<P> {
    /// None yet. Ids follow from `seed` and cannot be guessed without it, however many of them were seen.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self {
            key: blake3::derive_key("seedbank dht transaction ids", seed),
            drawn: 0,
            pending: HashMap::new(),
            deadlines: BTreeSet::new(),
            asked: HashMap::new(),
        }
    }

    /// Notes a question and says by which id its answer is known; `None` if [`DHT_TRANSACTIONS_MAX`] are out already.
    pub fn insert(&mut self, question: Question<P>, patience: Patience) -> Option<Transaction> {
        if self.pending.len() >= DHT_TRANSACTIONS_MAX {
            return None;
        }
        let id = self.draw();
        *self.asked.entry(question.to).or_default() += 1;
        let pending = Pending {
            question,
            patience,
            stage: Stage::Fresh,
        };
        self.deadlines.insert((pending.deadline(), id));
        self.pending.insert(id, pending);
        Some(Transaction(id.to_be_bytes().to_vec()))
    }

    /// Takes out the question that an answer in `dialect` from `from` belongs to. What is no answer to it leaves it where it is,
    /// so that its time tells of it.
    pub fn take(
        &mut self,
        transaction: &Transaction,
        from: SocketAddr,
        dialect: Dialect,
    ) -> Option<Question<P>> {
        let id = u32::from_be_bytes(transaction.0.as_slice().try_into().ok()?);
        let question = &self.pending.get(&id)?.question;
        if question.to != from || question.dialect != dialect {
            return None;
        }
        self.remove(id)
    }

    /// A question whose answer has become late by `now`; each is told once a stage.
    pub fn poll_overdue(&mut self, now: Instant) -> Option<Overdue<P>> {
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        let stage = self.pending.get(&id)?.stage;
        if stage == Stage::GivenUp {
            return self.remove(id).map(Overdue::Expired);
        }
        let pending = self.pending.get_mut(&id)?;
        self.deadlines.remove(&(deadline, id));
        let question = pending.question;
        let overdue = if stage == Stage::Fresh {
            pending.stage = Stage::Stalled;
            Overdue::Stalled(question)
        } else {
            pending.stage = Stage::GivenUp;
            Overdue::GivenUp(question)
        };
        self.deadlines.insert((pending.deadline(), id));
        Some(overdue)
    }

    /// When the next answer becomes late.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Whether a question is out to this address.
    pub fn asking(&self, addr: SocketAddr) -> bool {
        self.asked.contains_key(&addr)
    }

    /// How many are out.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is out.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn remove(&mut self, id: u32) -> Option<Question<P>> {
        let pending = self.pending.remove(&id)?;
        self.deadlines.remove(&(pending.deadline(), id));
        let to = pending.question.to;
        if let Some(asked) = self.asked.get_mut(&to) {
            *asked -= 1;
            if *asked == 0 {
                self.asked.remove(&to);
            }
        }
        Some(pending.question)
    }

    /// An id that is not in use. Far fewer are in use than exist, so this ends.
    fn draw(&mut self) -> u32 {
        loop {
            let hash = blake3::keyed_hash(&self.key, &self.drawn.to_le_bytes());
            self.drawn += 1;
            let [a, b, c, d, ..] = *hash.as_bytes();
            let id = u32::from_be_bytes([a, b, c, d]);
            if !self.pending.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    const PATIENCE: Patience = Patience {
        stall: Duration::from_millis(100),
        give_up: Duration::from_millis(200),
        expire: Duration::from_millis(2_000),
    };

    fn addr(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    fn question(sent: Instant, port: u16) -> Question<u16> {
        Question {
            to: addr(port),
            expect: None,
            dialect: Dialect::Krpc,
            sent,
            purpose: port,
        }
    }

    #[test]
    fn an_answer_counts_once_and_from_the_address_that_was_asked_only() {
        let now = Instant::now();
        let mut transactions = Transactions::new(&[1; 32]);
        let id = transactions.insert(question(now, 7), PATIENCE).unwrap();
        let (dialect, wrong) = (Dialect::Krpc, Dialect::Json);
        assert!(transactions.take(&id, addr(8), dialect).is_none());
        assert!(transactions.take(&id, addr(7), wrong).is_none());
        for forged in [vec![0; 4], vec![]] {
            let forged = Transaction(forged);
            assert!(transactions.take(&forged, addr(7), dialect).is_none());
        }
        assert!(transactions.asking(addr(7)));
        let taken = transactions.take(&id, addr(7), dialect);
        assert_eq!(taken.unwrap().purpose, 7);
        assert!(transactions.take(&id, addr(7), dialect).is_none());
        assert!(!transactions.asking(addr(7)));
        assert_eq!(transactions.next_deadline(), None);
    }

    #[test]
    fn silence_is_told_of_once_a_stage_and_the_question_answered_until_the_last() {
        let now = Instant::now();
        let mut transactions = Transactions::new(&[2; 32]);
        let id = transactions.insert(question(now, 7), PATIENCE).unwrap();
        assert!(transactions.poll_overdue(now).is_none());
        let mut stages = Vec::new();
        for ms in (0..=2_000).step_by(50) {
            while let Some(overdue) = transactions.poll_overdue(now + Duration::from_millis(ms)) {
                stages.push((ms, matches!(overdue, Overdue::Expired(_))));
            }
            if ms < 2_000 {
                assert!(transactions.asking(addr(7)));
            }
        }
        assert_eq!(stages, [(100, false), (200, false), (2_000, true)]);
        assert!(transactions.take(&id, addr(7), Dialect::Krpc).is_none());
        assert!(transactions.is_empty());
    }

    #[test]
    fn no_more_questions_are_out_than_the_bound() {
        let now = Instant::now();
        let mut transactions = Transactions::new(&[3; 32]);
        let mut sent = 0;
        while transactions.insert(question(now, sent), PATIENCE).is_some() {
            sent += 1;
        }
        assert_eq!(usize::from(sent), DHT_TRANSACTIONS_MAX);
        assert_eq!(transactions.len(), DHT_TRANSACTIONS_MAX);
    }
}
